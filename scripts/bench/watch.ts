/** What a process took of the machine, and what others took meanwhile, as Linux tells; zeros elsewhere. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

export interface Taken {
  /** High-water mark of resident memory, mapped files included. */
  peakBytes: number;
  /** Share of all cores' time that other processes used meanwhile. */
  others: number;
}

const ticksPerSecond = 100;

/** Watches until `end` is called, before the process is gone from the system's tables or shortly after. */
export function watchProcess(pid: number): { end(): Taken } {
  const begun = performance.now();
  const busyBefore = machineTicks();
  let peakBytes = 0;
  let ticks = 0;
  const look = () => {
    // Both only grow, so the last look has them.
    peakBytes = Math.max(peakBytes, highWaterMark(pid));
    ticks = Math.max(ticks, processTicks(pid));
  };
  const timer = setInterval(look, 50);
  return {
    end() {
      clearInterval(timer);
      look();
      const seconds = (performance.now() - begun) / 1000;
      const others = (machineTicks() - busyBefore - ticks) / ticksPerSecond;
      return { peakBytes, others: Math.max(0, others / (seconds * cpus().length)) };
    },
  };
}

/** Resident memory of a process now. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

function highWaterMark(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

/** User and system time; the name in parentheses before them may hold anything. */
function processTicks(pid: number): number {
  const fields = read(`/proc/${pid}/stat`).split(') ').at(-1)!.split(' ');
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
}

/** Time that was not idle, of all cores: user, nice, system, interrupts, and what a hypervisor took. */
function machineTicks(): number {
  const fields = /^cpu +(.*)$/m.exec(read('/proc/stat'))?.[1]?.split(' ').map(Number) ?? [];
  return [0, 1, 2, 5, 6, 7].reduce((total, i) => total + (fields[i] ?? 0), 0);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
