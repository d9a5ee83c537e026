/** Scaled dot-product attention in its fused forms. */
import { PtunedError } from '../../errors.ts';
import { describeNode, floatAttribute, intAttribute, intsAttribute } from '../../onnx/ir.ts';
import { count, joinHeads, knownDim, lengthOf, splitHeads, wide } from './heads.ts';
import type { LowerContext, LoweringFamily } from './lower.ts';
import { rotate, rotationAt } from './rotary.ts';

interface AttentionInputs {
  /** [B, N, S, D] */
  q: string;
  /** [B, M, T, D]; M divides N. */
  k: string;
  /** [B, M, T, E] */
  v: string;
  /** Added to the scores; broadcast to [B, N, S, T]. */
  biases: string[];
  /** Truth values: which keys a query may see; broadcast to [B, N, S, T]. */
  allowed: string[];
  scale: number;
  softcap: number;
}

const lowest = -3.4028234663852886e38;

/** softmax(q·kᵀ·scale + bias)·v [B, N, S, E], and the probabilities. */
function attend(c: LowerContext, inputs: AttentionInputs): string {
  const { q } = inputs;
  const groups = knownDim(c, q, 1, 'the number of heads') / knownDim(c, inputs.k, 1, 'the number of key heads');
  const [k, v] = [repeatHeads(c, inputs.k, groups), repeatHeads(c, inputs.v, groups)];
  const scale = inputs.scale || 1 / Math.sqrt(knownDim(c, q, -1, 'the head size'));
  const product = c.op('MatMul', [q, c.op('Transpose', [k], { perm: [0, 1, 3, 2] })]);
  let scores = c.op('Mul', [product, c.scalar(scale, q)]);
  if (inputs.softcap > 0) {
    const cap = c.scalar(inputs.softcap, q);
    scores = c.op('Mul', [c.op('Tanh', [c.op('Div', [scores, cap])]), cap]);
  }
  for (const bias of inputs.biases) scores = c.op('Add', [scores, bias]);
  const allowed = inputs.allowed.reduce<string | null>(
    (all, one) => (all === null ? one : c.op('And', [all, one])),
    null,
  );
  if (allowed !== null) scores = c.op('Where', [allowed, scores, c.scalar(lowest, q)]);
  return c.op('MatMul', [c.op('Softmax', [scores], { axis: -1 }), v]);
}

/** [B, M, T, D] to [B, M·groups, T, D], each head several times in a row. */
function repeatHeads(c: LowerContext, x: string, groups: number): string {
  if (groups === 1) return x;
  const stretched = c.op('Expand', [c.op('Unsqueeze', [x, c.ints([2])]), c.ints([1, 1, groups, 1, 1])]);
  const heads = knownDim(c, x, 1, 'the number of key heads') * groups;
  return c.op('Reshape', [stretched, c.ints([0, heads, -1, knownDim(c, x, -1, 'the head size')])]);
}

/** [S, T]: keys up to the query's own place, which is `past` keys further on. A window hides keys that lie further back. */
function causal(c: LowerContext, q: string, k: string, past: string | null, window = -1): string {
  const rows = c.op('Unsqueeze', [count(c, lengthOf(c, q, 2), past), c.ints([1])]);
  const columns = count(c, lengthOf(c, k, 2));
  const before = c.op('LessOrEqual', [columns, rows]);
  if (window <= 0) return before;
  const near = c.op('Greater', [columns, c.op('Sub', [rows, c.builder.constant('int64', window)])]);
  return c.op('And', [before, near]);
}

/** Keys or values behind those of the past, where there are any. */
function withPast(c: LowerContext, past: string | null, x: string): string {
  return past === null ? x : c.op('Concat', [past, x], { axis: 2 });
}

/**
 * Padding of com.microsoft's attention as something to add to the scores: [B] counts of keys, [B, T] or [B, S, T] or
 * [B, 1, S, T] of zeros and ones.
 */
