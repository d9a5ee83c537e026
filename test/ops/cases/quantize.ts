/** Products with weights in blocks of few bits. They are linear in A, so that finite differences are exact. */
import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { bytes, floats, int32, uniform } from './inputs.ts';

const scales = (shape: number[]) =>
  floats(
    Array.from({ length: shape[0]! * shape[1]! }, (_, i) => 0.01 * (1 + (i % 7))),
    shape,
  );

interface Form {
  K: number;
  bits?: number;
  block_size?: number;
}

function product(note: string, form: Form, rest: (CaseInput | null)[] = []): GradientCase {
  const [N, bits, size] = [3, form.bits ?? 4, form.block_size ?? 16];
  const blocks = Math.ceil(form.K / size);
  const attributes: Record<string, AttributeInit> = { K: form.K, N, bits, block_size: size };
  const a: CaseInput = { ...uniform([2, 2, form.K], -1, 1), dynamic: [0, 1] };
  const inputs = [a, bytes([N, blocks, (size * bits) / 8]), scales([N, blocks]), ...rest];
  return { op: 'MatMulNBits', domain: 'com.microsoft', note, attributes, inputs, precision: 'float32' };
}

const floatPoints = floats(
  Array.from({ length: 6 }, (_, i) => 7.25 + 0.25 * i),
  [3, 2],
);

/** Irregular blocks of columns. */
function groups(columns: number): CaseInput {
  const blocks = columns / 16;
  return int32(Array.from({ length: columns }, (_, i) => (i * 7 + 1) % blocks));
}

/** FP4 (0) or NF4 (1). */
function bitsAndBytes(quant_type: number): GradientCase {
  const [K, N, block_size] = [32, 3, 16];
  const a: CaseInput = { ...uniform([2, 2, K], -1, 1), dynamic: [0, 1] };
  const absmax = floats(Array.from({ length: (N * K) / block_size }, (_, i) => 0.2 + 0.1 * i));
  const attributes = { K, N, block_size, quant_type };
  return {
    op: 'MatMulBnb4',
    domain: 'com.microsoft',
    attributes,
    inputs: [a, bytes([48]), absmax],
    precision: 'float32',
  };
}

export const quantizeCases: GradientCase[] = [
  product('middle as zero point', { K: 32 }),
  product('one block a row', { K: 16 }),
  product('packed zero points', { K: 32 }, [bytes([3, 1])]),
  product('zero points padded to bytes', { K: 48 }, [bytes([3, 2])]),
  product('the last block reaches past K', { K: 24 }, [bytes([3, 1])]),
  product('zero points are floats', { K: 32 }, [floatPoints]),
  product('8 bits', { K: 32, bits: 8 }),
  product('8 bits, zero points', { K: 48, bits: 8 }, [bytes([3, 3])]),
  product('2 bits', { K: 32, bits: 2 }),
  product('2 bits, zero points padded to bytes', { K: 48, bits: 2 }, [bytes([3, 1])]),
  product('2 bits, the last block reaches past K', { K: 40, bits: 2 }),
  product('columns in groups', { K: 32 }, [null, groups(32)]),
  product('columns in more groups', { K: 48 }, [null, groups(48)]),
  product('columns in groups, zero points are floats', { K: 32 }, [floatPoints, groups(32)]),
  bitsAndBytes(0),
  bitsAndBytes(1),
  product('bias', { K: 32 }, [null, null, { ...uniform([3], -1, 1), dynamic: [] }]),
];
