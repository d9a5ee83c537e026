/**
 * A small deterministic stand-in for a frozen LM: logits are a fixed function of every attended token or prompt row
 * and its distance, so a wrong slot, mask, target or order shows. It notes its runs.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ServingLm } from '../../src/inference/threaded-lm.ts';
import type { LmBatch, Predictor, PromptTable } from '../../src/lm/types.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import type { LmKind } from '../../src/models/schema.ts';

export interface FakeLmOptions {
  kind: LmKind;
  vocabulary: number;
  width: number;
  /** Milliseconds a run takes. */
  runMs?: number;
  /** Called before each run; what it throws fails the run. */
  beforeRun?: (batch: LmBatch) => void;
}

export interface FakeLm extends ServingLm {
  /** Rows and length of each run, in order. */
  runs: { kind: 'logits' | 'decode'; rows: number; length: number }[];
  closed: boolean;
}

const noise = (seed: number) => Math.sin(seed * 12.9898 + 78.233) * 43758.5453;
const number = (seed: number) => noise(seed) - Math.floor(noise(seed)) - 0.5;

/** Embedding of a token [width]. */
export function fakeEmbedding(id: number, width: number): Float32Array {
  return Float32Array.from({ length: width }, (_, k) => number(id * width + k + 1));
}

/** Logits [vocabulary] at a position of one row of vectors. */
function readOut(
  vectors: Float32Array[],
  at: number,
  { kind, vocabulary, width }: FakeLmOptions,
  head: Float32Array,
): Float32Array {
  const state = new Float64Array(width);
  vectors.forEach((vector, u) => {
    if (kind === 'causal' && u > at) return;
    for (let k = 0; k < width; k++) state[k]! += vector[k]! / (1 + ((u * 7 + k * 3 + Math.abs(at - u)) % 11));
  });
  const squashed = state.map(Math.tanh);
  return Float32Array.from({ length: vocabulary }, (_, v) => {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += squashed[k]! * head[v * width + k]!;
    return 8 * sum;
  });
}

function vectorsOf(batch: LmBatch, table: PromptTable, row: number, options: FakeLmOptions): Float32Array[] {
  const vectors: Float32Array[] = [];
  for (let t = row * batch.length; t < (row + 1) * batch.length; t++) {
    if (batch.mask[t] === 0n) continue;
    const slot = Number(batch.slots[t]);
    if (slot >= table.rows) throw new Error(`slot ${slot} of a table of ${table.rows}`);
    if (slot >= 0) vectors.push(table.values.subarray(slot * table.width, (slot + 1) * table.width));
    else vectors.push(fakeEmbedding(Number(batch.ids[t]), options.width));
  }
  return vectors;
}

export function createFakeLm(options: FakeLmOptions): FakeLm {
  const { vocabulary, runMs = 0, beforeRun = () => undefined } = options;
  const runs: FakeLm['runs'] = [];
  const head = Float32Array.from({ length: vocabulary * options.width }, (_, i) => number(-(i + 1)));

  function joined(rows: Float32Array[]): Float32Array {
    const all = new Float32Array(rows.length * vocabulary);
    rows.forEach((row, i) => void all.set(row, i * vocabulary));
    return all;
  }

  const predictor: Predictor = {
    async logits(batch, table) {
      beforeRun(batch);
      runs.push({ kind: 'logits', rows: batch.rows, length: batch.length });
      if (runMs > 0) await sleep(runMs);
      const each = Array.from({ length: batch.rows }, (_, row) =>
        readOut(vectorsOf(batch, table, row, options), Number(batch.targets[row]), options, head),
      );
      return joined(each);
    },
    async decode(batch, table) {
      beforeRun(batch);
      let rows = Array.from({ length: batch.rows }, (_, row) => row);
      const vectors = rows.map((row) => vectorsOf(batch, table, row, options));
      const compute = async () => {
        runs.push({
          kind: 'decode',
          rows: rows.length,
          length: Math.max(0, ...rows.map((row) => vectors[row]!.length)),
        });
        if (runMs > 0) await sleep(runMs);
        return joined(rows.map((row) => readOut(vectors[row]!, vectors[row]!.length - 1, options, head)));
      };
      let logits = await compute();
      return {
        get rows() {
          return rows;
        },
        get logits() {
          return logits;
        },
        async advance(tokens) {
          if (tokens.length !== rows.length) throw new Error(`${tokens.length} tokens for ${rows.length} rows`);
          tokens.forEach((token, i) => void vectors[rows[i]!]!.push(fakeEmbedding(token, options.width)));
          logits = await compute();
        },
        keep(kept) {
          rows = [...kept];
        },
      };
    },
    close: async () => undefined,
  };
  const lm: FakeLm = {
    runs,
    closed: false,
    predictor: async () => predictor,
    close: async () => {
      lm.closed = true;
    },
  };
  return lm;
}

/** A manifest of an LM that is in no folder; any part may be given. */
export function fakeManifest(parts: Partial<ModelManifest> = {}): ModelManifest {
  return {
    version: 1,
    id: 'fake',
    kind: 'causal',
    architecture: 'Fake',
    directory: '/nowhere',
    graph: 'model.onnx',
    opset: 18,
    files: [],
    hash: 'a'.repeat(64),
    tokenizer: { path: 'tokenizer.json', bytes: 0, sha256: 'b'.repeat(64) },
    inputs: [],
    logits: 'logits',
    embedding: { node: 'Gather', output: 'x', weight: 'wte', width: 8, dtype: 'float32' },
    vocabularySize: 40,
    maxLength: 32,
    specialTokens: { pad: null, mask: null, bos: null, eos: 0, unk: null, cls: null, sep: null },
    parameters: 0,
    weightBytes: 1000,
    gradientPath: {},
    createdAt: '2025-01-01T00:00:00.000Z',
    ...parts,
  };
}
