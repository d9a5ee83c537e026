/** Which waiting rows run together, and their batch: tables stacked, slots moved to where each row's table begins. */
import { padBatch } from '../data/batches.ts';
import type { Leading, LmBatch, PromptTable } from '../lm/types.ts';
import { type PromptPlace, tokensBefore } from '../models/past.ts';
import type { RenderedRow } from '../tasks/types.ts';

/** A tuned prompt and where it enters the LM. */
export interface Prompt {
  place: PromptPlace;
  table: PromptTable;
  /** Another one for every prompt, and for every version of it. */
  key: string;
  /** What its rows begin with. */
  lead: Pick<RenderedRow, 'ids' | 'slots'>;
}

/** One row of a request. */
export interface Ticket {
  row: RenderedRow;
  /** The tuned prompt whose rows the slots mean, or that stands before the row; null for a base LM. */
  prompt: Prompt | null;
  /** Tokens that may be generated behind the row; 0 when only the logits at the target are read. */
  grows: number;
  /** Reads logits [vocabulary], valid during the call. Returns the token to go on with, or null: the row is done. */
  take(logits: Float32Array): number | null;
}

/** Padding tokens that may be computed: a share of the real ones, plus a constant that lets short rows mix. */
const paddingShare = 0.25;
const paddingAllowance = 64;

/**
 * Rows for one run: the first in `waiting` (so none starves) and those nearest to it in length, as long as the run
 * stays within `rows` rows, `tokens` tokens with padding, and little padding.
 */
export function pickRows<T extends { ticket: Ticket }>(
  waiting: Iterable<T>,
  limits: { rows: number; tokens: number },
): T[] {
  const all = [...waiting];
  const first = all[0];
  if (first === undefined) return [];
  const wanted = tokensOf(first.ticket);
  const nearest = all
    .map((entry, order) => ({ entry, order, tokens: tokensOf(entry.ticket) }))
    .sort((a, b) => Math.abs(a.tokens - wanted) - Math.abs(b.tokens - wanted) || a.order - b.order);
  const picked: T[] = [];
  let longest = 0;
  let real = 0;
  for (const { entry, tokens } of nearest) {
    const length = Math.max(longest, tokens);
    const padded = length * (picked.length + 1);
    const padding = padded - real - tokens;
    const fits = padded <= limits.tokens && padding <= paddingShare * (real + tokens) + paddingAllowance;
    if (picked.length > 0 && !fits) continue;
    picked.push(entry);
    longest = length;
    real += tokens;
    if (picked.length === limits.rows) break;
  }
  return picked;
}

/** Tokens a row may reach, those of its prefix included: their keys and values take the same memory. */
export function tokensOf({ row, grows, prompt }: Ticket): number {
  const before = prompt === null ? 0 : tokensBefore(prompt.place, prompt.table.rows);
  return before + row.ids.length + (row.decoder?.length ?? 0) + grows;
}

/**
 * The rows as one right-padded batch [rows, longest row] and the tables of their tuned prompts, each once, as one
 * table [sum of rows, width]; rows with a prefix have it beside them. Without any tuned prompt the table is one row of
 * zeros that no slot names.
 */
export function assemble(
  tickets: readonly Ticket[],
  width: number,
  pad: number,
): { batch: LmBatch; table: PromptTable } {
  const offsets = new Map<PromptTable, number>();
  let rows = 0;
  const tables = tickets.map(({ prompt }) => (prompt?.place === 'embeddings' ? prompt.table : null));
  const prefixes = tickets.map(({ prompt }) => (prompt?.place === 'past' ? prompt.table : null));
  for (const table of tables) {
    if (table === null || offsets.has(table)) continue;
    offsets.set(table, rows);
    rows += table.rows;
  }
  const values = new Float32Array(Math.max(rows, 1) * width);
  for (const [prompt, offset] of offsets) values.set(prompt.values, offset * width);
  const shifted = tickets.map(({ row }, i) => {
    const offset = tables[i] === null ? 0 : offsets.get(tables[i]!)!;
    return offset === 0 ? row : { ...row, slots: row.slots.map((slot) => (slot < 0 ? -1 : slot + offset)) };
  });
  const { batch } = padBatch(shifted, pad);
  const isPlain = prefixes.every((prefix) => prefix === null);
  const table = { rows: Math.max(rows, 1), width, values };
  const leading = tickets.map(leadingOf);
  return { batch: { ...batch, ...(isPlain ? {} : { prefixes }), leading }, table };
}

/** What a row has in common with all others of its prompt; null where it begins otherwise. */
function leadingOf({ row, prompt }: Ticket): Leading | null {
  if (prompt === null) return null;
  const { key, lead } = prompt;
  const begins = lead.ids.every((id, i) => row.ids[i] === id && row.slots[i] === lead.slots[i]);
  return begins ? { key, tokens: lead.ids.length } : null;
}
