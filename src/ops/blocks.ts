/** Weights of MatMulNBits as floats: their packed bytes are read where they lie, as elements of 4 or 8 bits. */
import type { DType } from '../onnx/dtype.ts';
import { elementCount, intAttribute } from '../onnx/ir.ts';
import type { VjpContext } from './op.ts';
import { castLike, unsupported } from './shared.ts';

interface Blocks {
  /** Rows and columns of W [N, K]; blocks a row, elements a block. */
  rows: number;
  columns: number;
  blocks: number;
  size: number;
  bits: 2 | 4 | 8;
  /** Block of each column, [K]; null: columns in order. */
  groups: string | null;
}

/** W [N, K]. The last block of a row may reach past K. @throws PtunedError unsupported_op for forms without a rule */
export function dequantizedBlocks(c: VjpContext): string {
  const b = c.builder;
  const form = blocksOf(c);
  const { rows, columns, blocks, size, bits } = form;
  const scales = b.op('Reshape', [c.input(2), b.constant('int64', [rows, blocks])]);
  if (form.groups !== null) return regrouped(c, form, scales);
  const points = bits === 2 ? null : packedPoints(c, form);
  if (bits === 2 || points === null) return shifted(c, form, scales);
  const packed = view(c, 1, [rows, blocks * size], bits);
  return firstColumns(c, b.op('DequantizeLinear', [packed, scales, points], { axis: 1, block_size: size }), columns);
}

function blocksOf(c: VjpContext): Blocks {
  const [columns, rows] = [intAttribute(c.node, 'K', 0), intAttribute(c.node, 'N', 0)];
  const size = intAttribute(c.node, 'block_size', 0);
  const bits = intAttribute(c.node, 'bits', 4);
  if (bits !== 2 && bits !== 4 && bits !== 8)
    throw unsupported(c.node, `has weights of ${bits} bits; 2, 4 and 8 have a gradient rule`);
  if (intAttribute(c.node, 'weight_prepacked', 0) !== 0)
    throw unsupported(c.node, 'has weights packed for one kind of GPU, which have no gradient rule');
  return { rows, columns, blocks: Math.ceil(columns / size), size, bits, groups: c.node.inputs[4] || null };
}

/** [N, n] of the first columns of [N, …]. */
function firstColumns(c: VjpContext, value: string, columns: number): string {
  const b = c.builder;
  if (b.shape(value)[1] === columns) return value;
  return b.op('Slice', [value, b.constant('int64', [0]), b.constant('int64', [columns]), b.constant('int64', [1])]);
}

/** Input i, whose bytes stay where they are, as unsigned elements of 4 or 8 bits. */
function view(c: VjpContext, i: number, dims: number[], bits: 4 | 8): string {
  const found = c.builder.graph.initializers.get(c.input(i));
  const count = (elementCount(dims) * bits) / 8;
  if (found === undefined || found.dtype !== 'uint8' || elementCount(found.dims) !== count)
    throw unsupported(c.node, `has an input ${i} that is not ${count} bytes of constant weights`);
  const dtype: DType = bits === 4 ? 'uint4' : 'uint8';
  return c.builder.initializer('packed', { dtype, dims, data: found.data });
}

/** Input i as floats [N, count], not scaled. Rows are padded to whole bytes; pairs of 2 bits are read as one of 4. */
function integers(c: VjpContext, i: number, { rows, bits }: Blocks, count: number): string {
  const b = c.builder;
  const stored = (Math.ceil((count * bits) / 8) * 8) / bits;
  const one = castLike(b, b.constant('float32', 1), c.input(2));
  if (bits !== 2) return firstColumns(c, b.op('DequantizeLinear', [view(c, i, [rows, stored], bits), one]), count);
  const pairs = b.op('DequantizeLinear', [view(c, i, [rows, stored / 2], 4), one]);
  const four = castLike(b, b.constant('float32', 4), c.input(2));
  const high = b.op('Floor', [b.op('Div', [pairs, four])]);
  const low = b.op('Sub', [pairs, b.op('Mul', [high, four])]);
  const columns = [low, high].map((part) => b.op('Unsqueeze', [part, b.constant('int64', [-1])]));
  const both = b.op('Concat', columns, { axis: -1 });
  return firstColumns(c, b.op('Reshape', [both, b.constant('int64', [rows, stored])]), count);
}

/** Zero points as DequantizeLinear takes them; null where they are floats, or rows are padded to whole bytes. */
function packedPoints(c: VjpContext, { rows, blocks, bits }: Blocks): string | null {
  const width = bits === 4 ? 4 : 8;
  if ((c.node.inputs[3] ?? '') === '') {
    const bytes = new Uint8Array(Math.ceil((rows * blocks * width) / 8)).fill(width === 4 ? 0x88 : 0x80);
    const dtype: DType = width === 4 ? 'uint4' : 'uint8';
    return c.builder.initializer('zero_points', { dtype, dims: [rows, blocks], data: bytes });
  }
  if (c.builder.type(c.input(3)).dtype !== 'uint8') return null;
  return width === 4 && blocks % 2 === 1 ? null : view(c, 3, [rows, blocks], width);
}

/** Zero points as floats: [N, blocks], or a scalar. Without any, the middle of the range stands for 0. */
function floatPoints(c: VjpContext, form: Blocks): string {
  const b = c.builder;
  const { rows, blocks, bits } = form;
  if ((c.node.inputs[3] ?? '') === '') return castLike(b, b.constant('float32', 2 ** (bits - 1)), c.input(2));
  if (b.type(c.input(3)).dtype === 'uint8') return integers(c, 3, form, blocks);
  return b.op('Reshape', [c.input(3), b.constant('int64', [rows, blocks])]);
}

/** (q − zero)·scale, written out block by block. */
function shifted(c: VjpContext, form: Blocks, scales: string): string {
  const b = c.builder;
  const { rows, columns, blocks, size } = form;
  const column = (value: string) => b.op('Unsqueeze', [value, b.constant('int64', [-1])]);
  const whole = integers(c, 1, form, blocks * size);
  const q = b.op('Reshape', [whole, b.constant('int64', [rows, blocks, size])]);
  const points = floatPoints(c, form);
  const centred = b.op('Sub', [q, b.shape(points).length === 0 ? points : column(points)]);
  const weight = b.op('Mul', [centred, column(scales)]);
  return firstColumns(c, b.op('Reshape', [weight, b.constant('int64', [rows, blocks * size])]), columns);
}

/** The same with the block of each column looked up (GPTQ's order of activations). */
function regrouped(c: VjpContext, form: Blocks, scales: string): string {
  const b = c.builder;
  const zero = c.node.inputs[3] ?? '';
  if (zero !== '' && b.type(zero).dtype === 'uint8')
    throw unsupported(
      c.node,
      'has packed zero points beside g_idx, which the runtime leaves out; floats have a gradient',
    );
  const { columns, blocks, size } = form;
  const groups = b.op('Slice', [form.groups!, b.constant('int64', [0]), b.constant('int64', [columns])]);
  const byColumn = (value: string) => b.op('Gather', [value, groups], { axis: 1 });
  const q = firstColumns(c, integers(c, 1, form, blocks * size), columns);
  const points = floatPoints(c, form);
  const centred = b.op('Sub', [q, b.shape(points).length === 0 ? points : byColumn(points)]);
  return b.op('Mul', [centred, byColumn(scales)]);
}
