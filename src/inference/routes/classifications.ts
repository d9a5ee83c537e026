/** POST /v1/classifications: the labels of a tuned classification prompt with their probabilities. */
import { PtunedError } from '../../errors.ts';
import type { Candidates } from '../../tasks/types.ts';
import type { Served } from '../catalog.ts';
import { candidateScores, logSoftmax } from '../probabilities.ts';
import { renderInput } from '../render.ts';
import { ClassificationRequest, type ClassificationResponse, type Fields } from '../schema.ts';
import {
  type App,
  asList,
  clientSignal,
  ownerOf,
  renderAll,
  resolveWithRoom,
  type Serving,
  scoreAll,
  usageOf,
} from '../serving.ts';

export interface LabelScores {
  label: string;
  /** Probability of each label, in the task's order. */
  scores: Record<string, number>;
}

export function classificationsRoute(app: App, serving: Serving): void {
  app.post(
    '/v1/classifications',
    { schema: { body: ClassificationRequest } },
    async (request, reply): Promise<ClassificationResponse> => {
      const { model, inputs } = request.body;
      const list = asList(inputs);
      const asked = { id: model, owner: ownerOf(request), rows: list.length, work: () => 'score' as const };
      const served = await resolveWithRoom(serving, asked);
      const signal = clientSignal(reply);
      const labelsOf = classifierOf(served);
      const place = (index: number) => (Array.isArray(inputs) ? `inputs[${index}]` : 'inputs');
      const render = (input: Fields, index: number) => renderInput(served, input, place(index));
      const rows = await renderAll(serving, served, 'score', list, render);
      const labels = await scoreAll(serving, served, rows, signal, (logits) => classify(labelsOf, logits));
      const data = labels.map((scores, index) => ({ index, ...scores }));
      return { object: 'list', model, data, usage: usageOf(rows) };
    },
  );
}

/** The label with the highest score; of equal ones the first. */
export function classify(candidates: Candidates, logits: Float32Array): LabelScores {
  const probabilities = Array.from(logSoftmax(candidateScores(logits, candidates)), Math.exp);
  const best = probabilities.indexOf(Math.max(...probabilities));
  const scores = Object.fromEntries(candidates.names.map((name, index) => [name, probabilities[index]!]));
  return { label: candidates.names[best]!, scores };
}

function classifierOf({ id, tuned }: Served): Candidates {
  if (tuned?.task === 'classification' && tuned.candidates !== null) return tuned.candidates;
  const message =
    tuned === null
      ? `"${id}" is a base LM; /v1/classifications takes the tuned prompt of a classification task.`
      : `"${id}" is the tuned prompt of a cloze task; use /v1/fill_mask.`;
  throw new PtunedError('wrong_model_kind', message, { param: 'model' });
}
