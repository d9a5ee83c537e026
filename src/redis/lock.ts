/** One redis-server a data directory: a lock file that outlives neither its process nor its machine. */
import fs from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { PtunedError } from '../errors.ts';

interface Holder {
  pid: number;
  host: string;
  /** When the process began, as its system counts: a process id alone may be another process by now. */
  began: string | null;
}

/** On another machine (or in another container) a holder is known to live only by touching the file. */
const beatMilliseconds = 5000;
const silenceMilliseconds = 30_000;

/** Takes the lock; throws `conflict` naming the holder when it lives. */
export async function takeLock(path: string): Promise<{ release(): Promise<void> }> {
  const mine: Holder = { pid: process.pid, host: hostname(), began: await beginningOf(process.pid) };
  const text = JSON.stringify(mine);
  while (!(await create(path, text))) {
    const holder = await readHolder(path);
    if (holder !== null && (await isAlive(path, holder))) throw inUse(path, holder);
    await fs.rm(path, { force: true });
  }
  // Two starters may both have removed a dead holder's file: the later one has won.
  await setTimeout(50);
  if ((await fs.readFile(path, 'utf8')) !== text) throw inUse(path, await readHolder(path));
  const beat = setInterval(() => {
    const now = new Date();
    fs.utimes(path, now, now).catch(() => {});
  }, beatMilliseconds).unref();
  return {
    async release() {
      clearInterval(beat);
      await fs.rm(path, { force: true });
    },
  };
}

async function create(path: string, text: string): Promise<boolean> {
  try {
    await fs.writeFile(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function readHolder(path: string): Promise<Holder | null> {
  const text = await fs.readFile(path, 'utf8').catch(() => null);
  try {
    return text === null ? null : (JSON.parse(text) as Holder);
  } catch {
    return null;
  }
}

async function isAlive(path: string, holder: Holder): Promise<boolean> {
  if (holder.host === hostname()) {
    return isRunning(holder.pid) && (await beginningOf(holder.pid)) === holder.began;
  }
  const stat = await fs.stat(path).catch(() => null);
  return stat !== null && Date.now() - stat.mtimeMs < silenceMilliseconds;
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Null where the system does not tell. */
async function beginningOf(pid: number): Promise<string | null> {
  const stat = await fs.readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  // The name in the second field may hold spaces; the 22nd field is the 20th after its bracket.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

function inUse(path: string, holder: Holder | null): PtunedError {
  const who = holder === null ? 'another process' : `process ${holder.pid} on ${holder.host}`;
  return new PtunedError(
    'conflict',
    `This data directory is in use by a service that runs already (${who}; ${path}). Stop it, or choose another ` +
      'directory with PTUNED_DATA; to run more roles on these data, give all of them one REDIS_URL.',
    { param: 'PTUNED_DATA' },
  );
}
