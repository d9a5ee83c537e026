/** The real parts of a run. */
import { openLm } from '../lm/open.ts';
import { openEncoder } from '../prompts/open.ts';
import { loadTuningData } from './data.ts';
import type { TuningDependencies } from './types.ts';

export const realDependencies: TuningDependencies = {
  openLm,
  openEncoder,
  loadData: loadTuningData,
  now: () => performance.now(),
};
