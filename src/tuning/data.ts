/** The job's files, rendered through its template into rows the LM reads. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { ArtifactManifest } from '../artifacts/format.ts';
import { splitDev } from '../data/batches.ts';
import { pickRows, type Rows } from '../data/compact.ts';
import { loadDataset, planDataset } from '../data/dataset.ts';
import { readWords } from '../data/jsonl.ts';
import { PtunedError } from '../errors.ts';
import type { JobResult, Metrics } from '../jobs/contract.ts';
import { planOf } from '../jobs/methods/registry.ts';
import type { Scores } from '../tasks/metrics.ts';
import { measure } from '../tasks/registry.ts';
import { initialTokens, virtualTokens, withPrefix } from '../tasks/template.ts';
import type { Candidates } from '../tasks/types.ts';
import { loadTokenizer } from '../tokenizer/load.ts';
import { ordinaryTokens } from '../tokenizer/ordinary.ts';
import type { TuningJob } from './types.ts';

export interface TuningData {
  train: Rows;
  dev: Rows;
  test: Rows | null;
  /** Dev and test rows as the manual prompt words them; null where the template names no words. */
  manual: { dev: Rows; test: Rows | null } | null;
  candidates: Candidates;
  /** Metrics of the task from the scores of all rows. */
  measure(scores: Scores): Metrics;
  rows: JobResult['rows'];
  /** Pseudo tokens n. */
  virtualTokens: number;
  /** Token each pseudo token starts from [n], null: none; null as a whole where none starts from words. */
  initial: (number | null)[] | null;
  /** Padding token. */
  pad: number;
  vocabulary: {
    /** Ids of tokens that are words or parts of words, ascending; targets of the training rows are none of them. */
    ordinary(): Int32Array;
    /** The LM's mask token, null where it has none. */
    mask: number | null;
    texts(ids: readonly number[]): string[];
  };
  /** sha256 of the files as uploaded. */
  hashes: ArtifactManifest['data'];
}

interface Split {
  rows: Rows;
  /** The same rows in the words of the manual prompt. */
  manual: Rows | null;
  dropped: number;
}

/** Reads, renders and, where no dev file is given, splits off dev. @throws PtunedError naming line and field */
export async function loadTuningData({ spec, model, files }: TuningJob): Promise<TuningData> {
  const { template, task } = spec.method;
  const { prefix } = planOf(spec.method);
  const whole = withPrefix(template, prefix);
  const tokenizer = await loadTokenizer(model.directory);
  const allowedWords = files.allowedWords === null ? null : await readWords(files.allowedWords);
  const plan = planDataset({ model, tokenizer, template, prefix, task, allowedWords });
  const all: Split = await loadDataset(files.train, plan, files.dev === null);
  const { train, dev } =
    files.dev === null ? splitOff(all, spec.seed) : { train: all, dev: await loadDataset(files.dev, plan) };
  const test: Split | null = files.test === null ? null : await loadDataset(files.test, plan);
  const { candidates } = plan.task;
  // A prompt that names what is asked for would raise the commonest answers, whatever is asked (AutoPrompt, §4.1).
  const targets = new Set<number>();
  for (const { label } of train.rows) for (const id of tokensOf(candidates, label)) targets.add(id);
  return {
    train: train.rows,
    dev: dev.rows,
    test: test?.rows ?? null,
    manual: dev.manual === null ? null : { dev: dev.manual, test: test?.manual ?? null },
    candidates,
    measure: (scores) => measure(task, scores),
    rows: { train: countRows(train), dev: countRows(dev), test: countRows(test) },
    virtualTokens: virtualTokens(whole),
    initial: initialTokens(template, tokenizer, prefix),
    pad: tokenizer.special.pad ?? 0,
    vocabulary: {
      ordinary: () => ordinaryTokens(tokenizer, model.vocabularySize).filter((id) => !targets.has(id)),
      mask: tokenizer.special.mask,
      texts: (ids) => ids.map((id) => tokenizer.decode([id]).trim() || tokenizer.token(id)),
    },
    hashes: {
      train: await hashFile(files.train),
      validation: files.dev === null ? null : await hashFile(files.dev),
      test: files.test === null ? null : await hashFile(files.test),
    },
  };
}

/** Tokens of a candidate. */
function tokensOf({ ids, width }: Candidates, index: number): number[] {
  return Array.from(ids.subarray(index * width, (index + 1) * width));
}

function countRows(split: Split | null): JobResult['rows']['train'] {
  if (split === null) return { used: 0, shortened: 0, dropped: 0 };
  const { rows, dropped } = split;
  let shortened = 0;
  for (const { cut } of rows) if (cut > 0) shortened++;
  return { used: rows.length, shortened, dropped };
}

/** Dropped rows stay counted with training. */
function splitOff({ rows, manual, dropped }: Split, seed: number): { train: Split; dev: Split } {
  const { train, dev } = splitDev(rows.length, seed);
  if (train.length === 0) {
    throw new PtunedError(
      'invalid_data',
      'The training file has one usable row; without a validation file at least 2 are needed, one of them to score.',
      { param: 'training_file' },
    );
  }
  const pick = (indices: Uint32Array, lost: number): Split => ({
    rows: pickRows(rows, indices),
    manual: manual && pickRows(manual, indices),
    dropped: lost,
  });
  return { train: pick(train, dropped), dev: pick(dev, 0) };
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