function paddingBias(c: LowerContext, mask: string, k: string): string {
  const filter = c.scalar(floatAttribute(c.node, 'mask_filter_value', -10000), k);
  const rank = c.builder.shape(mask).length;
  let seen: string;
  if (rank === 1) {
    const counts = c.op('Unsqueeze', [wide(c, mask), c.ints([1, 2, 3])]);
    seen = c.op('Less', [count(c, lengthOf(c, k, 2)), counts]);
  } else {
    const axes = rank === 2 ? [1, 2] : rank === 3 ? [1] : [];
    const placed = axes.length === 0 ? mask : c.op('Unsqueeze', [mask, c.ints(axes)]);
    seen = c.op('Cast', [placed], { to: 9 });
  }
  return c.op('Where', [seen, c.scalar(0, k), filter]);
}

function refuse(c: LowerContext, what: string): never {
  throw new PtunedError('unsupported_op', `${describeNode(c.node)} ${what}, for which there is no gradient.`, {
    details: { op: c.node.op, domain: c.node.domain, node: c.node.name },
  });
}

/** com.microsoft.Attention: input projection included. */
function attention(c: LowerContext): string[] {
  const heads = intAttribute(c.node, 'num_heads', 1);
  if (intAttribute(c.node, 'do_rotary', 0) === 1) refuse(c, 'has do_rotary');
  const product = c.op('MatMul', [c.required(0), c.required(1)]);
  const projected = c.input(2) === null ? product : c.op('Add', [product, c.required(2)]);
  const width = knownDim(c, projected, -1, 'the hidden size') / 3;
  const sizes = intsAttribute(c.node, 'qkv_hidden_sizes') ?? [width, width, width];
  const parts = c.builder.emit('Split', [projected, c.ints(sizes)], { axis: -1 }, { outputs: 3 });
  const [q, newK, newV] = parts.map((one) => splitHeads(c, one, heads));
  const past = c.input(4);
  const [pastK, pastV] =
    past === null ? [null, null] : [0, 1].map((i) => c.op('Gather', [past, scalarIndex(c, i)], { axis: 0 }));
  const [k, v] = [withPast(c, pastK!, newK!), withPast(c, pastV!, newV!)];
  const mask = c.input(3);
  const y = attend(c, {
    q: q!,
    k,
    v,
    biases: [mask === null ? null : paddingBias(c, mask, k), c.input(5)].filter((one) => one !== null),
    allowed: intAttribute(c.node, 'unidirectional', 0) === 1 ? [causal(c, q!, k, pastLength(c, pastK!))] : [],
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: 0,
  });
  const present = () =>
    c.op(
      'Concat',
      [k, v].map((one) => c.op('Unsqueeze', [one, c.ints([0])])),
      { axis: 0 },
    );
  return [joinHeads(c, y), c.node.outputs[1] ? present() : ''];
}

function scalarIndex(c: LowerContext, i: number): string {
  return c.builder.constant('int64', i);
}

function pastLength(c: LowerContext, past: string | null): string | null {
  return past === null ? null : lengthOf(c, past, 2);
}

/** com.microsoft.MultiHeadAttention: query, key and value projected already. */
function multiHeadAttention(c: LowerContext): string[] {
  const heads = intAttribute(c.node, 'num_heads', 1);
  const [query, key, value] = [c.required(0), c.input(1), c.input(2)];
  if (key === null || value === null) return refuse(c, 'takes packed query, key and value');
  const bias = c.input(3);
  const width = knownDim(c, query, -1, 'the hidden size');
  const parts = bias === null ? [] : splitBias(c, bias, width);
  const headsOf = (x: string, i: number) =>
    c.builder.shape(x).length === 4
      ? x
      : splitHeads(c, parts[i] === undefined ? x : c.op('Add', [x, parts[i]!]), heads);
  const [q, newK, newV] = [query, key, value].map(headsOf);
  const [k, v] = [withPast(c, c.input(6), newK!), withPast(c, c.input(7), newV!)];
  const mask = c.input(4);
  const y = attend(c, {
    q: q!,
    k,
    v,
    biases: [mask === null ? null : paddingBias(c, mask, k), c.input(5)].filter((one) => one !== null),
    allowed: intAttribute(c.node, 'unidirectional', 0) === 1 ? [causal(c, q!, k, pastLength(c, c.input(6)))] : [],
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: 0,
  });
  return [joinHeads(c, y), k, v];
}

