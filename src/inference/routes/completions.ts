/** POST /v1/completions in OpenAI's form: generated text, streamed or whole; for a classification prompt its label. */
import { randomInt, randomUUID } from 'node:crypto';
import { PtunedError } from '../../errors.ts';
import { type Candidates, generatedFrom, type RenderedRow } from '../../tasks/types.ts';
import type { Known, Served } from '../catalog.ts';
import { type CompletionOptions, createCompletion, type IndexedPiece, type Piece } from '../completion.ts';
import type { Work } from '../lane.ts';
import { checkLength, longestOf, renderInput, renderText } from '../render.ts';
import { CompletionRequest, type CompletionResponse, type Fields } from '../schema.ts';
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
import { joinPieces, streamPieces } from '../stream.ts';
import { classify } from './classifications.ts';

interface Plan {
  rows: RenderedRow[];
  /** Runs everything; resolves with the number of generated tokens. */
  run(onPiece: (piece: IndexedPiece) => void, signal: AbortSignal): Promise<number>;
}

export function completionsRoute(app: App, serving: Serving): void {
  app.post(
    '/v1/completions',
    { schema: { body: CompletionRequest }, sse: 'manual' },
    async (request, reply): Promise<CompletionResponse | undefined> => {
      const { body } = request;
      const asked = { id: body.model, owner: ownerOf(request), rows: asList<unknown>(body.prompt).length };
      const served = await resolveWithRoom(serving, { ...asked, work: (task) => workFor(task, body) });
      const signal = clientSignal(reply);
      const plan = await planFor(serving, served, body);
      const head = {
        id: `cmpl-${randomUUID().replaceAll('-', '')}`,
        object: 'text_completion' as const,
        created: Math.floor(Date.now() / 1000),
        model: body.model,
      };
      if (body.stream === true) {
        await streamPieces(reply, head, (onPiece) => plan.run(onPiece, signal), signal);
        return undefined;
      }
      const pieces: IndexedPiece[] = [];
      const tokens = await plan.run((piece) => pieces.push(piece), signal);
      const choices = plan.rows.map((_, index) => joinPieces(pieces, index));
      return { ...head, choices, usage: usageOf(plan.rows, tokens) };
    },
  );
}

async function planFor(serving: Serving, served: Served, body: CompletionRequest): Promise<Plan> {
  const { base, tuned, id } = served;
  if (tuned?.task === 'classification' && tuned.candidates !== null) {
    return planLabels(serving, served, tuned.candidates, body);
  }
  if (base.kind !== 'masked') return planText(serving, served, body);
  const message = `"${id}" is ${tuned === null ? '' : 'a tuned prompt of '}a masked LM, which does not generate; use /v1/fill_mask.`;
  throw new PtunedError('wrong_model_kind', message, { param: 'model' });
}

/** One token more needs only the logits at the row's end, so such rows share batches with the other queries. */
function workFor(task: Known['task'], body: CompletionRequest): Work {
  return task === 'classification' || wantedTokens(task, body) === 1 ? 'score' : 'generate';
}

function wantedTokens(task: Known['task'], body: CompletionRequest): number {
  return body.max_tokens ?? (task === null ? 16 : 1);
}

async function planText(serving: Serving, served: Served, body: CompletionRequest): Promise<Plan> {
  const { tuned, tokenizer } = served;
  const wanted = wantedTokens(tuned?.task ?? null, body);
  const work = workFor(tuned?.task ?? null, body);
  const rows = await renderPrompts(serving, served, work, body.prompt);
  const { eos } = tokenizer.special;
  const ends = [...(eos === null ? [] : [eos]), ...(served.base.decoder?.ends ?? [])];
  const seed = body.seed ?? randomInt(2 ** 31);
  const longest = Math.max(...rows.map((row) => generatedFrom(row).length));
  if (body.max_tokens != null) checkLength(served, longest, wanted, 'prompt');
  const optionsOf = (row: RenderedRow, index: number): CompletionOptions => ({
    maxTokens: Math.min(wanted, longestOf(served) - generatedFrom(row).length + 1),
    temperature: body.temperature ?? (tuned === null ? 1 : 0),
    topP: body.top_p ?? 1,
    seed: seed + index,
    stops: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
    logprobs: body.logprobs ?? null,
  });
  return {
    rows,
    async run(onPiece, signal) {
      const completions = rows.map((row, index) =>
        createCompletion(
          {
            row,
            prompt: tuned?.prompt ?? null,
            tokenizer,
            ends,
            never: served.base.decoder?.never ?? [],
            first: tuned?.candidates ?? null,
          },
          optionsOf(row, index),
          (piece) => onPiece({ ...piece, index }),
        ),
      );
      const tickets = completions.map(({ ticket }) => ticket);
      await serving.residents.lane(served.base).submit(work, tickets, signal);
      return completions.reduce((sum, { tokens }) => sum + tokens(), 0);
    },
  };
}

async function planLabels(
  serving: Serving,
  served: Served,
  candidates: Candidates,
  body: CompletionRequest,
): Promise<Plan> {
  const rows = await renderPrompts(serving, served, 'score', body.prompt);
  return {
    rows,
    async run(onPiece, signal) {
      const labels = await scoreAll(serving, served, rows, signal, (logits) => classify(candidates, logits));
      for (const [index, scores] of labels.entries()) {
        onPiece({ ...labelPiece(scores, body.logprobs ?? null), index });
      }
      return rows.length;
    },
  };
}

/** The label as text; the labels with their log-probabilities stand where a text has its likeliest tokens. */
function labelPiece({ label, scores }: ReturnType<typeof classify>, count: number | null): Piece {
  const likeliest = Object.entries(scores).sort(([, a], [, b]) => b - a);
  const top = Object.fromEntries(likeliest.slice(0, count ?? 0).map(([name, score]) => [name, Math.log(score)]));
  const logprobs = {
    tokens: [label],
    token_logprobs: [Math.log(scores[label]!)],
    top_logprobs: [top],
    text_offset: [0],
  };
  return { text: label, logprobs: count === null ? null : logprobs, finish: 'stop' };
}

function renderPrompts(
  serving: Serving,
  served: Served,
  work: Work,
  prompt: CompletionRequest['prompt'],
): Promise<RenderedRow[]> {
  const prompts = asList<string | Fields>(prompt);
  return renderAll(serving, served, work, prompts, (one, index) => {
    const place = Array.isArray(prompt) ? `prompt[${index}]` : 'prompt';
    const { tuned } = served;
    if (tuned === null) {
      if (typeof one === 'string') return renderText(served, one, place);
      throw new PtunedError('invalid_request', `${place} is an object; a base LM takes text.`, { param: place });
    }
    if (typeof one !== 'string') return renderInput(served, one, place);
    const [field, ...others] = tuned.fields;
    if (field !== undefined && others.length === 0) return renderInput(served, { [field]: one }, place);
    const accepted = `an object with ${tuned.fields.map((name) => `"${name}"`).join(', ')}`;
    throw new PtunedError('invalid_request', `${place} is text, this template takes ${accepted}.`, { param: place });
  });
}
