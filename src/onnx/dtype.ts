/** ONNX element types by name, with their codes and sizes. */
import { PtunedError } from '../errors.ts';

const codes = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
  float8e4m3fn: 17,
  float8e4m3fnuz: 18,
  float8e5m2: 19,
  float8e5m2fnuz: 20,
  uint4: 21,
  int4: 22,
} as const;

export type DType = keyof typeof codes;

const names = new Map<number, DType>(Object.entries(codes).map(([name, code]) => [code, name as DType]));

export function dtypeCode(dtype: DType): number {
  return codes[dtype];
}

/** @throws PtunedError damaged_model for a code ONNX does not define. */
export function dtypeName(code: number, where: string): DType {
  const name = names.get(code);
  if (name === undefined)
    throw new PtunedError('damaged_model', `${where} has element type ${code}, which ONNX does not define.`);
  return name;
}

export function isFloat(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float16' || dtype === 'float64' || dtype === 'bfloat16';
}

const bits: Record<DType, number> = {
  float32: 32,
  uint8: 8,
  int8: 8,
  uint16: 16,
  int16: 16,
  int32: 32,
  int64: 64,
  string: 0,
  bool: 8,
  float16: 16,
  float64: 64,
  uint32: 32,
  uint64: 64,
  bfloat16: 16,
  float8e4m3fn: 8,
  float8e4m3fnuz: 8,
  float8e5m2: 8,
  float8e5m2fnuz: 8,
  uint4: 4,
  int4: 4,
};

/** Bytes of `count` elements in raw_data; 0 for strings. */
export function byteSize(dtype: DType, count: number): number {
  return Math.ceil((bits[dtype] * count) / 8);
}
