/** The three runs of an LM: read logits at the targets, begin to generate, generate one token more. */
import { performance } from 'node:perf_hooks';
import { setImmediate as afterEvents } from 'node:timers/promises';
import type { Decoding, Predictor } from '../lm/types.ts';
import { assemble } from './batch.ts';
import type { Entry } from './queue.ts';

export type RunKind = 'score' | 'prefill' | 'decode';

export interface RunContext {
  predictor: Predictor;
  /** Width of a prompt row. */
  width: number;
  /** Id that fills a row up. */
  pad: number;
  /** Called after each run with its rows, its tokens (padding included) and its seconds. */
  observe(kind: RunKind, rows: number, tokens: number, seconds: number): void;
}

/** A batch in the middle of generating. */
export interface Generation {
  /** Generates one token for each row left; false when none is left. Never rejects. */
  advance(): Promise<boolean>;
}

/** Each ticket reads the logits at its target once. Never rejects: a failure ends the requests of the batch. */
export async function scoreRows(context: RunContext, entries: Entry[]): Promise<void> {
  await endingOnFailure(entries, async () => {
    const { batch, table } = assembled(context, entries);
    const run = () => context.predictor.logits(batch, table);
    const logits = await measured(context, 'score', batch.rows, batch.rows * batch.length, run);
    await readRows(entries, logits);
  });
}

/** Runs the prompts and reads each row's first token; null when no row goes on. Never rejects. */
export async function beginRows(context: RunContext, entries: Entry[]): Promise<Generation | null> {
  let generation: Generation | null = null;
  await endingOnFailure(entries, async () => {
    const { batch, table } = assembled(context, entries);
    const run = () => context.predictor.decode(batch, table);
    const decoding = await measured(context, 'prefill', batch.rows, batch.rows * batch.length, run);
    const tokens = new Map<number, number>();
    if (readTokens(entries, decoding, tokens)) generation = continueRows(context, entries, decoding, tokens);
  });
  return generation;
}

/** `tokens` holds the next token of each row that goes on. */
function continueRows(
  context: RunContext,
  entries: Entry[],
  decoding: Decoding,
  tokens: Map<number, number>,
): Generation {
  return {
    async advance() {
      let left = false;
      await endingOnFailure(entries, async () => {
        // Clients may have gone since the tokens were chosen.
        const rows = decoding.rows.filter((row) => entries[row]!.request.open);
        if (rows.length < decoding.rows.length) decoding.keep(rows);
        if (rows.length === 0) return;
        const run = () => decoding.advance(rows.map((row) => tokens.get(row)!));
        await measured(context, 'decode', rows.length, rows.length, run);
        left = readTokens(entries, decoding, tokens);
      });
      return left;
    },
  };
}

/** Lets each row choose its next token and keeps those that go on; false when none does. */
function readTokens(entries: Entry[], decoding: Decoding, tokens: Map<number, number>): boolean {
  tokens.clear();
  const { rows, logits } = decoding;
  rows.forEach((row, at) => {
    const token = readRow(entries[row]!, logits, at, rows.length);
    if (token !== null) tokens.set(row, token);
  });
  if (tokens.size < rows.length) decoding.keep(rows.filter((row) => tokens.has(row)));
  return tokens.size > 0;
}

/** Milliseconds of reading after which others get their turn: a row of 50,000 logits takes about one. */
const longestReading = 4;

/** Hands each row its logits; requests that arrive meanwhile are taken or refused between rows. */
async function readRows(entries: Entry[], logits: Float32Array): Promise<void> {
  let since = performance.now();
  for (const [row, entry] of entries.entries()) {
    if (performance.now() - since > longestReading) {
      await afterEvents();
      since = performance.now();
    }
    readRow(entry, logits, row, entries.length);
  }
}

/** Hands a row its logits; null when it is done or has failed. */
function readRow(entry: Entry, logits: Float32Array, row: number, rows: number): number | null {
  if (!entry.request.open) return null;
  const vocabulary = logits.length / rows;
  try {
    const token = entry.ticket.take(logits.subarray(row * vocabulary, (row + 1) * vocabulary));
    if (token === null) entry.request.rowDone();
    return token;
  } catch (error) {
    entry.request.end(error);
    return null;
  }
}

function assembled({ width, pad }: RunContext, entries: Entry[]) {
  return assemble(
    entries.map(({ ticket }) => ticket),
    width,
    pad,
  );
}

async function endingOnFailure(entries: Entry[], work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    for (const { request } of entries) request.end(error);
  }
}

async function measured<T>(
  { observe }: RunContext,
  kind: RunKind,
  rows: number,
  tokens: number,
  run: () => Promise<T>,
): Promise<T> {
  const started = performance.now();
  const result = await run();
  observe(kind, rows, tokens, (performance.now() - started) / 1000);
  return result;
}
