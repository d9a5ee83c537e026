/** Where a session's time goes, from onnxruntime's own profile. */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { sum } from './statistics.ts';

export interface OpTime {
  /** Op as the runtime executes it, after its fusions. */
  op: string;
  /** Milliseconds a run. */
  ms: number;
  /** Nodes a run. */
  count: number;
}

interface Event {
  cat: string;
  name: string;
  dur: number;
  args?: { op_name?: string };
}

/** Times by op of the session that ran longest among the profiles with this prefix, which are removed. */
export function opTimes(prefix: string): OpTime[] {
  const folder = dirname(prefix);
  const files = readdirSync(folder).filter((name) => name.startsWith(basename(prefix)));
  const profiles = files.map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as Event[]);
  rmSync(folder, { recursive: true, force: true });
  const total = (events: readonly Event[]) => sum(kernels(events).map(({ dur }) => dur));
  const longest = profiles.reduce((a, b) => (total(b) > total(a) ? b : a), []);
  return byOp(longest);
}

function kernels(events: readonly Event[]): Event[] {
  return events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time'));
}

function byOp(events: readonly Event[]): OpTime[] {
  const runs = events.filter(({ name }) => name === 'model_run').length || 1;
  const times = new Map<string, OpTime>();
  for (const { dur, args } of kernels(events)) {
    const op = args?.op_name ?? 'unknown';
    const found = times.get(op) ?? { op, ms: 0, count: 0 };
    times.set(op, { op, ms: found.ms + dur / 1000 / runs, count: found.count + 1 / runs });
  }
  return [...times.values()].sort((a, b) => b.ms - a.ms);
}
