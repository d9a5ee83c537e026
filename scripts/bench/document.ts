/** Keeps docs/benchmarks.md and the figures beside it: each kind of benchmark replaces its own part, and only that. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Publishing {
  json?: string;
  docs?: string;
}

/** Writes the figures where they were asked for, and the text between `<!-- kind -->` and `<!-- /kind -->`. */
export function publish({ json, docs }: Publishing, kind: string, figures: unknown, text: string, svg?: string): void {
  const encoded = `${JSON.stringify(figures, rounded, 1)}\n`;
  if (json !== undefined) writeFileSync(json, encoded);
  if (docs === undefined) return;
  mkdirSync(join(docs, 'benchmarks'), { recursive: true });
  writeFileSync(join(docs, 'benchmarks', `${kind}.json`), encoded);
  if (svg !== undefined) writeFileSync(join(docs, 'benchmarks', `${kind}.svg`), svg);
  const path = join(docs, 'benchmarks.md');
  const before = readFileSync(path, 'utf8');
  const part = new RegExp(`(<!-- ${kind} -->\n)[^]*?(<!-- /${kind} -->)`);
  if (!part.test(before)) throw new Error(`${path} has no part <!-- ${kind} --> … <!-- /${kind} -->`);
  writeFileSync(
    path,
    before.replace(part, (_, start, end) => `${start}\n${text}\n\n${end}`),
  );
}

/** Four digits are more than a measurement holds. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
}
