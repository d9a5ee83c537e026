/** What a job trains, opened: an encoder that learns by gradient, or words that are searched. */
import type { ResolvedHyperparameters } from '../jobs/hyperparameters.ts';
import type { EncoderChoice, PromptPlan } from '../jobs/methods/record.ts';
import type { Lm, Scorer, Trainer } from '../lm/types.ts';
import type { ModelManifest } from '../models/manifest.ts';
import { pastInputs, promptWidth } from '../models/past.ts';
import type { EncoderShape, Parameters } from '../prompts/types.ts';
import type { TuningData } from './data.ts';
import { type Learn, learnByGradient } from './learn.ts';
import { createWordPrompt, learnBySearch, type PromptSource, tokensOf } from './search.ts';
import { sampleTokens, startRows, startTokens } from './start.ts';
import type { TuningDependencies, TuningJob } from './types.ts';

export interface OpenPrompt {
  encoder: PromptSource;
  learn(lm: { trainer: Trainer; scorer: Scorer }): Learn;
  words(parameters: Parameters): string[] | null;
}

/** @throws PtunedError invalid_request when the encoder does not fit the LM */
export function openPrompt(
  job: TuningJob,
  plan: PromptPlan,
  data: TuningData,
  lm: Lm,
  dependencies: Pick<TuningDependencies, 'openEncoder'>,
): Promise<OpenPrompt> {
  const { encoder } = plan;
  return encoder === null
    ? openWords(job, plan, data, lm)
    : openTrained(job, plan, { ...encoder, ...innerWidths(encoder, job.model) }, data, lm, dependencies);
}

async function openTrained(
  { spec, model, threads }: TuningJob,
  { place, start }: PromptPlan,
  choice: Pick<EncoderShape, 'type' | 'layers' | 'projection'>,
  data: TuningData,
  lm: Lm,
  { openEncoder }: Pick<TuningDependencies, 'openEncoder'>,
): Promise<OpenPrompt> {
  const width = promptWidth(place, model);
  const base = await startRows(lm, data, { place, start, seed: spec.seed, width });
  const { type, layers, projection } = choice;
  const shape = { type, layers, virtualTokens: data.virtualTokens, width, base, ...(projection && { projection }) };
  const encoder = await openEncoder(shape, { threads });
  // A method with an encoder has an optimizer.
  const options = spec.method.hyperparameters as ResolvedHyperparameters;
  return { encoder, learn: ({ trainer }) => learnByGradient({ encoder, trainer }, options), words: () => null };
}

/** Of a projection, as PEFT has them: the embedding is as wide as the keys of a layer. */
function innerWidths({ hidden }: EncoderChoice, model: ModelManifest): Pick<EncoderShape, 'projection'> {
  const [first] = pastInputs(model.inputs);
  if (first === undefined) return {};
  const embedding = first.heads * first.size;
  return { projection: { embedding, hidden: hidden ?? embedding } };
}

async function openWords(
  { spec, model }: TuningJob,
  { start, search }: PromptPlan,
  data: TuningData,
  lm: Lm,
): Promise<OpenPrompt> {
  const { virtualTokens, vocabulary, train, pad } = data;
  const shape: EncoderShape = { type: 'embedding', layers: 1, virtualTokens, width: model.embedding.width, base: null };
  const sample = sampleTokens(data, spec.seed);
  const tokens = startTokens(data, start, spec.seed).map((id, row) => id ?? sample[row]!);
  const { candidates, rows } = search!;
  const allowed = vocabulary.ordinary();
  return {
    encoder: createWordPrompt(lm, shape, tokens),
    learn: (parts) => learnBySearch({ ...parts, lm, shape, train, rows, pad, allowed, candidates, seed: spec.seed }),
    words: (parameters) => vocabulary.texts(tokensOf(parameters)),
  };
}
