/** Ops that an LM's file may hold and that have no gradient rule, each with the reason that a refusal gives. */
import { typeOf } from '../onnx/types.ts';
import type { Infer, Op } from './op.ts';

const infer: Infer = (node) => node.outputs.map(() => typeOf('float32', null));

/** One reason for several ops, each with its opsets. */
function refused(missing: string, names: Record<string, readonly number[]>, domain = ''): Op[] {
  return Object.entries(names).map(([name, opsets]): Op => ({ name, domain, opsets, infer, vjp: { missing } }));
}

/** onnxruntime's own, each of one version. */
function refusedOfMicrosoft(missing: string, names: readonly string[]): Op[] {
  return refused(missing, Object.fromEntries(names.map((name) => [name, [1]])), 'com.microsoft');
}

const control = [11, 13, 16, 19, 21, 23, 24, 25];

export const refusedOps: Op[] = [
  ...refused('which branch is taken depends on the input; export the LM with the branch it takes in training', {
    If: control,
  }),
  ...refused('how many steps it takes is known to the run alone; export the LM with its steps unrolled', {
    Loop: control,
    Scan: [11, 16, 19, 21, 23, 24, 25],
    SequenceMap: [17],
  }),
  ...refused('recurrent layers have none; LMs made of attention, convolution and products do', {
    GRU: [11, 14, 22],
    LSTM: [11, 14, 22],
    RNN: [11, 14, 22],
  }),
  ...refused('it works on lists of tensors; export the LM with Split and Concat', {
    ConcatFromSequence: [11],
    SequenceAt: [11],
    SequenceConstruct: [11],
    SequenceEmpty: [11],
    SequenceErase: [11],
    SequenceInsert: [11],
    SequenceLength: [11],
    SplitToSequence: [11, 24],
  }),
  ...refused('it works on values that may be absent', {
    Optional: [15],
    OptionalGetElement: [15, 18],
    OptionalHasElement: [15, 18],
  }),
  ...refused('it works on images', {
    AffineGrid: [20],
    AveragePool: [11, 19, 22],
    CenterCropPad: [18],
    Col2Im: [18],
    DeformConv: [19, 22],
    DepthToSpace: [11, 13],
    GlobalLpPool: [11, 22],
    GridSample: [16, 20, 22],
    LRN: [11, 13],
    LpPool: [11, 18, 22],
    MaxPool: [11, 12, 22],
    MaxRoiPool: [11, 22],
    MaxUnpool: [11, 22],
    Resize: [11, 13, 18, 19],
    RoiAlign: [11, 16, 22],
    SpaceToDepth: [11, 13],
    Upsample: [11],
  }),
  ...refused('it works on complex numbers', { DFT: [17, 20], STFT: [17] }),
  ...refused('it draws random numbers; export the LM in evaluation mode', {
    Bernoulli: [15, 22],
    Multinomial: [11, 22],
    RandomNormalLike: [11, 22],
    RandomUniformLike: [11, 22],
  }),
  ...refused('it is a loss; export the LM without labels, up to its logits', {
    NegativeLogLikelihoodLoss: [12, 13, 22],
    SoftmaxCrossEntropyLoss: [12, 13],
  }),
  ...refused('it works on texts', {
    RegexFullMatch: [20],
    StringConcat: [20],
    StringNormalizer: [11],
    StringSplit: [20],
    TfIdfVectorizer: [11],
  }),
  ...refused('it writes into a cache of fixed size; export the LM without one, or with past_key_values', {
    TensorScatter: [24],
  }),
  ...refused('no LM that is exported today has it', {
    BitCast: [26],
    CumProd: [26],
    Det: [11, 22],
    LpNormalization: [11, 22],
    Unique: [11],
  }),
  ...refused('it was replaced by ScatterElements in opset 11', { Scatter: [11] }),
  ...refused('it computes with integers, with a scale for each channel', { ConvInteger: [11], QLinearConv: [11] }),
  ...refusedOfMicrosoft(
    'it works on rows without padding, written for serving on a GPU; take the LM before that step',
    ['PackedAttention', 'PackedMultiHeadAttention', 'PagedAttention', 'RemovePadding', 'RestorePadding'],
  ),
  ...refusedOfMicrosoft('it decodes one token with a shared cache; take the LM before that step', [
    'DecoderAttention',
    'DecoderMaskedMultiHeadAttention',
    'DecoderMaskedSelfAttention',
  ]),
  ...refusedOfMicrosoft('it generates whole texts; take the decoder in it', [
    'BeamSearch',
    'GreedySearch',
    'Sampling',
    'WhisperBeamSearch',
  ]),
  ...refusedOfMicrosoft('attention to some of the keys has none', ['LongformerAttention', 'SparseAttention']),
  ...refusedOfMicrosoft('fused experts have none; export the LM with its experts as products', ['MoE', 'QMoE']),
  ...refusedOfMicrosoft('recurrent layers have none; LMs made of attention, convolution and products do', [
    'CausalConvWithState',
    'DynamicQuantizeLSTM',
    'GatedDeltaNet',
    'LinearAttention',
  ]),
  ...refusedOfMicrosoft('it is written for GPUs alone; take the LM before it was optimized for one', [
    'BiasAdd',
    'BiasDropout',
    'BiasSoftmax',
    'BiasSplitGelu',
    'BitmaskBiasDropout',
    'BitmaskDropout',
    'FusedMatMulActivation',
    'GatedRelativePositionBias',
    'GemmFastGelu',
    'GemmFloat8',
    'GroupNorm',
    'QOrderedAttention',
    'QOrderedGelu',
    'QOrderedLayerNormalization',
    'QOrderedMatMul',
    'SkipGroupNorm',
  ]),
  ...refusedOfMicrosoft('its kind of quantized weights has none; MatMulNBits, MatMulBnb4 and DequantizeLinear do', [
    'MatMulFpQ4',
    'MatMulInteger16',
    'QLinearConv',
  ]),
];
