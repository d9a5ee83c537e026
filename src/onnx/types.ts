/** What is known of a value before it is computed: element type, symbolic shape, and for small constants its elements. */
import { type Dim, isClampOf, sameDim, shapeText } from './dim.ts';
import { byteSize, type DType } from './dtype.ts';
import { elementCount, isExternal, type Tensor } from './ir.ts';

export interface TensorType {
  dtype: DType;
  /** Null when not even the rank is known. */
  shape: Dim[] | null;
  /** Elements in row-major order where they are known (at most {@link maxKnown}); symbolic for computed shapes. */
  value: Dim[] | null;
}

/** Known elements are tracked for tensors of at most this size: shapes, axes, scalars. */
export const maxKnown = 64;

export function typeOf(dtype: DType, shape: Dim[] | null, value: Dim[] | null = null): TensorType {
  return { dtype, shape, value: value !== null && value.length <= maxKnown ? value : null };
}

/** Type of a constant, its elements included when it is small and stored inline. */
export function typeOfTensor(tensor: Tensor): TensorType {
  const count = elementCount(tensor.dims);
  const value = count <= maxKnown && !isExternal(tensor.data) ? numbersOf(tensor) : null;
  return { dtype: tensor.dtype, shape: [...tensor.dims], value };
}

/** Elements of an inline tensor as numbers, null for types without such a form. */
export function numbersOf(tensor: Tensor): number[] | null {
  if (isExternal(tensor.data)) return null;
  // raw_data is a view into the file's bytes and may lie at any offset; slice() of a Buffer would not copy.
  const bytes = new Uint8Array(tensor.data).buffer;
  switch (tensor.dtype) {
    case 'float32':
      return [...new Float32Array(bytes)];
    case 'float64':
      return [...new Float64Array(bytes)];
    case 'int64':
      return [...new BigInt64Array(bytes)].map(Number);
    case 'uint64':
      return [...new BigUint64Array(bytes)].map(Number);
    case 'int32':
      return [...new Int32Array(bytes)];
    case 'uint32':
      return [...new Uint32Array(bytes)];
    case 'int16':
      return [...new Int16Array(bytes)];
    case 'uint16':
      return [...new Uint16Array(bytes)];
    case 'int8':
      return [...new Int8Array(bytes)];
    case 'uint8':
    case 'bool':
      return [...new Uint8Array(bytes)];
    case 'float16':
      return [...new Uint16Array(bytes)].map(halfToNumber);
    case 'bfloat16':
      return [...new Uint16Array(bytes)].map((one) => new Float32Array(new Uint32Array([one << 16]).buffer)[0]!);
    default:
      return null;
  }
}

/** IEEE 754 binary16 to number. */
export function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** An inline tensor of the given numbers. */
export function tensorOf(
  dtype: 'float32' | 'int64' | 'int32' | 'bool' | 'float16' | 'float64',
  dims: number[],
  values: readonly number[],
): Tensor {
  const bytes = (view: ArrayBufferView) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const make = (): Uint8Array => {
    switch (dtype) {
      case 'float32':
        return bytes(new Float32Array(values));
      case 'float64':
        return bytes(new Float64Array(values));
      case 'int64':
        return bytes(new BigInt64Array(values.map((one) => clampInt64(one))));
      case 'int32':
        return bytes(new Int32Array(values));
      case 'bool':
        return bytes(new Uint8Array(values));
      case 'float16':
        return bytes(new Uint16Array(values.map(numberToHalf)));
    }
  };
  const data = make();
  if (data.length !== byteSize(dtype, elementCount(dims))) {
    throw new Error(`${values.length} values do not fill a tensor of shape ${shapeText(dims)}`);
  }
  return { dtype, dims, data };
}

function clampInt64(value: number): bigint {
  if (value >= 2 ** 63) return 2n ** 63n - 1n;
  return value <= -(2 ** 63) ? -(2n ** 63n) : BigInt(value);
}

/** Number to IEEE 754 binary16, round to nearest even. */
export function numberToHalf(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0]!;
  const sign = (bits >>> 16) & 0x8000;
  const exponent = ((bits >>> 23) & 0xff) - 112;
  const fraction = bits & 0x7fffff;
  if (((bits >>> 23) & 0xff) === 0xff) return sign | 0x7c00 | (fraction === 0 ? 0 : 0x200);
  if (exponent >= 31) return sign | 0x7c00;
  if (exponent <= 0) {
    if (exponent < -10) return sign;
    return sign | roundShift(fraction | 0x800000, 14 - exponent);
  }
  return sign | ((exponent << 10) + roundShift(fraction, 13));
}

function roundShift(value: number, shift: number): number {
  const kept = value >>> shift;
  const rest = value & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (kept & 1) === 1) ? kept + 1 : kept;
}

/** Shape of two operands after numpy broadcasting; a dimension that is not provable becomes unknown. */
export function broadcastShapes(a: Dim[] | null, b: Dim[] | null, unknown: () => Dim): Dim[] | null {
  if (a === null || b === null) return null;
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i): Dim => {
    const left = a[a.length - rank + i] ?? 1;
    const right = b[b.length - rank + i] ?? 1;
    if (left === 1) return right;
    if (right === 1 || sameDim(left, right) || isClampOf(right, left)) return left;
    if (isClampOf(left, right)) return right;
    // A number other than 1 decides: the other is that number, or 1.
    if (typeof left === 'number') return left;
    return typeof right === 'number' ? right : unknown();
  });
}
