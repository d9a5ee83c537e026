/** Generation of encoder-decoder LMs from their cache: a text's keys and values once, then one token a step. */
import type { Feed } from '../onnx/session.ts';
import type { DecoderProgram } from './answer-programs.ts';
import { feeds } from './feeds.ts';
import { pickBatch, pickFeed, pickRows } from './rows.ts';
import { batchFeeds, noTable, type ProgramRunner } from './run-program.ts';
import { encodedInput, type StepProgram } from './step-program.ts';
import type { Decoding, LmBatch } from './types.ts';

/** Programs with the sessions they are open in. */
export interface Stepping {
  first: { program: DecoderProgram; runner: ProgramRunner };
  next: { program: StepProgram; runner: ProgramRunner };
}

/** Rows that have as many tokens as each other, and so share a run: a cache has no padding between its tokens. */
interface Group {
  /** As indices into the batch that began. */
  rows: number[];
  /** Logits of the next token [rows, vocabulary]. */
  logits: Float32Array;
  /** [rows, …] each: keys and values of the answers. */
  answer: Feed[];
  /** [rows, …] each, by feed: the text's keys and values, its mask, what its encoder yields. */
  text: Record<string, Feed>;
}

/**
 * Generation behind the batch's decoder ids, up to each row's target.
 * @param encoded what the encoder yields for the batch [rows, length, hidden]
 */
export async function decodeInSteps(
  stepping: Stepping,
  batch: LmBatch,
  encoded: Feed,
  vocabulary: number,
): Promise<Decoding> {
  const lengths = Array.from(batch.targets, (target) => Number(target) + 1);
  let groups: Group[] = [];
  for (const length of new Set(lengths)) {
    const rows = lengths.flatMap((one, row) => (one === length ? [row] : []));
    groups.push(await begin(stepping, pickBatch(batch, rows), pickFeed(encoded, rows), { length, rows }));
  }
  const places = () => placesOf(groups);
  return {
    get rows() {
      return places().map(({ row }) => row);
    },
    get logits() {
      if (groups.length === 1) return groups[0]!.logits;
      const all = new Float32Array(places().length * vocabulary);
      for (const [i, { group, at }] of places().entries())
        all.set(group.logits.subarray(at * vocabulary, (at + 1) * vocabulary), i * vocabulary);
      return all;
    },
    async advance(tokens) {
      const chosen = new Map(places().map(({ row }, i) => [row, tokens[i]!]));
      for (const group of groups) {
        const next = group.rows.map((row) => chosen.get(row)!);
        await step(stepping, group, next);
      }
    },
    keep(wanted) {
      groups = groups.map((group) => keepRows(group, wanted, vocabulary)).filter(({ rows }) => rows.length > 0);
    },
  };
}

/** Where each row is, in the order of the batch. */
function placesOf(groups: readonly Group[]): { row: number; group: Group; at: number }[] {
  const places = groups.flatMap((group) => group.rows.map((row, at) => ({ row, group, at })));
  return places.sort((a, b) => a.row - b.row);
}

/** `batch` and `encoded` are those of `rows`, each of which begins with `length` decoder ids. */
async function begin(
  { first: { program, runner }, next }: Stepping,
  batch: LmBatch,
  encoded: Feed,
  { length, rows }: { length: number; rows: number[] },
): Promise<Group> {
  const decoder = batch.decoder!;
  const ids = new BigInt64Array(rows.length * length);
  for (const [i] of rows.entries())
    ids.set(decoder.ids.subarray(i * decoder.length, i * decoder.length + length), i * length);
  const given: Record<string, Feed> = {
    ...batchFeeds({ ...batch, decoder: { length, ids } }, noTable),
    [program.encoded]: encoded,
  };
  const { answer, text } = next.program;
  const outputs = [...answer, ...text].map(({ present }) => program.presents.get(present)!);
  const [logits, ...cache] = (await runner.fetch(given, [program.logits, ...outputs])) as [Feed, ...Feed[]];
  const ofText = text.map(({ input }, i) => [input, cache[answer.length + i]!] as const);
  return {
    rows,
    logits: logits.data as Float32Array,
    answer: cache.slice(0, answer.length),
    text: { ...Object.fromEntries(ofText), [feeds.mask]: given[feeds.mask]!, [encodedInput]: encoded },
  };
}

/** Appends a token to each of the group's rows. */
async function step({ next: { program, runner } }: Stepping, group: Group, tokens: readonly number[]): Promise<void> {
  const given: Record<string, Feed> = {
    ...group.text,
    ...Object.fromEntries(program.answer.map(({ input }, i) => [input, group.answer[i]!])),
    [feeds.decoderIds]: { dtype: 'int64', dims: [tokens.length, 1], data: BigInt64Array.from(tokens, BigInt) },
  };
  const [logits, ...answer] = (await runner.fetch(given, program.outputs)) as [Feed, ...Feed[]];
  group.logits = logits.data as Float32Array;
  group.answer = answer;
}

function keepRows(group: Group, wanted: readonly number[], vocabulary: number): Group {
  const kept = group.rows.flatMap((row, i) => (wanted.includes(row) ? [i] : []));
  if (kept.length === group.rows.length) return group;
  return {
    rows: kept.map((i) => group.rows[i]!),
    logits: pickRows(group.logits, vocabulary, kept),
    answer: group.answer.map((one) => pickFeed(one, kept)),
    text: Object.fromEntries(Object.entries(group.text).map(([name, one]) => [name, pickFeed(one, kept)])),
  };
}
