/** Opens a frozen LM in this process. */
import { PtunedError } from '../errors.ts';
import type { ModelManifest } from '../models/manifest.ts';
import { createSession, type Session, type SessionOptions } from '../onnx/session.ts';
import { feeds } from './feeds.ts';
import { type Inspected, inspectDirectory } from './inspect.ts';
import { createPredictor } from './predict.ts';
import { embeddingProgram, type Program, scoreProgram, trainProgram } from './programs.ts';
import { batchFeeds, openProgram, trainerOn } from './run-program.ts';
import type { Lm, LmOptions, Scorer, Trainer } from './types.ts';

/** @throws PtunedError model_mismatch when the folder no longer holds what was imported */
export async function openLm(manifest: ModelManifest, options: LmOptions): Promise<Lm> {
  const inspected = inspectDirectory(manifest.directory);
  if (inspected.embedding.width !== manifest.embedding.width || inspected.files[0]!.path !== manifest.graph) {
    throw new PtunedError(
      'model_mismatch',
      `${manifest.directory} holds another LM than was imported as "${manifest.id}".`,
    );
  }
  return createLm(manifest, inspected, options);
}

/** An LM over an inspected folder; also used by the import's trial step and the gradient check. */
export function createLm(manifest: ModelManifest, inspected: Inspected, options: LmOptions): Lm {
  const sessionOptions: SessionOptions = { ...options, directory: inspected.graphDirectory };
  let embedding: Promise<Session> | null = null;
  const lookup = embeddingProgram(inspected, inspected.embedding.weight);
  const embeddingSession = () =>
    (embedding ??= createSession(lookup.model, { ...sessionOptions, device: 'cpu', prepack: false }));
  const lookUp = async (ids: readonly number[], output: number): Promise<Float32Array> => {
    const session = await embeddingSession();
    const data = BigInt64Array.from(ids, BigInt);
    const name = lookup.outputs[output]!;
    const results = await session.run({ [feeds.ids]: { dtype: 'int64', dims: [ids.length], data } }, [name]);
    return results[name]!.data as Float32Array;
  };
  return {
    manifest,
    embeddings: (ids) => lookUp(ids, 0),
    meanEmbedding: () => lookUp([0], 1),
    trainer: (candidates, place) => createTrainer(trainProgram(inspected, candidates, place), sessionOptions),
    scorer: (candidates, place) => createScorer(scoreProgram(inspected, candidates, place), sessionOptions),
    predictor: () => createPredictor(inspected, sessionOptions),
    async close() {
      await (await embedding)?.close();
      embedding = null;
    },
  };
}

async function createTrainer(program: Program, options: SessionOptions): Promise<Trainer> {
  return trainerOn(await openProgram(program, options));
}

async function createScorer(program: Program, options: SessionOptions): Promise<Scorer> {
  const runner = await openProgram(program, options);
  return {
    async score(batch, labels, table) {
      const [loss, rank, best] = await runner.run(batchFeeds(batch, table, labels));
      return {
        loss: loss as Float32Array,
        rank: rank as Int32Array,
        best: Int32Array.from(best as BigInt64Array, Number),
      };
    },
    close: runner.close,
  };
}
