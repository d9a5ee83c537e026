/** Parameters and their moments where the kernel reads and writes them, without a copy at any step. */
import { type Gradient, mostTerms, type OuterProducts } from '../../prompts/gradients.ts';
import { kernel } from './kernel.generated.ts';

/** Constants of one update, as kernel.wat names them. */
export interface UpdateConstants {
  /** Added to the gradient, times the parameter. */
  decay: number;
  /** What is left of the parameter before the step. */
  keep: number;
  /** 1 − β1, β2, 1 − β2. */
  fresh1: number;
  beta2: number;
  fresh2: number;
  /** lr / (1 − β1^t) */
  step: number;
  /** 1 / √(1 − β2^t) */
  correction: number;
  epsilon: number;
}

interface Kernel {
  update(p: number, m: number, v: number, g: number, count: number, ...constants: number[]): void;
  outer_rows(
    out: number,
    left: number,
    right: number,
    terms: number,
    rows: number,
    columns: number,
    count: number,
  ): void;
}

interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

/** What is used of the global that TypeScript only knows beside a browser's. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: unknown };
  Memory: new (pages: { initial: number; maximum: number }) => WasmMemory;
};

/** One parameter in the kernel's memory; the arrays are views of it, and their owners' from then on. */
export interface Place {
  readonly p: Float32Array;
  readonly m: Float32Array;
  readonly v: Float32Array;
  update(gradient: Gradient, constants: UpdateConstants): void;
}

export interface PlaceRequest {
  shape: readonly number[];
  p: Float32Array;
  m: Float32Array;
  v: Float32Array;
}

const module = new WebAssembly.Module(Buffer.from(kernel, 'base64'));
const pageBytes = 65_536;
/** WebAssembly addresses 4 GiB: more parameters than half of it holds are spread over several memories. */
const mostBytes = 2 ** 31;
/**
 * Elements of a gradient that are copied in or computed at a time: they stay in the cache until they are used, and are
 * enough for the processor to read the state ahead as fast as its memory is.
 */
const chunk = 32_768;

/** Moves parameters into as few memories as hold them. */
export function createPlaces(requests: readonly PlaceRequest[]): Place[] {
  const groups: PlaceRequest[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const request of requests) {
    const size = 3 * aligned(request.p.length);
    if (bytes + size > mostBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(request);
    bytes += size;
  }
  return groups.flatMap(placesInOneMemory);
}

/** Bytes of so many elements, up to a whole cache line. */
function aligned(count: number): number {
  return Math.ceil(count / 16) * 64;
}

/** Rows of so many columns that make a chunk; the kernel computes them two by two. */
function rowsAtOnce(columns: number): number {
  return Math.max(2, 2 * Math.floor(chunk / (2 * columns)));
}

/** Some rows and the outer products of a gradient, or a part of a whole one. */
function workElements({ shape }: PlaceRequest): number {
  if (shape.length !== 2) return chunk;
  const [rows, columns] = shape as [number, number];
  return Math.max(chunk, rowsAtOnce(columns) * columns + mostTerms * (rows + columns));
}

function placesInOneMemory(requests: readonly PlaceRequest[]): Place[] {
  const work = requests.reduce((sum, { p }) => sum + 3 * aligned(p.length), 0);
  const bytes = work + 4 * Math.max(...requests.map(workElements));
  const pages = Math.ceil(bytes / pageBytes);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const { exports } = new WebAssembly.Instance(module, { host: { memory } });
  let next = 0;
  const take = (source: Float32Array): Float32Array => {
    const view = new Float32Array(memory.buffer, next, source.length);
    view.set(source);
    next += aligned(source.length);
    return view;
  };
  return requests.map(({ p, m, v }) =>
    placeOf(exports as Kernel, { p: take(p), m: take(m), v: take(v) }, memory, work),
  );
}

/** `work`: where the kernel's memory is free for gradients. */
function placeOf(run: Kernel, views: Omit<Place, 'update'>, memory: WasmMemory, work: number): Place {
  const write = (at: number, values: Float32Array) => new Float32Array(memory.buffer, at, values.length).set(values);
  const apply = (from: number, gradient: number, count: number, c: UpdateConstants) => {
    const [p, m, v] = [views.p, views.m, views.v].map((view) => view.byteOffset + 4 * from) as [number, number, number];
    run.update(p, m, v, gradient, count, c.decay, c.keep, c.fresh1, c.beta2, c.fresh2, c.step, c.correction, c.epsilon);
  };
  const updateByParts = (gradient: Float32Array, constants: UpdateConstants) => {
    for (let at = 0; at < gradient.length; at += chunk) {
      const part = gradient.subarray(at, at + chunk);
      write(work, part);
      apply(at, work, part.length, constants);
    }
  };
  const updateByRows = ({ terms, left, right }: OuterProducts, constants: UpdateConstants) => {
    const [rows, columns] = [left.length / terms, right.length / terms];
    const some = rowsAtOnce(columns);
    const leftAt = work + 4 * some * columns;
    const rightAt = leftAt + 4 * left.length;
    write(leftAt, left);
    write(rightAt, right);
    for (let row = 0; row < rows; row += some) {
      const count = Math.min(some, rows - row);
      run.outer_rows(work, leftAt + 4 * row, rightAt, terms, rows, columns, count);
      apply(row * columns, work, count * columns, constants);
    }
  };
  return {
    ...views,
    update(gradient, constants) {
      if (gradient instanceof Float32Array) updateByParts(gradient, constants);
      else updateByRows(gradient, constants);
    },
  };
}
