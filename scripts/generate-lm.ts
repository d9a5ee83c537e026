/**
 * `npm run generate:lm -- gpt2 DIRECTORY [--layers 12 --hidden 768 …]` writes an LM of the family's
 * shape with random weights as external data, ready for `ptuned models add`. Any size: the weights are written as a stream.
 */
import { Argument, Command, InvalidArgumentError } from 'commander';
import { families } from './lms/registry.ts';
import type { Head, Precision } from './lms/shape.ts';
import { writeLm } from './lms/write.ts';

interface Options {
  layers?: number;
  hidden?: number;
  heads?: number;
  keyValueHeads?: number;
  intermediate?: number;
  vocabulary?: number;
  positions?: number;
  precision: Precision;
  head: Head;
  cache: boolean;
  seed: number;
}

function generate(name: string, directory: string, { precision, head, cache, seed, ...shape }: Options): void {
  const family = families.get(name);
  if (family === undefined) throw new Error(`${name} is no family`);
  const written = writeLm(directory, family, { shape, precision, head, cache, seed });
  const { layers, hidden, vocabulary } = written.shape;
  const size = (written.weightBytes / 2 ** 20).toFixed(1);
  console.log(
    `${directory}: ${name} of ${layers} layers, hidden ${hidden}, vocabulary ${vocabulary}; weights ${size} MiB`,
  );
}

const count = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('A whole number is expected.');
  return value;
};
const oneOf = <T extends string>(...accepted: T[]) => (text: string): T => {
  if (!(accepted as string[]).includes(text)) throw new InvalidArgumentError(`Accepted: ${accepted.join(', ')}.`);
  return text as T;
}; // biome-ignore format: one idea
new Command('generate-lm')
  .addArgument(new Argument('<family>').choices([...families.keys()]))
  .argument('<directory>', 'where to write it')
  .option('--layers <count>', '', count)
  .option('--hidden <width>', '', count)
  .option('--heads <count>', '', count)
  .option('--key-value-heads <count>', 'fewer than heads: grouped-query attention', count)
  .option('--intermediate <width>', 'of the feed-forward layer', count)
  .option('--vocabulary <tokens>', '', count)
  .option('--positions <tokens>', 'longest sequence', count)
  .option('--precision <type>', 'float32 or float16', oneOf('float32', 'float16'), 'float32')
  .option('--head <kind>', 'copy (transposed copy of the embedding) or tied', oneOf('copy', 'tied'), 'copy')
  .option('--cache', 'keys and values as inputs and outputs, as Optimum exports for text-generation-with-past', false)
  .option('--seed <number>', '', count, 0)
  .action(generate)
  .parse();
