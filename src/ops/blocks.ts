/** Weights of MatMulNBits as floats: their packed bytes are read where they lie, as elements of 4 or 8 bits. */
import type { DType } from '../onnx/dtype.ts';
import { elementCount, intAttribute } from '../onnx/ir.ts';
import type { VjpContext } from './op.ts';
import { unsupported } from './shared.ts';

interface Blocks {
  /** Rows and columns of W [N, K]; blocks a row, elements a block. */
  rows: number;
  columns: number;
  blocks: number;
  size: number;
  bits: number;
}

/** W [N, K]. The last block of a row may reach past K. @throws PtunedError unsupported_op for forms without a rule */
export function dequantizedBlocks(c: VjpContext): string {
  const b = c.builder;
  const form = blocksOf(c);
  const { rows, columns, blocks, size } = form;
  const packed = view(c, 1, [rows, blocks * size], form.bits);
  const scales = b.op('Reshape', [c.input(2), b.constant('int64', [rows, blocks])]);
  const zero = c.node.inputs[3] ?? '';
  const points = zero === '' ? middle(c, form) : packedPoints(c, form);
  const whole =
    points === null
      ? shifted(c, form, packed, scales)
      : b.op('DequantizeLinear', [packed, scales, points], { axis: 1, block_size: size });
  if (blocks * size === columns) return whole;
  return b.op('Slice', [whole, b.constant('int64', [0]), b.constant('int64', [columns]), b.constant('int64', [1])]);
}

function blocksOf(c: VjpContext): Blocks {
  const [columns, rows] = [intAttribute(c.node, 'K', 0), intAttribute(c.node, 'N', 0)];
  const size = intAttribute(c.node, 'block_size', 0);
  const bits = intAttribute(c.node, 'bits', 4);
  if (bits !== 4 && bits !== 8) throw unsupported(c.node, `has weights of ${bits} bits; 4 and 8 have a gradient rule`);
  if ((c.node.inputs[4] ?? '') !== '')
    throw unsupported(c.node, 'has its columns in groups (g_idx), which has no gradient rule');
  return { rows, columns, blocks: Math.ceil(columns / size), size, bits };
}

/** Input i, whose bytes stay where they are, as unsigned elements of `bits` bits. */
function view(c: VjpContext, i: number, dims: number[], bits: number): string {
  const found = c.builder.graph.initializers.get(c.input(i));
  const count = (elementCount(dims) * bits) / 8;
  if (found === undefined || found.dtype !== 'uint8' || elementCount(found.dims) !== count)
    throw unsupported(c.node, `has an input ${i} that is not ${count} bytes of constant weights`);
  const dtype: DType = bits === 4 ? 'uint4' : 'uint8';
  return c.builder.initializer('packed', { dtype, dims, data: found.data });
}

/** Without zero points the middle of the range stands for 0. */
function middle(c: VjpContext, { rows, blocks, bits }: Blocks): string {
  const bytes = new Uint8Array(Math.ceil((rows * blocks * bits) / 8)).fill(bits === 4 ? 0x88 : 0x80);
  const dtype: DType = bits === 4 ? 'uint4' : 'uint8';
  return c.builder.initializer('zero_points', { dtype, dims: [rows, blocks], data: bytes });
}

/** Zero points as DequantizeLinear takes them; null where they are floats, or rows are padded to whole bytes. */
function packedPoints(c: VjpContext, { rows, blocks, bits }: Blocks): string | null {
  if (c.builder.type(c.input(3)).dtype !== 'uint8') return null;
  return bits === 4 && blocks % 2 === 1 ? null : view(c, 3, [rows, blocks], bits);
}

/** (q − zero)·scale, written out. */
function shifted(c: VjpContext, { rows, blocks, size, bits }: Blocks, packed: string, scales: string): string {
  const b = c.builder;
  const one = b.constant('float32', 1);
  const column = b.constant('int64', [rows, blocks, 1]);
  const float = b.type(c.input(3)).dtype === 'uint8' ? padded() : c.input(3);
  const q = b.op('Reshape', [b.op('DequantizeLinear', [packed, one]), b.constant('int64', [rows, blocks, size])]);
  const centred = b.op('Sub', [q, b.op('Reshape', [float, column])]);
  const weight = b.op('Mul', [centred, b.op('Reshape', [scales, column])]);
  return b.op('Reshape', [weight, b.constant('int64', [rows, blocks * size])]);

  function padded(): string {
    const all = b.op('DequantizeLinear', [view(c, 3, [rows, blocks + (bits === 4 ? 1 : 0)], bits), one]);
    const at = (value: number) => b.constant('int64', [value]);
    return b.op('Slice', [all, at(0), at(blocks), at(1)]);
  }
}
