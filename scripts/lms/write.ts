/** Writes a whole LM folder with random weights, in the layout of the Hugging Face Hub. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeModel } from '../../src/onnx/encode.ts';
import { createAuthor, weightFile } from './author.ts';
import { type Family, lmShape } from './registry.ts';
import type { Head, LmShape, Precision } from './shape.ts';
import { byteTokenizer } from './tokenizer.ts';
import { writeWeights } from './weights.ts';

export interface LmOptions {
  shape?: Partial<LmShape>;
  /** Default float32. */
  precision?: Precision;
  /** Default: a transposed copy of the embedding, as Optimum writes tied weights. */
  head?: Head;
  /** Keys and values as inputs and outputs (causal LMs), as Optimum exports for text-generation-with-past. Default false. */
  cache?: boolean;
  seed?: number;
}

export interface WrittenLm {
  directory: string;
  shape: LmShape;
  weightBytes: number;
}

/** What exporters wrote in the years of the LMs this project is measured with. */
const opset = 18;

/** The same options write the same bytes. Weights are drawn from a uniform distribution of deviation 0.02. */
export function writeLm(directory: string, family: Family, options: LmOptions = {}): WrittenLm {
  const { precision = 'float32', head = 'copy', cache = false, seed = 0 } = options;
  const shape = lmShape(family, options.shape);
  const author = createAuthor(family.name, precision, head, cache);
  const { builder, weights } = author;
  const logits = builder.type(family.logits(author, shape));
  builder.graph.nodes.at(-1)!.outputs = ['logits'];
  builder.graph.outputs.unshift({ name: 'logits', dtype: logits.dtype, shape: logits.shape });
  mkdirSync(directory, { recursive: true });
  const files = byteTokenizer(shape.vocabulary);
  const json = (name: string, value: unknown) => writeFileSync(join(directory, name), `${JSON.stringify(value)}\n`);
  json('config.json', family.config(shape));
  json('tokenizer.json', files.tokenizer);
  json('tokenizer_config.json', { ...files.config, model_max_length: shape.positions });
  const model = { irVersion: 8, producer: '', opsets: new Map([['', opset]]), graph: builder.graph, functions: [] };
  writeFileSync(join(directory, 'model.onnx'), encodeModel(model));
  writeWeights(join(directory, weightFile), weights, precision, seed);
  const elements = weights.map((one) => one.dims.reduce((product, dim) => product * dim, 1));
  const weightBytes = elements.reduce((sum, one) => sum + one, 0) * (precision === 'float32' ? 4 : 2);
  return { directory, shape, weightBytes };
}
