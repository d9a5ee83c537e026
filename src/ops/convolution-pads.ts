/** Settings of a convolution, with the padding that it works out itself (auto_pad, output_shape). */
import type { Dim } from '../onnx/dim.ts';
import { intAttribute, intsAttribute, type Node, stringAttribute } from '../onnx/ir.ts';

export interface Settings {
  strides: number[];
  /** Before and behind each axis; null where they depend on sizes that are not known before the run. */
  pads: number[] | null;
  dilations: number[];
  outputPadding: number[];
  group: number;
}

/** @param x shape of the input. @param w shape of the weight. */
export function settingsOf(node: Node, x: readonly Dim[], w: readonly Dim[]): Settings {
  const spatial = x.length - 2;
  const all = (value: number) => Array.from({ length: spatial }, () => value);
  const settings = {
    strides: intsAttribute(node, 'strides') ?? all(1),
    dilations: intsAttribute(node, 'dilations') ?? all(1),
    outputPadding: intsAttribute(node, 'output_padding') ?? all(0),
    group: intAttribute(node, 'group', 1),
  };
  return { ...settings, pads: padsOf(node, x.slice(2), w.slice(2), settings) };
}

function padsOf(
  node: Node,
  sizes: readonly Dim[],
  kernel: readonly Dim[],
  settings: Omit<Settings, 'pads'>,
): number[] | null {
  const mode = stringAttribute(node, 'auto_pad', 'NOTSET');
  const given = intsAttribute(node, 'pads') ?? [...sizes, ...sizes].map(() => 0);
  const asked = intsAttribute(node, 'output_shape')?.slice(-sizes.length) ?? null;
  if (asked === null && !mode.startsWith('SAME')) return mode === 'VALID' ? given.map(() => 0) : given;
  const total = sizes.map((size, i) => {
    const length = kernel[i]!;
    if (typeof length !== 'number') return null;
    const one = { size, stride: settings.strides[i]!, extent: (length - 1) * settings.dilations[i]! + 1 };
    if (node.op === 'Conv') return samePadding(one);
    return transposedPadding({ ...one, extra: settings.outputPadding[i]!, asked: asked?.[i] ?? null });
  });
  return total.every((one) => one !== null) ? halves(total, mode) : null;
}

interface Axis {
  size: Dim;
  stride: number;
  /** Places from the kernel's first to its last element. */
  extent: number;
}

/** As many results as strides fit into the axis. */
function samePadding({ size, stride, extent }: Axis): number | null {
  if (stride === 1) return extent - 1;
  if (typeof size !== 'number') return null;
  return Math.max(0, (Math.ceil(size / stride) - 1) * stride + extent - size);
}

/** What is cut off of the transposed convolution to have `asked` results, or `stride` for each element. */
function transposedPadding({ size, stride, extent, extra, asked }: Axis & { extra: number; asked: number | null }) {
  if (asked === null) return Math.max(0, extra + extent - stride);
  return typeof size === 'number' ? Math.max(0, stride * (size - 1) + extra + extent - asked) : null;
}

/** An odd place goes behind the axis with SAME_UPPER, else before it. */
function halves(total: readonly number[], mode: string): number[] {
  const less = total.map((one) => Math.floor(one / 2));
  const more = total.map((one) => Math.ceil(one / 2));
  return mode === 'SAME_UPPER' ? [...less, ...more] : [...more, ...less];
}
