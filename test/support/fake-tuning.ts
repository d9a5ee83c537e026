/**
 * A language model, a prompt encoder and data for tests of training: small, exact, and quick, so that a run can be
 * killed many times. The "LM" gates the mean of a row's word embeddings by the mean of its prompt rows and takes the
 * softmax of a linear read-out; all gradients are written out by hand.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Disk } from '../../src/artifacts/disk.ts';
import type { JobSpec, Metrics } from '../../src/jobs/contract.ts';
import type { ResolvedHyperparameters } from '../../src/jobs/hyperparameters.ts';
import type { Lm, LmBatch, PromptTable } from '../../src/lm/types.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import type { EncoderShape, Parameters, PromptEncoder } from '../../src/prompts/types.ts';
import type { Candidates, RenderedRow } from '../../src/tasks/types.ts';
import type { TuningData } from '../../src/tuning/data.ts';
import type { TuningDependencies, TuningHooks, TuningJob } from '../../src/tuning/types.ts';

export const width = 6;
export const virtualTokens = 3;
const vocabulary = 40;
const classes = 5;

/** Repeatable numbers in [-1, 1) from two indices. */
export function noise(a: number, b: number): number {
  let h = Math.imul(a + 1, 0x9e3779b1) ^ Math.imul(b + 7, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  return ((h ^ (h >>> 15)) >>> 0) / 2 ** 31 - 1;
}

const embedding = (id: number, h: number): number => noise(id, h);
const readOut = (candidate: number, h: number): number => 3 * noise(1000 + candidate, h);
/** The gate the labels come from, which the prompt has to find. */
const hiddenGate = (h: number): number => 2 * noise(2000, h);

function gatedMeans(batch: LmBatch, table: PromptTable) {
  return Array.from({ length: batch.rows }, (_, row) => {
    const words = new Float64Array(width);
    const gate = new Float64Array(width);
    const slots: number[] = [];
    let count = 0;
    for (let at = row * batch.length; at < (row + 1) * batch.length; at++) {
      if (batch.mask[at] === 0n) continue;
      const slot = Number(batch.slots[at]);
      if (slot >= 0) slots.push(slot);
      else count++;
      for (let h = 0; h < width; h++) {
        if (slot >= 0) gate[h]! += table.values[slot * width + h]!;
        else words[h]! += embedding(Number(batch.ids[at]), h);
      }
    }
    for (let h = 0; h < width; h++) {
      words[h]! /= Math.max(1, count);
      gate[h]! /= Math.max(1, slots.length);
    }
    return { words, gate, slots };
  });
}

function probabilities(words: Float64Array, gate: Float64Array): Float64Array {
  const logits = Float64Array.from({ length: classes }, (_, c) => {
    let sum = 0;
    for (let h = 0; h < width; h++) sum += readOut(c, h) * words[h]! * (1 + gate[h]!);
    return sum;
  });
  const most = Math.max(...logits);
  const exponentials = logits.map((value) => Math.exp(value - most));
  const total = exponentials.reduce((sum, value) => sum + value, 0);
  return exponentials.map((value) => value / total);
}

export interface FakeOptions {
  /** Called before every forward of the LM, with a running count; may throw or wait. */
  onBatch?: (count: number) => void | Promise<void>;
  /** Loss reported from this training step on. */
  lossAt?: (step: number) => number | null;
}

export function fakeLm({ onBatch, lossAt }: FakeOptions = {}): Lm {
  let batches = 0;
  let steps = 0;
  return {
    manifest: fakeManifest,
    embeddings: async (ids) => Float32Array.from(ids.flatMap((id) => row(width, (h) => embedding(id, h)))),
    products: async (vector) =>
      Float32Array.from({ length: vocabulary }, (_, id) =>
        row(width, (h) => embedding(id, h) * vector[h]!).reduce((a, b) => a + b),
      ),
    keysAndValues: () => Promise.reject(new Error('this LM has no cache')),
    meanEmbedding: async () => new Float32Array(width).fill(0.125),
    async trainer(_candidates: Candidates) {
      return {
        async step(batch, labels, table, weights) {
          await onBatch?.(batches++);
          const gradient = new Float64Array(table.values.length);
          const losses = new Float32Array(batch.rows);
          let loss = 0;
          for (const [index, { words, gate, slots }] of gatedMeans(batch, table).entries()) {
            const p = probabilities(words, gate);
            const right = Number(labels[index]);
            const weight = weights?.[index] ?? 1 / batch.rows;
            losses[index] = -Math.log(p[right]!);
            loss -= Math.log(p[right]!) / batch.rows;
            for (let h = 0; h < width; h++) {
              let slope = 0;
              for (let c = 0; c < classes; c++) slope += (p[c]! - (c === right ? 1 : 0)) * readOut(c, h) * words[h]!;
              for (const slot of slots) gradient[slot * width + h]! += (slope / slots.length) * weight;
            }
          }
          const told = lossAt?.(steps++);
          if (told != null) losses.fill(told);
          return { loss: told ?? loss, losses, gradient: Float32Array.from(gradient) };
        },
        close: async () => {},
      };
    },
    async scorer(_candidates: Candidates) {
      return {
        async score(batch, labels, table) {
          await onBatch?.(batches++);
          const loss = new Float32Array(batch.rows);
          const rank = new Int32Array(batch.rows);
          const best = new Int32Array(batch.rows);
          for (const [index, { words, gate }] of gatedMeans(batch, table).entries()) {
            const p = probabilities(words, gate);
            const right = Number(labels[index]);
            loss[index] = -Math.log(p[right]!);
            best[index] = p.indexOf(Math.max(...p));
            rank[index] = p.filter((value, c) => c !== right && value >= p[right]!).length;
          }
          return { loss, rank, best };
        },
        close: async () => {},
      };
    },
    predictor: () => Promise.reject(new Error('not part of this test')),
    close: async () => {},
  };
}

const row = (count: number, value: (index: number) => number): number[] =>
  Array.from({ length: count }, (_, i) => value(i));

/** table = base + E Wᵀ: `embedding.weight` [n, H], `mlp.weight` [H, H]. */
export async function fakeEncoder(shape: EncoderShape): Promise<PromptEncoder> {
  const { virtualTokens: n, width: H, base } = shape;
  const weights = (parameters: Parameters) => ({
    e: parameters.get('embedding.weight')!.values,
    w: parameters.get('mlp.weight')!.values,
  });
  return {
    shape,
    initialise: (seed) =>
      new Map([
        ['mlp.weight', { shape: [H, H], values: Float32Array.from(row(H * H, (i) => 0.3 * noise(seed + 5, i))) }],
        ['embedding.weight', { shape: [n, H], values: Float32Array.from(row(n * H, (i) => 0.3 * noise(seed, i))) }],
      ]),
    async forward(parameters) {
      const { e, w } = weights(parameters);
      const table = new Float32Array(n * H);
      for (let i = 0; i < n; i++) {
        for (let h = 0; h < H; h++) {
          let sum = base?.[i * H + h] ?? 0;
          for (let k = 0; k < H; k++) sum += e[i * H + k]! * w[h * H + k]!;
          table[i * H + h] = sum;
        }
      }
      return table;
    },
    async gradient(parameters, tableGradient) {
      const { e, w } = weights(parameters);
      const de = new Float32Array(e.length);
      const dw = new Float32Array(w.length);
      for (let i = 0; i < n; i++) {
        for (let h = 0; h < H; h++) {
          for (let k = 0; k < H; k++) {
            de[i * H + k]! += tableGradient[i * H + h]! * w[h * H + k]!;
            dw[h * H + k]! += tableGradient[i * H + h]! * e[i * H + k]!;
          }
        }
      }
      return new Map([
        ['embedding.weight', de],
        ['mlp.weight', dw],
      ]);
    },
    close: async () => {},
  };
}

/** Rows of two to five words around the pseudo tokens; the label is what the hidden gate makes most likely. */
export function fakeRows(count: number, from: number, withPrompt = true): RenderedRow[] {
  return row(count, (i) => i + from).map((index) => {
    const words = row(2 + (index % 4), (k) => Math.floor(((noise(index, k) + 1) / 2) * vocabulary));
    const ids = withPrompt ? [0, ...words, 0, 0] : words;
    const slots = withPrompt ? [0, ...words.map(() => -1), 1, 2] : words.map(() => -1);
    const mean = Float64Array.from({ length: width }, (_, h) =>
      words.reduce((sum, id) => sum + embedding(id, h) / words.length, 0),
    );
    const p = probabilities(
      mean,
      Float64Array.from({ length: width }, (_, h) => hiddenGate(h)),
    );
    return { ids, slots, target: ids.length - 1, label: p.indexOf(Math.max(...p)), cut: 0 };
  });
}

export function fakeData(overrides: Partial<TuningData> = {}): TuningData {
  return {
    train: fakeRows(45, 0),
    dev: fakeRows(30, 100),
    test: fakeRows(30, 200),
    manual: { dev: fakeRows(30, 100, false), test: fakeRows(30, 200, false) },
    candidates: {
      count: classes,
      width: 1,
      ids: Int32Array.from(row(classes, (c) => c)),
      weights: new Float32Array(classes).fill(1),
      names: row(classes, (c) => c).map((c) => `word${c}`),
    },
    measure: ({ rank }): Metrics => ({ p_at_1: rank.filter((value) => value === 0).length / rank.length }),
    rows: {
      train: { used: 45, shortened: 0, dropped: 0 },
      dev: { used: 30, shortened: 0, dropped: 0 },
      test: { used: 30, shortened: 0, dropped: 0 },
    },
    virtualTokens,
    initial: null,
    pad: 0,
    vocabulary: {
      ordinary: () => Int32Array.from({ length: vocabulary - 2 }, (_, i) => i + 2),
      mask: null,
      texts: (ids) => ids.map((id) => `word${id}`),
    },
    hashes: { train: 'a'.repeat(64), validation: null, test: null },
    ...overrides,
  };
}

export const fakeManifest: ModelManifest = {
  version: 1,
  id: 'fake-lm',
  kind: 'causal',
  architecture: 'FakeForCausalLM',
  directory: '/nowhere',
  graph: 'model.onnx',
  opset: 18,
  files: [],
  hash: 'b'.repeat(64),
  tokenizer: { path: 'tokenizer.json', bytes: 1, sha256: 'c'.repeat(64) },
  inputs: [],
  logits: 'logits',
  embedding: { node: 'gather', output: 'embedded', weight: 'wte', width, dtype: 'float32' },
  vocabularySize: vocabulary,
  maxLength: 32,
  specialTokens: { pad: 0, mask: null, bos: null, eos: null, unk: null, cls: null, sep: null },
  parameters: 1,
  weightBytes: 4,
  gradientPath: {},
  createdAt: '2026-01-01T00:00:00.000Z',
};

export const fakeHyperparameters: ResolvedHyperparameters = {
  preset: 'auto',
  learning_rate: 0.02,
  n_epochs: 10,
  batch_size: 8,
  max_steps: null,
  optimizer: 'adam',
  weight_decay: 5e-4,
  schedule: 'exponential',
  gamma: 0.98,
  warmup_ratio: 0,
  gradient_clip: null,
  evaluate_every: 'epoch',
  patience: 20,
  drop_last: false,
  group_by_length: false,
};

export function fakeJob(
  directory: string,
  hyperparameters: Partial<ResolvedHyperparameters> = {},
  job: Partial<TuningJob> = {},
): TuningJob {
  const spec: JobSpec = {
    id: 'ftjob-1',
    owner: 'local',
    createdAt: 1_700_000_000,
    model: fakeManifest.id,
    modelHash: fakeManifest.hash,
    trainingFile: 'file-train',
    validationFile: null,
    testFile: null,
    suffix: null,
    seed: 34,
    metadata: {},
    method: {
      type: 'p_tuning',
      template: [{ virtual: virtualTokens }, { field: 'x' }, { target: 'y' }],
      encoder: { type: 'mlp', layers: 2 },
      task: { type: 'cloze', metric: 'p_at_1' },
      hyperparameters: { ...fakeHyperparameters, ...hyperparameters },
    },
    fineTunedModel: 'ft:fake-lm:local::1',
  };
  return {
    spec,
    attempt: 1,
    model: fakeManifest,
    files: { train: '/nowhere/train', dev: null, test: null, allowedWords: null },
    directory: `${directory}/jobs/ftjob-1`,
    artifacts: `${directory}/artifacts`,
    threads: 1,
    device: 'cpu',
    contextBytes: 0,
    checkpointSeconds: 1000,
    ...job,
  };
}

export function fakeDependencies(
  options: FakeOptions & { data?: Partial<TuningData>; disk?: Disk; now?: () => number } = {},
): TuningDependencies {
  return {
    openLm: async () => fakeLm(options),
    openEncoder: fakeEncoder,
    loadData: async () => fakeData(options.data),
    now: options.now ?? (() => performance.now()),
    ...(options.disk === undefined ? {} : { disk: options.disk }),
  };
}

/** Hooks that write down what they are told. */
export function recordingHooks(overrides: Partial<TuningHooks> = {}) {
  const progress: First<TuningHooks['progress']>[] = [];
  const events: First<TuningHooks['event']>[] = [];
  const checkpoints: First<TuningHooks['checkpoint']>[] = [];
  const removed: string[] = [];
  const hooks: TuningHooks = {
    progress: (report) => progress.push(report),
    event: (event) => events.push(event),
    checkpoint: (checkpoint) => checkpoints.push(checkpoint),
    checkpointRemoved: (model) => removed.push(model),
    heartbeat: () => {},
    stopRequested: () => null,
    ...overrides,
  };
  return { hooks, progress, events, checkpoints, removed };
}
type First<F> = F extends (argument: infer A) => unknown ? A : never;

/** A new folder that is gone when the test ends. */
export async function temporaryDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ptuned-tuning-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}
