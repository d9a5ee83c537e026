/**
 * What stands before the rows of a batch. What rows of a tuned prompt begin with is the same in every request, so a causal
 * LM's keys and values of it are computed once and kept: whatever prompts a batch mixes, only the rest is run.
 */
import { createLru } from '../lru.ts';
import { type Start, startBehind } from './behind.ts';
import type { CachedSession } from './cache.ts';
import { bytesOf, type Past, pastOfRow, pastOfTable } from './past.ts';
import { cutBatch, lengthsOf, type Span } from './rows.ts';
import { differ, tolerance } from './trial.ts';
import type { Leading, LmBatch, PromptTable } from './types.ts';

/** A batch without the tokens that stand before it. */
export interface Started {
  batch: LmBatch;
  start: Start;
}

export interface Starts {
  /** What each row begins with is taken from what is kept, or computed in one run for the whole batch and kept. */
  of(batch: LmBatch, table: PromptTable): Promise<Started>;
}

/** @param limit bytes of keys and values that are kept; with 0 every row is run whole */
export function createStarts(session: CachedSession, limit: number): Starts {
  const kept = createLru<Past>(limit, bytesOf);

  /** Keys and values of what the rows begin with, each behind its own prefix. */
  async function compute(batch: LmBatch, table: PromptTable, spans: readonly Span[], before: (Past | null)[]) {
    const start = startBehind(session.past, before);
    const { past } = await session.run(cutBatch(batch, spans), table, start, 'cache');
    const longest = Math.max(...start.before);
    return spans.map(({ to }, i) => pastOfRow(past, i, longest - start.before[i]!, longest + to));
  }

  return {
    async of(batch, table) {
      const prefixes = prefixesOf(session, batch);
      const leads = limit > 0 ? leadsOf(batch) : prefixes.map(() => null);
      const found = new Map<string, Past>();
      const missing = new Map<string, Span>();
      for (const [row, lead] of leads.entries()) {
        if (lead === null) continue;
        const past = kept.get(lead.key);
        if (past === undefined) missing.set(lead.key, { row, from: 0, to: lead.tokens });
        else found.set(lead.key, past);
      }
      if (missing.size > 0) {
        const spans = [...missing.values()];
        const own = spans.map(({ row }) => prefixes[row]!);
        const computed = await compute(batch, table, spans, own);
        for (const [i, key] of [...missing.keys()].entries()) {
          found.set(key, computed[i]!);
          kept.set(key, computed[i]!);
        }
      }
      const pasts = prefixes.map((prefix, row) => (leads[row] === null ? prefix : found.get(leads[row]!.key)!));
      return { batch: withoutLeads(batch, leads), start: startBehind(session.past, pasts) };
    },
  };
}

/**
 * Whether rows behind kept beginnings of different lengths have the logits of whole rows, measured on a few tokens: an LM may
 * take cached tokens otherwise than its own (positions counted from the cache's length, a mask it does not heed).
 */
export async function keepsLogits(session: CachedSession, width: number): Promise<boolean> {
  const lengths = [6, 4, 3];
  const [rows, length] = [lengths.length, lengths[0]!];
  const place = { length: rows * length };
  const batch: LmBatch = {
    ...{ rows, length },
    ids: BigInt64Array.from(place, (_, i) => BigInt(i % length < lengths[Math.floor(i / length)]! ? 5 + (i % 11) : 0)),
    mask: BigInt64Array.from(place, (_, i) => (i % length < lengths[Math.floor(i / length)]! ? 1n : 0n)),
    slots: BigInt64Array.from(place, (_, i) => (i % length === 1 ? 0n : -1n)),
    targets: BigInt64Array.from(lengths, (count) => BigInt(count - 1)),
    leading: [{ key: 'long', tokens: 3 }, { key: 'short', tokens: 2 }, null],
  };
  const table = { rows: 1, width, values: Float32Array.from({ length: width }, (_, i) => 0.1 * Math.sin(i)) };
  const plain = startBehind(
    session.past,
    lengths.map(() => null),
  );
  const whole = await session.run(batch, table, plain, 'logits');
  const rest = await createStarts(session, Number.POSITIVE_INFINITY).of(batch, table);
  const behind = await session.run(rest.batch, table, rest.start, 'logits');
  return differ(behind.logits, whole.logits) <= tolerance;
}

type Leads = (Leading | null)[];

/** A row's target must be left, or there would be nothing to read. */
function leadsOf({ rows, leading, targets }: LmBatch): Leads {
  return Array.from({ length: rows }, (_, row) => {
    const lead = leading?.[row] ?? null;
    return lead !== null && lead.tokens > 0 && lead.tokens <= Number(targets[row]!) ? lead : null;
  });
}

function withoutLeads(batch: LmBatch, leads: Leads): LmBatch {
  if (leads.every((lead) => lead === null)) return batch;
  return cutBatch(
    batch,
    lengthsOf(batch).map((to, row) => ({ row, from: leads[row]?.tokens ?? 0, to })),
  );
}

/** Rows with the same prefix table share its keys and values. */
function prefixesOf({ past }: CachedSession, { rows, prefixes }: LmBatch): (Past | null)[] {
  const known = new Map<PromptTable, Past>();
  return Array.from({ length: rows }, (_, row) => {
    const table = prefixes?.[row] ?? null;
    if (table === null) return null;
    const found = known.get(table) ?? pastOfTable(past, table);
    known.set(table, found);
    return found;
  });
}
