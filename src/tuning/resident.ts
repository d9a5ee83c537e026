/**
 * Keeps LMs open between jobs: a second job of the same LM finds its sessions ready, and jobs that run at once share
 * them. What nobody uses is closed when something else has to be opened.
 */
import { createHash } from 'node:crypto';
import type { Lm, OpenLm, Scorer, Trainer } from '../lm/types.ts';
import type { Candidates } from '../tasks/types.ts';
import { createPack, type Pack } from './pack.ts';

/** Tokens of a step that jobs share. Measured up to 1,536, where a token costs a third of what it costs among 96. */
const sharedTokens = 2048;

interface Closable {
  close(): Promise<void>;
}

/** Parts by what they are made of, each opened once and counted. */
interface Shelf<T extends Closable> {
  /** The part, which `close` gives back; opened by `open` where it is not there. */
  borrow(key: string, open: () => Promise<T>): Promise<{ part: T; giveBack(): void }>;
  /** Closes what is not borrowed. */
  clear(): Promise<void>;
}

export function createShelf<T extends Closable>(): Shelf<T> {
  const entries = new Map<string, { part: Promise<T>; users: number }>();

  async function clear(): Promise<void> {
    for (const [key, { part, users }] of [...entries]) {
      if (users > 0) continue;
      entries.delete(key);
      await (await part).close();
    }
  }

  return {
    clear,
    async borrow(key, open) {
      let entry = entries.get(key);
      if (entry === undefined) {
        entry = { part: clear().then(open), users: 0 };
        entries.set(key, entry);
      }
      const mine = entry;
      mine.users++;
      let isBack = false;
      const giveBack = () => {
        if (!isBack) mine.users--;
        isBack = true;
      };
      try {
        return { part: await mine.part, giveBack };
      } catch (error) {
        if (entries.get(key) === mine) entries.delete(key);
        throw error;
      }
    },
  };
}

/** An open LM with the trainers and scorers that were made of it. */
interface Resident extends Closable {
  lm: Lm;
  trainers: Shelf<PackedTrainer>;
  scorers: Shelf<Scorer>;
}

interface PackedTrainer extends Closable {
  half: boolean;
  pack: Pack;
}

/** An `openLm` whose LMs stay open when they are closed. */
export function createResidentLms(openLm: OpenLm): OpenLm {
  const lms = createShelf<Resident>();
  return async (manifest, options) => {
    const key = JSON.stringify([manifest.hash, manifest.directory, options]);
    const { part, giveBack } = await lms.borrow(key, async () => createResident(await openLm(manifest, options)));
    return { ...view(part), manifest, close: async () => giveBack() };
  };
}

function createResident(lm: Lm): Resident {
  const trainers = createShelf<PackedTrainer>();
  const scorers = createShelf<Scorer>();
  return {
    lm,
    trainers,
    scorers,
    async close() {
      await trainers.clear();
      await scorers.clear();
      await lm.close();
    },
  };
}

/** An LM as one job has it. Its rows share steps with those of the other jobs that train with the same candidates. */
function view({ lm, trainers, scorers }: Resident): Lm {
  const away: (() => void)[] = [];
  return {
    ...lm,
    async trainer(...[candidates, ...rest]: Parameters<Lm['trainer']>): Promise<Trainer> {
      const { part, giveBack } = await trainers.borrow(keyOf(candidates, rest), async () => {
        const trainer = await lm.trainer(candidates, ...rest);
        // Keys and values before the first token are one table for the whole batch.
        const mostTokens = rest[0] === 'past' ? 0 : sharedTokens;
        const pack = createPack(trainer, { pad: lm.manifest.specialTokens.pad ?? 0, mostTokens });
        return { pack, half: trainer.half ?? false, close: () => trainer.close() };
      });
      const member = part.pack.join();
      away.push(member.leave);
      return {
        half: part.half,
        step: member.step,
        async close() {
          member.quit();
          giveBack();
        },
      };
    },
    async scorer(...[candidates, ...rest]: Parameters<Lm['scorer']>): Promise<Scorer> {
      const { part, giveBack } = await scorers.borrow(keyOf(candidates, rest), () => lm.scorer(candidates, ...rest));
      return {
        ...part,
        score(...batch) {
          // While a job is scored the others train on without it.
          for (const leave of away) leave();
          return part.score(...batch);
        },
        close: async () => giveBack(),
      };
    },
  };
}

function keyOf({ count, width, ids, weights }: Candidates, rest: readonly unknown[]): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([count, width, rest]));
  for (const { buffer, byteOffset, byteLength } of [ids, weights]) {
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  }
  return hash.digest('hex');
}
