/** Values by key within a limit of weight; the least recently used leave first. */

export interface Lru<T> {
  /** Undefined when it is not kept. Reading counts as use. */
  get(key: string): T | undefined;
  /** A value heavier than the limit is not kept. */
  set(key: string, value: T): void;
  delete(key: string): void;
  /** Values kept and their weight together. */
  size(): { entries: number; weight: number };
}

/** `weigh` gives a value's weight in the unit of `limit`. */
export function createLru<T>(limit: number, weigh: (value: T) => number): Lru<T> {
  // A Map keeps insertion order: reading an entry moves it to the end.
  const kept = new Map<string, { value: T; weight: number }>();
  let total = 0;

  function remove(key: string): void {
    total -= kept.get(key)?.weight ?? 0;
    kept.delete(key);
  }

  return {
    get(key) {
      const found = kept.get(key);
      if (found === undefined) return undefined;
      kept.delete(key);
      kept.set(key, found);
      return found.value;
    },
    set(key, value) {
      remove(key);
      const weight = weigh(value);
      if (weight > limit) return;
      kept.set(key, { value, weight });
      total += weight;
      for (const oldest of kept.keys()) {
        if (total <= limit) return;
        remove(oldest);
      }
    },
    delete: remove,
    size: () => ({ entries: kept.size, weight: total }),
  };
}
