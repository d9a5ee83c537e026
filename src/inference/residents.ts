/** The LMs that are open: opened when first asked for, closed when another needs their memory, one always kept. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PtunedError } from '../errors.ts';
import type { LmOptions } from '../lm/types.ts';
import type { Logger } from '../logger.ts';
import type { ModelManifest } from '../models/manifest.ts';
import { createHolding, type Resident } from './holding.ts';
import { createLane, type Lane } from './lane.ts';
import type { Limits } from './limits.ts';
import type { RunContext } from './runs.ts';
import type { OpenServingLm } from './threaded-lm.ts';
import { createTurns } from './turns.ts';

export interface ResidentsOptions {
  openLm: OpenServingLm;
  options: LmOptions;
  limits: Limits;
  logger: Logger;
  observe(model: string, ...run: Parameters<RunContext['observe']>): void;
}

export interface Residents {
  /** The lane of an LM, which is opened if it is not; requests may be submitted to it at once. */
  lane(manifest: ModelManifest): Lane;
  /** The lane of an LM that is open or opening, else null. */
  peek(manifest: ModelManifest): Lane | null;
  /** LMs held in memory, also those that are about to be closed. */
  held(): { id: string; bytes: number; waiting: number }[];
  /** Waits for all requests, at most so long, and then ends the rest. */
  drain(milliseconds: number): Promise<void>;
  close(): Promise<void>;
}

export function createResidents({ openLm, options, limits, logger, observe }: ResidentsOptions): Residents {
  const turns = createTurns();
  const holding = createHolding(limits, logger, turns);
  let admission: Promise<void> = Promise.resolve();
  let uses = 0;
  const expiry = setInterval(() => {
    for (const { lane } of holding.all) lane.expire();
  }, 250).unref();

  async function admit(resident: Resident): Promise<void> {
    const { manifest, lane } = resident;
    // All who asked for it may have gone meanwhile.
    if (lane.busy()) await holding.makeRoom(resident);
    if (!lane.busy()) return holding.discard(resident);
    try {
      const lm = await openLm(manifest, options);
      resident.lm = lm;
      lm.lost?.then((error) => (resident.closing === null ? holding.lose(resident, error) : undefined));
      const context = { width: manifest.embedding.width, pad: manifest.specialTokens.pad ?? 0 };
      const predictor = await lm.predictor();
      lane.start({ ...context, predictor, observe: (...run) => observe(manifest.id, ...run) });
      logger.info({ model: manifest.id }, 'LM open');
    } catch (error) {
      logger.error({ err: error, model: manifest.id }, 'LM cannot be opened');
      await holding.lose(resident, error);
    }
  }

  function enter(manifest: ModelManifest): Resident {
    const resident: Resident = { manifest, lane: createLane(limits, turns.wake), lm: null, lastUsed: 0, closing: null };
    holding.add(resident);
    admission = admission.then(() => admit(resident));
    return resident;
  }

  return {
    lane(manifest) {
      const resident = holding.find(manifest) ?? enter(manifest);
      resident.lastUsed = ++uses;
      return resident.lane;
    },
    peek: (manifest) => holding.find(manifest)?.lane ?? null,
    held: () => [...holding.all].map(told),
    drain: (milliseconds) => drain(holding.all, milliseconds),
    async close() {
      clearInterval(expiry);
      await admission;
      await Promise.all([...holding.all].map(holding.discard));
    },
  };
}

function told({ manifest, lane }: Resident): { id: string; bytes: number; waiting: number } {
  return { id: manifest.id, bytes: manifest.weightBytes, waiting: lane.waiting() };
}

/** What is entered meanwhile is ended too. */
async function drain(all: ReadonlySet<Resident>, milliseconds: number): Promise<void> {
  const done = new AbortController();
  const allIdle = Promise.all([...all].map(({ lane }) => lane.idle()));
  await Promise.race([allIdle, sleep(milliseconds, undefined, { signal: done.signal }).catch(() => undefined)]);
  done.abort();
  const stopping = new PtunedError('inference_unavailable', 'The inference process is stopping; try again.');
  for (const { lane } of all) lane.fail(stopping);
}