function splitBias(c: LowerContext, bias: string, width: number): string[] {
  const total = knownDim(c, bias, 0, 'the size of the bias');
  return c.builder.emit('Split', [bias, c.ints([width, width, total - 2 * width])], { axis: 0 }, { outputs: 3 });
}

/**
 * com.microsoft.GroupQueryAttention, always causal. Rows are padded on the right, so that no query of a token sees
 * padding; counts of keys by row (seqlens_k) then change nothing that is read.
 */
function groupQueryAttention(c: LowerContext): string[] {
  const [heads, keyHeads] = [intAttribute(c.node, 'num_heads', 1), intAttribute(c.node, 'kv_num_heads', 1)];
  if (c.input(11) !== null || intAttribute(c.node, 'smooth_softmax', 0) === 1) refuse(c, 'has attention sinks');
  const [query, key, value] =
    c.input(1) === null ? packedParts(c, heads, keyHeads) : [c.required(0), c.required(1), c.required(2)];
  const past = pastLength(c, c.input(3));
  let q = splitHeads(c, query!, heads);
  let newK = splitHeads(c, key!, keyHeads);
  if (intAttribute(c.node, 'do_rotary', 0) === 1) {
    const places = c.input(9) ?? c.op('Unsqueeze', [count(c, lengthOf(c, q, 2), past), c.ints([0])]);
    const interleaved = intAttribute(c.node, 'rotary_interleaved', 0) === 1;
    const rotation = rotationAt(c, places, { cos: c.required(7), sin: c.required(8) }, interleaved);
    [q, newK] = [rotate(c, q, rotation), rotate(c, newK, rotation)];
  }
  const [k, v] = [withPast(c, c.input(3), newK), withPast(c, c.input(4), splitHeads(c, value!, keyHeads))];
  const bias = c.input(10);
  const y = attend(c, {
    q,
    k,
    v,
    biases: bias === null ? [] : [bias],
    allowed: [causal(c, q, k, past, intAttribute(c.node, 'local_window_size', -1))],
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: floatAttribute(c.node, 'softcap', 0),
  });
  return [joinHeads(c, y), k, v];
}

function packedParts(c: LowerContext, heads: number, keyHeads: number): string[] {
  const size = knownDim(c, c.required(0), -1, 'the hidden size') / (heads + 2 * keyHeads);
  const sizes = c.ints([heads * size, keyHeads * size, keyHeads * size]);
  return c.builder.emit('Split', [c.required(0), sizes], { axis: -1 }, { outputs: 3 });
}

/** Attention of ONNX (opset 23). */
function onnxAttention(c: LowerContext): string[] {
  if (c.node.outputs[3]) refuse(c, 'yields its scores');
  if (c.input(6) !== null) refuse(c, 'has nonpad_kv_seqlen');
  const flat = c.builder.shape(c.required(0)).length === 3;
  const headsOf = (i: number, attribute: string) =>
    flat ? splitHeads(c, c.required(i), intAttribute(c.node, attribute, 1)) : c.required(i);
  const q = headsOf(0, 'q_num_heads');
  const k = withPast(c, c.input(4), headsOf(1, 'kv_num_heads'));
  const v = withPast(c, c.input(5), headsOf(2, 'kv_num_heads'));
  const mask = c.input(3);
  const truth = mask !== null && c.builder.type(mask).dtype === 'bool';
  const y = attend(c, {
    q,
    k,
    v,
    biases: mask === null || truth ? [] : [mask],
    allowed: [
      ...(truth ? [mask!] : []),
      ...(intAttribute(c.node, 'is_causal', 0) === 1 ? [causal(c, q, k, pastLength(c, c.input(4)))] : []),
    ],
    scale: floatAttribute(c.node, 'scale', 0),
    softcap: floatAttribute(c.node, 'softcap', 0),
  });
  return [flat ? joinHeads(c, y) : y, k, v];
}

export const attentionLowerings: LoweringFamily = {
  'com.microsoft.Attention': attention,
  'com.microsoft.MultiHeadAttention': multiHeadAttention,
  'com.microsoft.GroupQueryAttention': groupQueryAttention,
  Attention: onnxAttention,
};
