/** Who runs next: LMs share the machine's cores, so one run at a time, and each LM with work gets its turn. */
import { setImmediate as afterEvents } from 'node:timers/promises';

export interface TurnTaker {
  /** Rows that could run now; 0 when there is nothing to do. */
  ready(): number;
  /** One bounded piece of work. Never rejects. */
  turn(): Promise<void>;
}

export interface Turns {
  join(taker: TurnTaker): void;
  leave(taker: TurnTaker): void;
  /** To be called when a taker may have become ready. */
  wake(): void;
}

/** Event-loop rounds without an arrival after which a batch is formed, and rounds at most. */
const quietRounds = 2;
const longestGathering = 10;

export function createTurns(): Turns {
  // In the order in which they take turns.
  const takers: TurnTaker[] = [];
  let running = false;

  const waiting = () => takers.reduce((sum, taker) => sum + taker.ready(), 0);

  /** Lets requests that are already in the sockets arrive, so that they run together; costs well below 1 ms. */
  async function gather(): Promise<void> {
    let before = waiting();
    for (let round = 0, quiet = 0; round < longestGathering && quiet < quietRounds; round++) {
      await afterEvents();
      const now = waiting();
      quiet = now === before ? quiet + 1 : 0;
      before = now;
    }
  }

  async function run(): Promise<void> {
    for (;;) {
      await gather();
      const next = takers.findIndex((taker) => taker.ready() > 0);
      if (next < 0) {
        running = false;
        return;
      }
      const [taker] = takers.splice(next, 1) as [TurnTaker];
      takers.push(taker);
      await taker.turn();
    }
  }

  return {
    join: (taker) => void takers.push(taker),
    leave: (taker) => {
      const at = takers.indexOf(taker);
      if (at >= 0) takers.splice(at, 1);
    },
    wake: () => {
      if (running) return;
      running = true;
      void run();
    },
  };
}
