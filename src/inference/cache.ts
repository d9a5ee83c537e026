/** A cache whose entries are loaded when first asked for. */
import { createLru } from '../lru.ts';

export interface Cache<T> {
  /** The entry under `key`, or what `load` gives, which is then kept. Callers at the same time share one load. */
  get(key: string, load: () => Promise<T>): Promise<T>;
  delete(key: string): void;
  /** Entries kept and their weight together. */
  size(): { entries: number; weight: number };
}

/** `weigh` gives an entry's weight in the unit of `limit`. An entry heavier than the limit is served, not kept. */
export function createCache<T>(limit: number, weigh: (value: T) => number): Cache<T> {
  const kept = createLru<{ value: T }>(limit, ({ value }) => weigh(value));
  const loading = new Map<string, Promise<T>>();
  return {
    async get(key, load) {
      const found = kept.get(key);
      if (found !== undefined) return found.value;
      const shared = loading.get(key);
      if (shared !== undefined) return shared;
      const started = load();
      loading.set(key, started);
      try {
        const value = await started;
        kept.set(key, { value });
        return value;
      } finally {
        loading.delete(key);
      }
    },
    delete: kept.delete,
    size: kept.size,
  };
}
