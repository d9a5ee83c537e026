/** Where the encoder of an encoder-decoder LM ends whose export is one graph. */
import { valuesRead } from '../autodiff/prune.ts';
import type { Graph } from '../onnx/ir.ts';

/**
 * The last value that all of a text passes through before a decoder's ids meet it: what the encoder yields. Null where there
 * is none.
 * @param text the word embeddings of the text
 * @param decoderIds the input with the decoder's ids
 */
export function findEncoded(graph: Graph, text: string, decoderIds: string): string | null {
  const lastRead = new Map<string, number>();
  for (const [place, node] of graph.nodes.entries()) for (const name of valuesRead(node)) lastRead.set(name, place);
  const ofText = new Set([text]);
  const ofAnswer = new Set([decoderIds]);
  // The last place at which a value of the text is read that was computed before.
  let open = lastRead.get(text) ?? 0;
  let found: string | null = null;
  for (const [place, node] of graph.nodes.entries()) {
    const read = [...valuesRead(node)];
    if (read.some((name) => ofAnswer.has(name))) {
      for (const name of node.outputs) ofAnswer.add(name);
    } else if (node.op !== 'Shape' && read.some((name) => ofText.has(name))) {
      const [only] = node.outputs;
      if (open <= place && node.outputs.length === 1) found = only!;
      for (const name of node.outputs) {
        ofText.add(name);
        open = Math.max(open, lastRead.get(name) ?? 0);
      }
    }
  }
  return found;
}
