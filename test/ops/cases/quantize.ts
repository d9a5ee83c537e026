/** Products with weights in blocks of few bits. They are linear in A, so that finite differences are exact. */
import type { AttributeInit } from '../../../src/onnx/ir.ts';
import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { floats, ints, uniform } from './inputs.ts';

/** Irregular bytes. */
function bytes(shape: number[]): CaseInput {
  const count = shape.reduce((product, dim) => product * dim, 1);
  const values = Array.from({ length: count }, (_, i) => (i * 89 + 41) % 256);
  return { ...ints(values, shape), dtype: 'uint8' };
}

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

export const quantizeCases: GradientCase[] = [
  product('middle as zero point', { K: 32 }),
  product('one block a row', { K: 16 }),
  product('packed zero points', { K: 32 }, [bytes([3, 1])]),
  product('zero points padded to bytes', { K: 48 }, [bytes([3, 2])]),
  product('the last block reaches past K', { K: 24 }, [bytes([3, 1])]),
  product('zero points are floats', { K: 32 }, [floatPoints]),
  product('8 bits', { K: 32, bits: 8 }),
  product('8 bits, zero points', { K: 48, bits: 8 }, [bytes([3, 3])]),
  product('bias', { K: 32 }, [null, null, { ...uniform([3], -1, 1), dynamic: [] }]),
];
