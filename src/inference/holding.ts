/** LMs in memory: which is the current one of its id, and how they leave when room is needed or their thread is lost. */
import type { Logger } from '../logger.ts';
import type { ModelManifest } from '../models/manifest.ts';
import type { Lane } from './lane.ts';
import type { Limits } from './limits.ts';
import type { ServingLm } from './threaded-lm.ts';
import type { Turns } from './turns.ts';

export interface Resident {
  manifest: ModelManifest;
  lane: Lane;
  lm: ServingLm | null;
  lastUsed: number;
  /** Set once it is being closed. */
  closing: Promise<void> | null;
}

export interface Holding {
  /** All in memory, also those that are about to be closed. */
  readonly all: ReadonlySet<Resident>;
  /** The one that takes requests for this LM. */
  find(manifest: ModelManifest): Resident | undefined;
  add(resident: Resident): void;
  /** Takes no more requests, finishes what it has been given, and is closed. */
  discard(resident: Resident): Promise<void>;
  /** Its LM is gone: all that waits for it fails. */
  lose(resident: Resident, error: unknown): Promise<void>;
  /** Discards least recently used LMs, idle ones first, until this one fits. */
  makeRoom(resident: Resident): Promise<void>;
}

export function createHolding(limits: Pick<Limits, 'lmBytes'>, logger: Logger, turns: Turns): Holding {
  /** By id and hash. */
  const current = new Map<string, Resident>();
  const all = new Set<Resident>();

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
    all.delete(resident);
  }

  return {
    all,
    find: (manifest) => current.get(keyOf(manifest)),
    add(resident) {
      current.set(keyOf(resident.manifest), resident);
      all.add(resident);
      turns.join(resident.lane);
    },
    discard,
    lose(resident, error) {
      forget(resident);
      resident.lane.fail(error);
      return discard(resident);
    },
    async makeRoom(resident) {
      for (;;) {
        const others = [...all].filter((other) => other !== resident && other.lm !== null);
        const bytes = others.reduce((sum, { manifest }) => sum + manifest.weightBytes, resident.manifest.weightBytes);
        if (others.length === 0 || bytes <= limits.lmBytes) return;
        others.sort((a, b) => Number(a.lane.busy()) - Number(b.lane.busy()) || a.lastUsed - b.lastUsed);
        logger.info({ model: others[0]!.manifest.id }, 'closing an LM to make room');
        await discard(others[0]!);
      }
    },
  };
}

function keyOf({ id, hash }: ModelManifest): string {
  return `${id} ${hash}`;
}
