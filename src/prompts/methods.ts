/** Prompt encoders as parameters and a forward; their gradients come from the engine in src/autodiff. */
import type { GraphBuilder } from '../onnx/builder.ts';
import { embeddingParameters, linear, linearParameters, lstm, lstmParameters, type ParameterSpec } from './layers.ts';
import type { EncoderType } from './schema.ts';
import type { EncoderShape } from './types.ts';

export interface PromptMethod {
  /** Why this shape cannot be encoded, or null. */
  refuse(shape: EncoderShape): string | null;
  parameters(shape: EncoderShape): ParameterSpec[];
  /** Emits the encoder; parameters are values under their own names. Returns [n, width]. */
  forward(builder: GraphBuilder, shape: EncoderShape): string;
}

/** The paper's encoder: E [n, H], bidirectional LSTM with H/2 a direction, Linear–ReLU–Linear (arXiv 2103.10385, §3.2). */
const lstmMethod: PromptMethod = {
  refuse: ({ width }) =>
    width % 2 === 0 ? null : `the LSTM encoder needs an even embedding width, this LM has ${width}`,
  parameters: ({ layers, virtualTokens, width, base }) => [
    ...embeddingParameters('embedding', virtualTokens, width),
    ...lstmParameters('lstm', layers, width, width / 2),
    ...linearParameters('mlp.0', width, width),
    ...linearParameters('mlp.2', width, width, base !== null),
  ],
  forward(builder, { layers, virtualTokens, width }) {
    const rows = lstm(builder, 'lstm', layers, virtualTokens, width / 2, 'embedding.weight');
    return linear(builder, 'mlp.2', builder.op('Relu', [linear(builder, 'mlp.0', rows)]));
  },
};

/** PEFT's default reparameterisation: E, then three linear layers with ReLU between. */
const mlpMethod: PromptMethod = {
  refuse: () => null,
  parameters: ({ virtualTokens, width, base }) => [
    ...embeddingParameters('embedding', virtualTokens, width),
    ...linearParameters('mlp_head.0', width, width),
    ...linearParameters('mlp_head.2', width, width),
    ...linearParameters('mlp_head.4', width, width, base !== null),
  ],
  forward(builder) {
    const first = builder.op('Relu', [linear(builder, 'mlp_head.0', 'embedding.weight')]);
    return linear(builder, 'mlp_head.4', builder.op('Relu', [linear(builder, 'mlp_head.2', first)]));
  },
};

/** No reparameterisation: the table itself is trained (prompt tuning); with init words it starts at zero beside them. */
const embeddingMethod: PromptMethod = {
  refuse: () => null,
  parameters: ({ virtualTokens, width, base }) => {
    const [spec] = embeddingParameters('embedding', virtualTokens, width);
    return base === null ? [spec!] : [{ ...spec!, initialise: () => new Float32Array(virtualTokens * width) }];
  },
  forward: (builder) => builder.op('Identity', ['embedding.weight']),
};

/** PEFT's PrefixEncoder with prefix_projection: E, then Linear–tanh–Linear to the keys and values of every layer. */
const projectionMethod: PromptMethod = {
  refuse: ({ projection }) => (projection === undefined ? 'its inner widths are not given' : null),
  parameters: ({ virtualTokens, width, base, projection }) => {
    const { embedding, hidden } = projection!;
    return [
      ...embeddingParameters('embedding', virtualTokens, embedding),
      ...linearParameters('transform.0', embedding, hidden),
      ...linearParameters('transform.2', hidden, width, base !== null),
    ];
  },
  forward(builder) {
    const inner = builder.op('Tanh', [linear(builder, 'transform.0', 'embedding.weight')]);
    return linear(builder, 'transform.2', inner);
  },
};

export const promptMethods: Readonly<Record<EncoderType, PromptMethod>> = {
  lstm: lstmMethod,
  mlp: mlpMethod,
  embedding: embeddingMethod,
  projection: projectionMethod,
};
