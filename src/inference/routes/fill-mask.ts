/** POST /v1/fill_mask: the likeliest words at the target of a tuned cloze prompt, or at the mask of a masked LM. */
import { PtunedError } from '../../errors.ts';
import type { Served } from '../catalog.ts';
import { candidateScores, highest, logSumExp } from '../probabilities.ts';
import { FillMaskRequest, type FillMaskResponse } from '../schema.ts';
import { type App, type Serving, scoreInputs } from '../serving.ts';

export function fillMaskRoute(app: App, serving: Serving): void {
  app.post(
    '/v1/fill_mask',
    { schema: { body: FillMaskRequest } },
    async (request, reply): Promise<FillMaskResponse> => {
      const { model, top_k: topK = 5 } = request.body;
      const { results, usage } = await scoreInputs(serving, { request, reply }, request.body, (served) => {
        checkKind(served);
        return (logits) => predict(served, logits, topK);
      });
      const data = results.map((predictions, index) => ({ index, predictions }));
      return { object: 'list', model, data, usage };
    },
  );
}

function predict({ tuned, tokenizer }: Served, logits: Float32Array, topK: number) {
  const candidates = tuned?.candidates ?? null;
  const scores = candidates === null ? logits : candidateScores(logits, candidates);
  const all = logSumExp(scores);
  return highest(scores, topK).map((index) => {
    const token = candidates === null ? index : candidates.ids[index * candidates.width]!;
    // Special tokens decode to nothing.
    const name = candidates?.names[index] ?? (tokenizer.decode([token]).trim() || tokenizer.token(token));
    return { token_str: name, token, score: Math.exp(scores[index]! - all) };
  });
}

function checkKind({ id, base, tuned }: Served): void {
  if (tuned === null && base.kind !== 'causal') return;
  if (tuned?.task === 'cloze') return;
  const message =
    tuned === null
      ? `"${id}" is a causal LM; /v1/fill_mask takes a masked LM or the tuned prompt of a cloze task. Use /v1/completions.`
      : `"${id}" is the tuned prompt of a classification task; use /v1/classifications.`;
  throw new PtunedError('wrong_model_kind', message, { param: 'model' });
}
