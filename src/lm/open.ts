/** Opens a frozen LM in this process. */
import { PtunedError } from '../errors.ts';
import type { ModelManifest } from '../models/manifest.ts';
import type { SessionOptions } from '../onnx/session.ts';
import { createAnsweringPredictor } from './answer.ts';
import { openScorerBehind, openTrainerBehind } from './behind.ts';
import { keysAndValues, openCached } from './cache.ts';
import { type Inspected, inspectDirectory } from './inspect.ts';
import { createPredictor, type PredictorOptions } from './predict.ts';
import { type Program, scoreProgram, trainProgram } from './programs.ts';
import { batchFeeds, openProgram, scoreResult, trainerOn } from './run-program.ts';
import type { Lm, LmOptions, Predictor, Scorer, Trainer } from './types.ts';
import { createWords } from './words.ts';

/** @throws PtunedError model_mismatch when the folder no longer holds what was imported */
export async function openLm(manifest: ModelManifest, options: LmOptions): Promise<Lm> {
  const chosen = { embedding: manifest.embedding.node || undefined, graph: manifest.graph };
  const inspected = inspectDirectory(manifest.directory, chosen);
  if (inspected.embedding.width !== manifest.embedding.width) {
    throw new PtunedError(
      'model_mismatch',
      `${manifest.directory} holds another LM than was imported as "${manifest.id}".`,
    );
  }
  const steps = manifest.cachedDecoder === undefined ? null : inspected.steps;
  const widened = { ...inspected, redundant: manifest.redundant, steps };
  if (options.device === 'cpu') return createLm(manifest, widened, options);
  const own = inspectDirectory(manifest.directory, { ...chosen, halves: 'keep' });
  return createLm(manifest, widened, options, { ...own, redundant: manifest.redundant });
}

/**
 * An LM over an inspected folder; also used by the import's trial step and the gradient check.
 * @param own what trains and is scored: the same in the device's own precision
 */
export function createLm(manifest: ModelManifest, inspected: Inspected, options: LmOptions, own = inspected): Lm {
  const sessionOptions = { ...options, directory: inspected.graphDirectory };
  const { close, ...words } = createWords(inspected, sessionOptions);
  return {
    manifest,
    ...words,
    async keysAndValues(ids) {
      const session = await openCached(inspected, sessionOptions);
      try {
        return await keysAndValues(session, ids, inspected.embedding.width);
      } finally {
        await session.close();
      }
    },
    trainer: (candidates, place) =>
      place === 'behind'
        ? openTrainerBehind(own, candidates, sessionOptions)
        : createTrainer(trainProgram(own, candidates, place), sessionOptions),
    scorer: (candidates, place) =>
      place === 'behind'
        ? openScorerBehind(own, candidates, sessionOptions)
        : createScorer(scoreProgram(own, candidates, place), sessionOptions),
    predictor: () => openPredictor(inspected, sessionOptions),
    close,
  };
}

function openPredictor(lm: Inspected, options: PredictorOptions): Promise<Predictor> {
  return lm.encoded === null ? createPredictor(lm, options) : createAnsweringPredictor(lm, lm.encoded, options);
}

async function createTrainer(program: Program, options: SessionOptions): Promise<Trainer> {
  return { ...trainerOn(await openProgram(program, options)), half: computesInHalves(program) };
}

/** bfloat16 has float32's range: what is lost in float16 is not lost there. */
function computesInHalves({ model }: Program): boolean {
  const products = new Set(
    model.graph.nodes.filter(({ op }) => /MatMul|Gemm/.test(op)).flatMap((node) => node.outputs),
  );
  return (model.graph.values ?? []).some(({ name, dtype }) => dtype === 'float16' && products.has(name));
}

async function createScorer(program: Program, options: SessionOptions): Promise<Scorer> {
  const runner = await openProgram(program, options);
  return {
    score: async (batch, labels, table) => scoreResult(await runner.run(batchFeeds(batch, table, labels))),
    close: runner.close,
  };
}
