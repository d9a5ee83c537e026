/**
 * What stands before the rows of a batch. What rows of a tuned prompt begin with is the same in every request, so a causal
 * LM's keys and values of it are computed once and kept: whatever prompts a batch mixes, only the rest is run.
 */
import { createLru } from '../lru.ts';
import { type CachedSession, type Start, startBehind } from './cache.ts';
import { bytesOf, type Past, pastOfRow, pastOfTable } from './past.ts';
import { cutBatch, lengthsOf, type Span } from './rows.ts';
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
    return spans.map(({ to }, i) => pastOfRow(past, i, { from: start.before[i]!, to: longest }, longest + to));
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
