/** Whether shared steps pay, found out while jobs train: it depends on LM, batch, length and machine. */

export type Way = 'together' | 'apart';

export interface Payoff {
  /** The way that cost less a token; each is tried first, and again from time to time. */
  choose(): Way;
  /** What a step of each job took, of so many tokens in all. */
  record(way: Way, milliseconds: number, tokens: number): void;
}

/** Steps each way at first, and those that count: the machine may be busy with something else during one. */
const trials = 3;
const remembered = 5;
/** So seldom the dearer way is tried again: lengths change from batch to batch, and jobs come and go. */
const retrial = 40;

const other = { together: 'apart', apart: 'together' } as const satisfies Record<Way, Way>;

export function createPayoff(): Payoff {
  /** Milliseconds a token, of the last steps. */
  const costs: Record<Way, number[]> = { together: [], apart: [] };
  let sinceTried = 0;
  return {
    choose() {
      if (costs.together.length < trials || costs.apart.length < trials) {
        return costs.apart.length < costs.together.length ? 'apart' : 'together';
      }
      const better = median(costs.together) <= median(costs.apart) ? 'together' : 'apart';
      sinceTried++;
      if (sinceTried <= retrial) return better;
      sinceTried = 0;
      return other[better];
    },
    record(way, milliseconds, tokens) {
      costs[way] = [...costs[way], milliseconds / tokens].slice(-remembered);
    },
  };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
