/** POST /v1/classifications: the labels of a tuned classification prompt with their probabilities. */
import { PtunedError } from '../../errors.ts';
import type { Candidates } from '../../tasks/types.ts';
import type { Served } from '../catalog.ts';
import { candidateScores, logSoftmax } from '../probabilities.ts';
import { ClassificationRequest, type ClassificationResponse } from '../schema.ts';
import { type App, type Serving, scoreInputs } from '../serving.ts';

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
      const { results, usage } = await scoreInputs(serving, { request, reply }, request.body, (served) => {
        const labels = classifierOf(served);
        return (logits) => classify(labels, logits);
      });
      const data = results.map((scores, index) => ({ index, ...scores }));
      return { object: 'list', model: request.body.model, data, usage };
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
