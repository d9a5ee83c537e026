/** Whether a session packs its weights for products, or multiplies with them where they are mapped. */
import { totalmem } from 'node:os';
import { type Graph, isExternal } from './ir.ts';

/** Packed copies that a training step makes of a weight at most: one for each direction. */
const copies = 2;
const largest = 2 ** 30;
const share = 1 / 4;

/**
 * Packed copies pay where they are small. Measured on GPT-2 124M (622 MiB of weights), packed against mapped: processor time
 * of a training step 0.58 at 24 tokens, 0.89 at 96, 0.93 at 256; peak memory 1.5 to 1.9 times. On an LM of 2.6 GB at 256 tokens
 * the step takes as long, and 5.6 GB instead of 3.3. So: weights up to 1 GiB whose copies take a quarter of the memory at
 * most. Of all the memory there is, not of what is free now: sums differ in the last bit, and a job that goes on after a
 * restart must find the same ones.
 * @param weights bytes in files, which are mapped unless they are packed
 * @param memory bytes of the machine, or of its container
 */
export function prepackPays(weights: number, memory: number): boolean {
  return weights <= largest && copies * weights <= share * memory;
}

/** Bytes of the initializers that lie in files. */
export function mappedBytes({ initializers }: Graph): number {
  let bytes = 0;
  for (const { data } of initializers.values()) if (isExternal(data)) bytes += data.length;
  return bytes;
}

/** Memory of the machine, or of the container that this process is in. */
export function memoryLimit(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(totalmem(), limit) : totalmem();
}
