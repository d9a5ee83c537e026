/** A disk whose n-th call fails, once or from then on (a killed process), before or after it took effect. */
import fs from 'node:fs/promises';
import type { Disk } from '../../src/artifacts/disk.ts';

export interface Fault {
  /** Index of the first failing call; Infinity for none. */
  at: number;
  /** `once`: the disk recovers. `forever`: as if the process had been killed there. */
  lasting: 'once' | 'forever';
  /** Whether the failing call does its work first. */
  effect: 'before' | 'after';
}

export function faultyDisk(fault: Fault): { disk: Disk; calls: () => number } {
  let calls = 0;

  async function step<T>(work: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> {
    const index = calls++;
    const failing = fault.lasting === 'once' ? index === fault.at : index >= fault.at;
    if (!failing) return work();
    if (index === fault.at && fault.effect === 'after') await work();
    else if (index === fault.at) await half?.();
    throw Object.assign(new Error('EIO: injected'), { code: 'EIO', syscall: 'test' });
  }

  const wrapped = {
    mkdir: (...given: Parameters<typeof fs.mkdir>) => step(() => fs.mkdir(...given)),
    rename: (...given: Parameters<typeof fs.rename>) => step(() => fs.rename(...given)),
    rm: (...given: Parameters<typeof fs.rm>) => step(() => fs.rm(...given)),
    readdir: (path: string) => step(() => fs.readdir(path)),
    stat: (path: string) => step(() => fs.stat(path)),
    async open(...given: Parameters<typeof fs.open>) {
      let file!: fs.FileHandle;
      await step(async () => {
        file = await fs.open(...given);
      }).catch(async (error) => {
        await file?.close();
        throw error;
      });
      return {
        stat: () => step(() => file.stat()),
        readFile: () => step(() => file.readFile()),
        sync: () => step(() => file.sync()),
        writeFile: (bytes: Uint8Array) =>
          step(
            () => file.writeFile(bytes),
            () => file.writeFile(bytes.subarray(0, bytes.length >> 1)),
          ),
        // The descriptor is really closed whatever the fault says: the operating system does so for a killed process.
        close: () => file.close().then(() => step(async () => undefined)),
      };
    },
  };
  return { disk: wrapped as unknown as Disk, calls: () => calls };
}
