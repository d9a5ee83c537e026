/** Generation of an encoder-decoder LM from its cache, in turns with one that runs the whole decoder for each token. */
import { performance } from 'node:perf_hooks';
import { PtunedError } from '../../src/errors.ts';
import { createAnsweringPredictor } from '../../src/lm/answer.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import type { LmBatch, Predictor, PromptTable } from '../../src/lm/types.ts';
import { median, minimum } from './statistics.ts';

export interface GenerateCase {
  folder: string;
  rows: number;
  /** Tokens of each text. */
  length: number;
  /** Tokens generated for each row. */
  tokens: number;
  rounds: number;
  threads: number;
}

export interface GenerateResult extends GenerateCase {
  /** Milliseconds from the text to the logits behind the last token. */
  cached: { minimum: number; median: number };
  whole: { minimum: number; median: number };
  /** whole / cached, of each round. */
  ratio: { minimum: number; median: number };
}

/** @throws PtunedError invalid_request where the LM has no such cache */
export async function measureGeneration(one: GenerateCase): Promise<GenerateResult> {
  const lm = inspectDirectory(one.folder);
  if (lm.encoded === null || lm.steps === null) {
    throw new PtunedError('invalid_request', `${one.folder} holds no encoder-decoder LM exported with its cache.`);
  }
  const options = { threads: one.threads, device: 'cpu', directory: lm.graphDirectory } as const;
  const cached = await createAnsweringPredictor(lm, lm.encoded, options);
  const whole = await createAnsweringPredictor({ ...lm, steps: null }, lm.encoded, options);
  const { width } = lm.embedding;
  const table: PromptTable = { rows: 1, width, values: new Float32Array(width) };
  const batch = batchOf(one, lm.vocabularySize);
  const times: { cached: number; whole: number }[] = [];
  for (let round = -1; round < one.rounds; round++) {
    const time = {
      cached: await generate(cached, batch, table, one.tokens),
      whole: await generate(whole, batch, table, one.tokens),
    };
    // The first round warms up.
    if (round >= 0) times.push(time);
  }
  await cached.close();
  await whole.close();
  const of = (values: number[]) => ({ minimum: minimum(values), median: median(values) });
  return {
    ...one,
    cached: of(times.map((time) => time.cached)),
    whole: of(times.map((time) => time.whole)),
    ratio: of(times.map((time) => time.whole / time.cached)),
  };
}

async function generate(predictor: Predictor, batch: LmBatch, table: PromptTable, tokens: number): Promise<number> {
  const started = performance.now();
  const decoding = await predictor.decode(batch, table);
  for (let token = 1; token < tokens; token++) await decoding.advance(decoding.rows.map((row) => 5 + row + token));
  return performance.now() - started;
}

/** Rows of different lengths, the last half as long as the first; each answer begins with one token. */
function batchOf({ rows, length }: GenerateCase, vocabulary: number): LmBatch {
  const size = rows * length;
  const isToken = (place: number) =>
    place % length < length - Math.floor((Math.floor(place / length) * length) / (2 * rows));
  return {
    rows,
    length,
    ids: BigInt64Array.from({ length: size }, (_, place) =>
      isToken(place) ? BigInt(5 + ((place * 31) % (vocabulary - 5))) : 0n,
    ),
    mask: BigInt64Array.from({ length: size }, (_, place) => (isToken(place) ? 1n : 0n)),
    slots: new BigInt64Array(size).fill(-1n),
    targets: new BigInt64Array(rows),
    decoder: { length: 1, ids: new BigInt64Array(rows) },
  };
}
