/** Requests for room that wait for their turn. */

/** Of requests the one with the lowest `order` is served first; a job has one at a time. */
export interface Turn {
  job: string;
  order: number;
}

export interface Turns<Request extends Turn, Place> {
  /** Waits for its turn at most so long; null when there was no room by then. */
  take(request: Request, milliseconds: number): Promise<Place | null>;
  /** There may be room now. */
  serve(): void;
  /** Nobody gets room any more. */
  close(): void;
}

interface Waiting<Request, Place> {
  request: Request;
  /** It was told that there is no room, and may come back: nobody is to slip past it meanwhile. */
  isGone: boolean;
  answer(place: Place | null): void;
}

/** How long a request that found no room keeps its turn. */
const absentMilliseconds = 1000;

/** @param find makes room for a request; null where there is none yet */
export function createTurns<Request extends Turn, Place>(
  find: (request: Request) => Place | null,
): Turns<Request, Place> {
  const waiting: Waiting<Request, Place>[] = [];
  let isClosed = false;

  /** The first in the queue alone is looked at, so that no LM waits for ever behind jobs of another. */
  function serve(): void {
    for (;;) {
      const [first] = waiting;
      const place = first === undefined || first.isGone || isClosed ? null : find(first.request);
      if (place === null) return;
      waiting.shift();
      first!.answer(place);
    }
  }

  function forget(entry: Waiting<Request, Place>): void {
    const at = waiting.indexOf(entry);
    if (at < 0) return;
    waiting.splice(at, 1);
    entry.answer(null);
    serve();
  }

  return {
    serve,
    take: (request, milliseconds) =>
      new Promise((resolve) => {
        if (isClosed) return resolve(null);
        for (const one of waiting.filter((other) => other.request.job === request.job)) forget(one);
        const entry: Waiting<Request, Place> = {
          request,
          isGone: false,
          answer(place) {
            clearTimeout(timer);
            resolve(place);
          },
        };
        const timer = setTimeout(() => {
          entry.isGone = true;
          resolve(null);
          setTimeout(() => forget(entry), absentMilliseconds).unref();
        }, milliseconds);
        waiting.push(entry);
        waiting.sort((a, b) => a.request.order - b.request.order);
        serve();
      }),
    close() {
      isClosed = true;
      for (const one of waiting.splice(0)) one.answer(null);
    },
  };
}
