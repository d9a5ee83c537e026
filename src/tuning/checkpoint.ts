/** A training state as bytes and back: tensors in safetensors, the rest in JSON. */

import { type Disk, storing } from '../artifacts/disk.ts';
import { decodeSafetensors, encodeSafetensors, type StoredTensor } from '../artifacts/safetensors.ts';
import type { Metrics } from '../jobs/contract.ts';
import type { Parameters } from '../prompts/types.ts';
import { checkNewest, claim, readCheckpoint, type StoredCheckpoint, writeCheckpoint } from './checkpoint-files.ts';
import type { OptimizerState } from './optimizers/registry.ts';
import type { TrainingState } from './state.ts';

/** JSON part: the state without its tensors. */
interface CheckpointRecord {
  version: 1;
  /** What the run was started with; a checkpoint of another run is never continued. */
  fingerprint: string;
  optimizerStep: number;
  best: { step: number; metrics: Metrics } | null;
  scalars: Omit<TrainingState, 'parameters' | 'optimizer' | 'best'>;
}

export interface CheckpointStore {
  /** Makes this attempt the newest one. Throws conflict when a newer one has begun. */
  claim(): Promise<void>;
  /** Throws conflict when a newer attempt has begun, so that this one publishes nothing more. */
  checkNewest(): Promise<void>;
  save(state: TrainingState): Promise<void>;
  /** The newest good checkpoint of this run, or null; `damaged` names those that were thrown away. */
  load(): Promise<{ state: TrainingState | null; damaged: string[] }>;
}

export function createCheckpointStore(options: {
  directory: string;
  attempt: number;
  fingerprint: string;
  disk?: Disk | undefined;
}): CheckpointStore {
  const { directory, attempt, fingerprint, disk } = options;
  return {
    claim: () => storing(() => claim(directory, attempt, disk)),
    checkNewest: () => storing(async () => void (await checkNewest(directory, attempt, disk))),
    save: (state) => writeCheckpoint(directory, attempt, encodeState(state, fingerprint), disk),
    async load() {
      const { checkpoint, damaged } = await storing(() => readCheckpoint(directory, disk));
      const state = checkpoint === null ? null : decodeState(checkpoint, fingerprint);
      return { state, damaged: checkpoint !== null && state === null ? [...damaged, 'of another run'] : damaged };
    },
  };
}

export function encodeState(state: TrainingState, fingerprint: string): StoredCheckpoint {
  const { parameters, optimizer, best, ...scalars } = state;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { shape, values }] of parameters) {
    tensors.set(`parameters/${name}`, { dtype: 'F32', shape, data: values });
    tensors.set(`m/${name}`, { dtype: 'F32', shape, data: optimizer.m.get(name)! });
    tensors.set(`v/${name}`, { dtype: 'F32', shape, data: optimizer.v.get(name)! });
  }
  if (best !== null) {
    tensors.set('best', { dtype: 'F32', shape: [best.table.length], data: best.table });
    for (const [name, { shape, values }] of best.parameters) {
      tensors.set(`best/${name}`, { dtype: 'F32', shape, data: values });
    }
  }
  const record: CheckpointRecord = {
    version: 1,
    fingerprint,
    optimizerStep: optimizer.step,
    best: best === null ? null : { step: best.step, metrics: best.metrics },
    scalars,
  };
  return { tensors: encodeSafetensors(tensors), record };
}

/** Inverse of {@link encodeState}; null when the checkpoint is of another run or another version of this format. */
export function decodeState(checkpoint: StoredCheckpoint, fingerprint: string): TrainingState | null {
  const record = checkpoint.record as CheckpointRecord;
  if (record.version !== 1 || record.fingerprint !== fingerprint) return null;
  const tensors = decodeSafetensors(checkpoint.tensors, 'state.safetensors');
  const parameters = parametersUnder('parameters/', tensors);
  const moments = (prefix: string): OptimizerState['m'] =>
    new Map([...parametersUnder(prefix, tensors)].map(([name, { values }]) => [name, values]));
  return {
    ...record.scalars,
    parameters,
    optimizer: { step: record.optimizerStep, m: moments('m/'), v: moments('v/') },
    best:
      record.best === null
        ? null
        : {
            ...record.best,
            table: tensors.get('best')!.data as Float32Array,
            parameters: parametersUnder('best/', tensors),
          },
  };
}

// The file orders tensors by name, and so does initialState: norms add up in the same order before and after.
function parametersUnder(prefix: string, tensors: ReadonlyMap<string, StoredTensor>): Parameters {
  const found: Parameters = new Map();
  for (const [name, { shape, data }] of tensors) {
    if (name.startsWith(prefix)) found.set(name.slice(prefix.length), { shape, values: data as Float32Array });
  }
  return found;
}
