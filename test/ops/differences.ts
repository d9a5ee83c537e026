/** Gradients by finite differences, with the places told where there is none: kinks, ties, jumps. */
import { createSession, type Feed, type Session } from '../../src/onnx/session.ts';
import { inFloat64, isSeeded, type Subject, seedValues, sessionOptions } from './subject.ts';

/** d(Σ seed · y)/dx at one element of an input. */
export interface Difference {
  /** Index of the element. */
  at: number;
  value: number;
  /** Lowest and highest slope on either side where a straight line or parabola does not describe both. */
  between: [number, number] | null;
  /** Whether the slopes to the left and the right differ. */
  kink: boolean;
}

export interface Differences {
  /** By input. */
  gradients: Map<string, Difference[]>;
  outputs: Record<string, Feed>;
  precision: 'float64' | 'float32';
}

export interface DifferenceOptions {
  /** Default float64, and float32 where the runtime has no kernel for that. */
  precision?: 'float32' | 'float64';
  /** At most this many elements of each input, evenly spread. Default all. */
  most?: number;
}

/** Central differences of fourth order. Rounding of float32 asks for a wide step, which is a power of two there. */
const steps = { float64: 1e-3, float32: 2 ** -6 };

/** Of the largest slope: what tells a kink, or a jump of the curvature, from a smooth function. */
const rough = { float64: 1e-5, float32: 2e-3 };

/** @throws PtunedError when the runtime takes the graph in neither precision */
export async function finiteDifferences(subject: Subject, options: DifferenceOptions = {}): Promise<Differences> {
  const wide = options.precision === 'float32' ? null : await tryFloat64(subject, options);
  if (wide !== null) return wide;
  const session = await createSession(subject.model, sessionOptions);
  return await differences(subject, session, 'float32', options);
}

async function tryFloat64(subject: Subject, options: DifferenceOptions): Promise<Differences | null> {
  const wide = inFloat64(subject);
  try {
    return await differences(wide, await createSession(wide.model, sessionOptions), 'float64', options);
  } catch (error) {
    if (options.precision === 'float64') throw error;
    return null;
  }
}

async function differences(
  subject: Subject,
  session: Session,
  precision: 'float64' | 'float32',
  options: DifferenceOptions,
): Promise<Differences> {
  try {
    const outputs = await session.run(subject.feeds);
    const seeds = seedsOf(subject, outputs);
    const gradients = new Map<string, Difference[]>();
    for (const name of subject.variables) {
      const data = subject.feeds[name]!.data as Float64Array;
      const list: Difference[] = [];
      for (const at of places(data.length, options.most)) {
        const shift = async (steps: number) => {
          const kept = data[at]!;
          data[at] = kept + steps;
          const moved = await session.run(subject.feeds);
          data[at] = kept;
          return moved;
        };
        list.push(await slopeAt(at, precision, shift, (a, b) => functional(seeds, a, b), outputs));
      }
      gradients.set(name, list);
    }
    return { gradients, outputs, precision };
  } finally {
    await session.close();
  }
}

type Results = Record<string, Feed>;

async function slopeAt(
  at: number,
  precision: 'float64' | 'float32',
  shift: (by: number) => Promise<Results>,
  difference: (above: Results, below: Results) => number,
  here: Results,
): Promise<Difference> {
  const h = steps[precision];
  const wide = await sidesAt(2 * h, shift, difference, here);
  const near = await sidesAt(h, shift, difference, here);
  const [outer, inner] = [(wide.left + wide.right) / 2, (near.left + near.right) / 2];
  const value = (4 * inner - outer) / 3;
  const limit =
    rough[precision] * Math.max(1, ...[wide, near].flatMap(({ left, right }) => [Math.abs(left), Math.abs(right)]));
  // Curvature makes the slopes differ twice as much over twice the distance; a kink, as much or not at all.
  const kink = Math.abs(2 * (near.right - near.left) - (wide.right - wide.left)) > limit;
  if (!kink && Math.abs(inner - outer) <= limit / 8) return { at, value, between: null, kink };
  const close = await sidesAt(h / 4, shift, difference, here);
  const closest = await sidesAt(h / 8, shift, difference, here);
  // Towards the element itself both slopes run on as straight lines.
  const ends = [2 * closest.left - close.left, 2 * closest.right - close.right, closest.left, closest.right];
  return { at, value, between: [Math.min(...ends), Math.max(...ends)], kink };
}

/** Slopes to the left and to the right over a distance. */
async function sidesAt(
  distance: number,
  shift: (by: number) => Promise<Results>,
  difference: (above: Results, below: Results) => number,
  here: Results,
): Promise<{ left: number; right: number }> {
  const below = await shift(-distance);
  const above = await shift(distance);
  return { left: difference(here, below) / distance, right: difference(above, here) / distance };
}

/** Σ seed · (above − below), element by element: what does not change cancels without rounding. */
function functional(seeds: ReadonlyMap<string, Float64Array>, above: Results, below: Results): number {
  let sum = 0;
  for (const [name, seed] of seeds) {
    const [a, b] = [above[name]!.data, below[name]!.data];
    for (let k = 0; k < seed.length; k++) if (a[k] !== b[k]) sum += seed[k]! * (Number(a[k]) - Number(b[k]));
  }
  return sum;
}

function seedsOf(subject: Subject, outputs: Results): Map<string, Float64Array> {
  const seeds = new Map<string, Float64Array>();
  for (const [i, { name }] of subject.model.graph.outputs.entries()) {
    const { data, dtype } = outputs[name]!;
    if (isSeeded(subject, name, dtype)) seeds.set(name, seedValues(data.length, i));
  }
  return seeds;
}

function places(count: number, most = count): number[] {
  const step = Math.max(1, count / most);
  return Array.from({ length: Math.min(count, most) }, (_, i) => Math.floor(i * step));
}
