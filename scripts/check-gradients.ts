/** `npm run check:gradients -- FOLDER…`: loss and prompt gradient of exported LMs against recorded references. */
import { existsSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { checkReference } from '../src/tuning/reference.ts';

const tolerance = (name: string) => (/fp16|bf16/.test(name) ? 3e-2 : 1e-4);

async function check(folder: string): Promise<boolean> {
  const name = basename(folder);
  if (!existsSync(join(folder, 'reference.safetensors'))) {
    console.log(`${name.padEnd(18)} refused: no reference.safetensors in ${folder}`);
    return false;
  }
  try {
    const { lossError, gradientError, trajectoryError } = await checkReference(folder);
    const limit = tolerance(name);
    const good = lossError < limit && gradientError < limit && (trajectoryError ?? 0) < limit;
    const trajectory = trajectoryError === null ? '' : `  trajectory ${trajectoryError.toExponential(2)}`;
    const verdict = good ? 'ok' : `above ${limit}`;
    console.log(
      `${name.padEnd(18)} loss ${lossError.toExponential(2)}  gradient ${gradientError.toExponential(2)}${trajectory}  ${verdict}`,
    );
    return good;
  } catch (error) {
    if (process.env.PTUNED_STACKS) console.log(error);
    console.log(`${name.padEnd(18)} refused: ${(error as Error).message}`);
    return false;
  }
}

// A shell's * also names files beside the folders.
const folders = process.argv.slice(2).filter((path) => !existsSync(path) || statSync(path).isDirectory());
if (folders.length === 0) {
  console.error('usage: npm run check:gradients -- FOLDER…');
  process.exit(2);
}
let failures = 0;
for (const folder of folders) if (!(await check(folder))) failures++;
console.log(`${folders.length - failures} passed, ${failures} failed`);
process.exitCode = failures > 0 ? 1 : 0;
