/** A request while its rows wait and run: it ends when each row is done, with the first failure, or with its client. */

export interface Request {
  readonly open: boolean;
  /** One more of its rows is done. */
  rowDone(): void;
  /** Ends it with this error, unless it has ended already. */
  end(error: unknown): void;
}

/** `onEnd` is called once, before `done` settles. The signal's reason rejects `done` at once. */
export function openRequest(
  rows: number,
  signal: AbortSignal,
  onEnd: (request: Request) => void,
): { request: Request; done: Promise<void> } {
  const { promise: done, resolve, reject } = deferred();
  let left = rows;
  let open = true;

  function settle(finish: () => void): void {
    if (!open) return;
    open = false;
    signal.removeEventListener('abort', abort);
    onEnd(request);
    finish();
  }
  const abort = () => settle(() => reject(signal.reason));
  const request: Request = {
    get open() {
      return open;
    },
    rowDone: () => {
      left--;
      if (left === 0) settle(resolve);
    },
    end: (error) => settle(() => reject(error)),
  };
  signal.addEventListener('abort', abort, { once: true });
  return { request, done };
}

function deferred(): { promise: Promise<void>; resolve: () => void; reject: (error: unknown) => void } {
  let resolve!: () => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
