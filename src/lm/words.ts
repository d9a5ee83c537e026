/** An LM's word embeddings, looked up as the LM itself does, quantized tables included. */
import { createSession, type Feed, type SessionOptions } from '../onnx/session.ts';
import { feeds } from './feeds.ts';
import type { Inspected } from './inspect.ts';
import { embeddingProgram, type Program, productsProgram } from './programs.ts';
import type { Lm } from './types.ts';

export type Words = Pick<Lm, 'embeddings' | 'meanEmbedding' | 'products' | 'close'>;

/** Numbers of word embeddings looked up at once for products: 16 MB. */
const blockNumbers = 1 << 22;

/** Sessions are opened when they are first needed. */
export function createWords(lm: Inspected, options: SessionOptions): Words {
  const lookup = lazily(embeddingProgram(lm, lm.embedding.weight), options);
  const product = lazily(productsProgram(lm), options);
  const { width } = lm.embedding;
  return {
    embeddings: (ids) => lookup.run({ [feeds.ids]: idsFeed(ids) }, 0),
    meanEmbedding: () => lookup.run({ [feeds.ids]: idsFeed([0]) }, 1),
    async products(vector) {
      const all = new Float32Array(lm.vocabularySize);
      const block = Math.max(1, Math.floor(blockNumbers / width));
      for (let start = 0; start < all.length; start += block) {
        const ids = Array.from({ length: Math.min(block, all.length - start) }, (_, i) => start + i);
        const direction: Feed = { dtype: 'float32', dims: [width], data: vector };
        all.set(await product.run({ [feeds.ids]: idsFeed(ids), [feeds.vector]: direction }, 0), start);
      }
      return all;
    },
    async close() {
      await lookup.close();
      await product.close();
    },
  };
}

function idsFeed(ids: readonly number[]): Feed {
  return { dtype: 'int64', dims: [ids.length], data: BigInt64Array.from(ids, BigInt) };
}

function lazily(program: Program, options: SessionOptions) {
  let opened: ReturnType<typeof createSession> | null = null;
  const open = () => (opened ??= createSession(program.model, { ...options, device: 'cpu', prepack: false }));
  return {
    async run(given: Record<string, Feed>, output: number): Promise<Float32Array> {
      const name = program.outputs[output]!;
      return (await (await open()).run(given, [name]))[name]!.data as Float32Array;
    },
    async close() {
      await (await opened)?.close();
      opened = null;
    },
  };
}
