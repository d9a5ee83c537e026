/**
 * Symbolic dimensions: integers, or polynomials with integer coefficients over named symbols ("batch", "sequence").
 * Two dimensions are equal only where that is provable; different symbols may still be equal at run time.
 */

interface Polynomial {
  /** Canonical spelling; equal polynomials have equal keys. */
  readonly key: string;
  /** Monomial (sorted symbols joined by "*", "" for the constant) to coefficient. */
  readonly terms: ReadonlyMap<string, number>;
}

/** Of a product, before equal ones are put together. */
const mostTerms = 256;
const highestDegree = 16;

export type Dim = number | Polynomial;

export function symbol(name: string): Dim {
  return fromTerms(new Map([[name.replaceAll('*', '_'), 1]]));
}

let unknowns = 0;
/** A dimension of which nothing is known; equal only to itself. */
export function unknownDim(): Dim {
  return symbol(`?${unknowns++}`);
}

export function dimKey(dim: Dim): string {
  return typeof dim === 'number' ? String(dim) : dim.key;
}

export function sameDim(a: Dim, b: Dim): boolean {
  return dimKey(a) === dimKey(b);
}

export function sameShape(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((dim, i) => sameDim(dim, b[i]!));
}

export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  const terms = new Map(termsOf(a));
  for (const [monomial, coefficient] of termsOf(b)) {
    terms.set(monomial, (terms.get(monomial) ?? 0) + coefficient);
  }
  return fromTerms(terms);
}

export function multiplyDims(a: Dim, b: Dim): Dim {
  // + 0: no negative zeros.
  if (typeof a === 'number' && typeof b === 'number') return a * b + 0;
  // A hostile file could square a sum of symbols until no memory is left.
  if (termsOf(a).size * termsOf(b).size > mostTerms || degreeOf(a) + degreeOf(b) > highestDegree) return unknownDim();
  const terms = new Map<string, number>();
  for (const [left, x] of termsOf(a)) {
    for (const [right, y] of termsOf(b)) {
      const monomial = joinMonomials(left, right);
      terms.set(monomial, (terms.get(monomial) ?? 0) + x * y);
    }
  }
  return fromTerms(terms);
}

export function subtractDims(a: Dim, b: Dim): Dim {
  return addDims(a, multiplyDims(-1, b));
}

/** a / b where b divides a for certain (b an integer or a single monomial), else null. */
export function divideDims(a: Dim, b: Dim): Dim | null {
  if (typeof a === 'number' && typeof b === 'number') return b !== 0 && a % b === 0 ? a / b : null;
  if (sameDim(a, b)) return 1;
  const divisor = [...termsOf(b)];
  if (divisor.length !== 1) return null;
  const [symbols, coefficient] = divisor[0]!;
  const terms = new Map<string, number>();
  for (const [monomial, value] of termsOf(a)) {
    const rest = removeSymbols(monomial, symbols);
    if (rest === null || value % coefficient !== 0) return null;
    terms.set(rest, value / coefficient);
  }
  return fromTerms(terms);
}

/** min(limit, dim): a dimension that exporters clamp to the size of a buffer. */
export function clampDim(limit: number, dim: Dim): Dim {
  return typeof dim === 'number' ? Math.min(limit, dim) : symbol(clampName(limit, dim));
}

function clampName(limit: number, dim: Dim): string {
  return `min(${limit},${dimKey(dim)})`.replaceAll('*', '_');
}

/** Whether `a` is min(limit, b) with limit above 1: where both stand in one broadcast they must be equal. */
export function isClampOf(a: Dim, b: Dim): boolean {
  if (typeof a === 'number' || typeof b === 'number') return false;
  const limit = Number(/^min\((\d+),/.exec(a.key)?.[1] ?? 0);
  return limit > 1 && a.key === clampName(limit, b);
}

export function productOf(dims: readonly Dim[]): Dim {
  return dims.reduce<Dim>((product, dim) => multiplyDims(product, dim), 1);
}

/** A dimension's size where all its symbols are bound, else null. */
export function evaluateDim(dim: Dim, bindings: ReadonlyMap<string, number>): number | null {
  if (typeof dim === 'number') return dim;
  let sum = 0;
  for (const [monomial, coefficient] of dim.terms) {
    let product = coefficient;
    for (const one of symbolsOf(monomial)) product *= bindings.get(one) ?? Number.NaN;
    sum += product;
  }
  return Number.isNaN(sum) ? null : sum;
}

/** Shape in words, for messages: [batch, 4, sequence]. */
export function shapeText(shape: readonly Dim[] | null): string {
  return shape === null ? '[?]' : `[${shape.map(dimKey).join(', ')}]`;
}

function termsOf(dim: Dim): ReadonlyMap<string, number> {
  return typeof dim === 'number' ? new Map([['', dim]]) : dim.terms;
}

function fromTerms(terms: Map<string, number>): Dim {
  for (const [monomial, coefficient] of terms) if (coefficient === 0) terms.delete(monomial);
  if (terms.size === 0) return 0;
  if (terms.size === 1 && terms.has('')) return terms.get('')!;
  const sorted = [...terms].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const key = sorted.map(([monomial, value]) =>
    monomial === '' ? `${value}` : `${value === 1 ? '' : `${value}*`}${monomial}`,
  );
  return { key: key.join(' + '), terms: new Map(sorted) };
}

function degreeOf(dim: Dim): number {
  return Math.max(0, ...[...termsOf(dim).keys()].map((monomial) => symbolsOf(monomial).length));
}

function joinMonomials(a: string, b: string): string {
  return [...symbolsOf(a), ...symbolsOf(b)].sort().join('*');
}

function removeSymbols(monomial: string, symbols: string): string | null {
  const left = symbolsOf(monomial);
  for (const one of symbolsOf(symbols)) {
    const at = left.indexOf(one);
    if (at < 0) return null;
    left.splice(at, 1);
  }
  return left.join('*');
}

function symbolsOf(monomial: string): string[] {
  return monomial === '' ? [] : monomial.split('*');
}
