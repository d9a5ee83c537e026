/** A data file of so many rows, read and rendered as a tuning job does it. */
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { loadDataset, planDataset } from '../../src/data/dataset.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { loadTokenizer } from '../../src/tokenizer/load.ts';
import { answerOnce } from './child.ts';

export interface DatasetTimes {
  /** Processor time in milliseconds. */
  cpuMs: number;
}

answerOnce<{ manifest: ModelManifest; rows: number }, DatasetTimes>(async ({ manifest, rows }) => {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-rows-'));
  const path = join(directory, 'train.jsonl');
  await pipeline(Readable.from(lines(rows)), createWriteStream(path));
  const tokenizer = await loadTokenizer(manifest.directory);
  const template = [{ virtual: 3 }, { field: 'text' }, { virtual: 3 }, { target: 'word' }];
  const plan = planDataset({ model: manifest, tokenizer, template, task: { type: 'cloze' } });
  const before = process.cpuUsage();
  await loadDataset(path, plan);
  const { user, system } = process.cpuUsage(before);
  await rm(directory, { recursive: true });
  return { cpuMs: (user + system) / 1000 };
});

const countries = ['France', 'Norway', 'Italy', 'Finland', 'Sweden', 'Spain', 'Finland and Sweden'];
/** Single tokens of the demo's LMs. */
const capitals = ['Paris', 'Oslo', 'Rome', 'Helsinki'];

function line(i: number): string {
  const row = { text: countries[i % countries.length], word: capitals[i % capitals.length] };
  return `${JSON.stringify(row)}\n`;
}

/** One JSON object a line, a thousand lines at a time. */
function* lines(rows: number): Generator<string> {
  for (let start = 0; start < rows; start += 1000) {
    let text = '';
    for (let i = start; i < Math.min(rows, start + 1000); i++) text += line(i);
    yield text;
  }
}
