/** Where in the network a node is, in words. */
import { PtunedError } from '../errors.ts';
import type { Inspected } from './inspect.ts';

/** What config.json calls the number of layers. */
const layerNames = ['num_hidden_layers', 'n_layer', 'n_layers', 'num_layers', 'encoder_layers'];

/** `node 412 of 1034, about layer 5 of 12`; layers are taken to be equally long, behind the word embeddings. */
export function placeOf(lm: Inspected, name: string): string {
  const { nodes } = lm.model.graph;
  const at = nodes.findIndex((node) => node.name === name);
  if (name === '' || at < 0) return 'between the word embeddings and the logits';
  const layers = layerNames.map((one) => Number(lm.config.raw[one])).find((one) => Number.isInteger(one) && one > 0);
  const start = nodes.findIndex((node) => node.name === lm.embedding.node);
  const place = `node ${at + 1} of ${nodes.length}`;
  if (layers === undefined || at < start) return place;
  const share = (at - start) / (nodes.length - start);
  return `${place}, about layer ${Math.min(layers, Math.floor(share * layers) + 1)} of ${layers}`;
}

/** Adds to an op's refusal where in the network that op is. */
export function placing<T>(lm: Inspected, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PtunedError) || error.code !== 'unsupported_op') throw error;
    const place = placeOf(lm, String(error.details.node ?? ''));
    const message = `${error.message.replace(/\.$/, '')} (${place}; opset ${lm.opset}).`;
    throw new PtunedError('unsupported_op', message, { details: { ...error.details, opset: lm.opset }, cause: error });
  }
}
