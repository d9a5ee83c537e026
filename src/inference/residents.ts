/** The LMs that are open: opened when first asked for, closed when another needs their memory, one always kept. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PtunedError } from '../errors.ts';
import type { LmOptions } from '../lm/types.ts';
import type { Logger } from '../logger.ts';
import type { ModelManifest } from '../models/manifest.ts';
import { createLane, type Lane } from './lane.ts';
import type { Limits } from './limits.ts';
import type { RunContext } from './runs.ts';
import type { OpenServingLm, ServingLm } from './threaded-lm.ts';
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

interface Resident {
  manifest: ModelManifest;
  lane: Lane;
  lm: ServingLm | null;
  lastUsed: number;
  /** Set once it is being closed. */
  closing: Promise<void> | null;
}

export function createResidents({ openLm, options, limits, logger, observe }: ResidentsOptions): Residents {
  const turns = createTurns();
  /** By id and hash; one that is about to be closed is only in `held`. */
  const current = new Map<string, Resident>();
  const held = new Set<Resident>();
  let admission: Promise<void> = Promise.resolve();
  let uses = 0;
  const expiry = setInterval(() => {
    for (const { lane } of held) lane.expire();
  }, 250).unref();

  function forget(resident: Resident): void {
    const key = keyOf(resident.manifest);
    if (current.get(key) === resident) current.delete(key);
  }

  function discard(resident: Resident): Promise<void> {
    forget(resident);
    resident.closing ??= finish(resident);
    return resident.closing;
  }

  async function finish(resident: Resident): Promise<void> {
    const { lane, lm, manifest } = resident;
    await lane.idle();
    turns.leave(lane);
    await lm?.close().catch((error) => logger.warn({ err: error, model: manifest.id }, 'LM did not close'));
    held.delete(resident);
  }

  function lose(resident: Resident, error: unknown): Promise<void> {
    forget(resident);
    resident.lane.fail(error);
    return discard(resident);
  }

  /** Closes least recently used LMs, idle ones first. One that is busy finishes what it has been given. */
  async function makeRoom(resident: Resident): Promise<void> {
    for (;;) {
      const others = [...held].filter((other) => other !== resident && other.lm !== null);
      const bytes = others.reduce((sum, { manifest }) => sum + manifest.weightBytes, resident.manifest.weightBytes);
      if (others.length === 0 || bytes <= limits.lmBytes) return;
      others.sort((a, b) => Number(a.lane.busy()) - Number(b.lane.busy()) || a.lastUsed - b.lastUsed);
      logger.info({ model: others[0]!.manifest.id }, 'closing an LM to make room');
      await discard(others[0]!);
    }
  }

  async function admit(resident: Resident): Promise<void> {
    const { manifest, lane } = resident;
    // All who asked for it may have gone meanwhile.
    if (lane.busy()) await makeRoom(resident);
    if (!lane.busy()) return discard(resident);
    try {
      const lm = await openLm(manifest, options);
      resident.lm = lm;
      lm.lost?.then((error) => (resident.closing === null ? lose(resident, error) : undefined));
      const context = { width: manifest.embedding.width, pad: manifest.specialTokens.pad ?? 0 };
      const predictor = await lm.predictor();
      lane.start({ ...context, predictor, observe: (...run) => observe(manifest.id, ...run) });
      logger.info({ model: manifest.id }, 'LM open');
    } catch (error) {
      logger.error({ err: error, model: manifest.id }, 'LM cannot be opened');
      await lose(resident, error);
    }
  }

  function enter(manifest: ModelManifest): Resident {
    const resident: Resident = { manifest, lane: createLane(limits, turns.wake), lm: null, lastUsed: 0, closing: null };
    current.set(keyOf(manifest), resident);
    held.add(resident);
    turns.join(resident.lane);
    admission = admission.then(() => admit(resident));
    return resident;
  }

  return {
    lane(manifest) {
      const resident = current.get(keyOf(manifest)) ?? enter(manifest);
      resident.lastUsed = ++uses;
      return resident.lane;
    },
    peek: (manifest) => current.get(keyOf(manifest))?.lane ?? null,
    held: () =>
      [...held].map(({ manifest, lane }) => ({
        id: manifest.id,
        bytes: manifest.weightBytes,
        waiting: lane.waiting(),
      })),
    async drain(milliseconds) {
      const done = new AbortController();
      const allIdle = Promise.all([...held].map(({ lane }) => lane.idle()));
      await Promise.race([allIdle, sleep(milliseconds, undefined, { signal: done.signal }).catch(() => undefined)]);
      done.abort();
      const stopping = new PtunedError('inference_unavailable', 'The inference process is stopping; try again.');
      for (const { lane } of held) lane.fail(stopping);
    },
    async close() {
      clearInterval(expiry);
      await admission;
      await Promise.all([...held].map(discard));
    },
  };
}

function keyOf({ id, hash }: ModelManifest): string {
  return `${id} ${hash}`;
}
