/** A cache with a weight limit; the least recently used entries leave first. */

export interface Cache<T> {
  /** The entry under `key`, or what `load` gives, which is then kept. Callers at the same time share one load. */
  get(key: string, load: () => Promise<T>): Promise<T>;
  delete(key: string): void;
  /** Entries kept and their weight together. */
  size(): { entries: number; weight: number };
}

/** `weigh` gives an entry's weight in the unit of `limit`. An entry heavier than the limit is served, not kept. */
export function createCache<T>(limit: number, weigh: (value: T) => number): Cache<T> {
  // A Map keeps insertion order: reading an entry moves it to the end.
  const kept = new Map<string, { value: T; weight: number }>();
  const loading = new Map<string, Promise<T>>();
  let total = 0;

  function remove(key: string): void {
    total -= kept.get(key)?.weight ?? 0;
    kept.delete(key);
  }

  function keep(key: string, value: T): void {
    remove(key);
    const weight = weigh(value);
    if (weight > limit) return;
    kept.set(key, { value, weight });
    total += weight;
    for (const oldest of kept.keys()) {
      if (total <= limit) return;
      remove(oldest);
    }
  }

  return {
    async get(key, load) {
      const found = kept.get(key);
      if (found !== undefined) {
        kept.delete(key);
        kept.set(key, found);
        return found.value;
      }
      const shared = loading.get(key);
      if (shared !== undefined) return shared;
      const started = load();
      loading.set(key, started);
      try {
        const value = await started;
        keep(key, value);
        return value;
      } finally {
        loading.delete(key);
      }
    },
    delete: remove,
    size: () => ({ entries: kept.size, weight: total }),
  };
}
