/** The tuning process: takes jobs from the queue and trains each in a child. */
import { sibling } from './sibling.ts';
import { runTuningProcess } from './tuning/main.ts';

await runTuningProcess({ childScript: sibling(import.meta.url, './tuning-child') });
