/** Holds src/README.md to its word: which folder may import which, and who alone touches what. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

interface Import {
  /** Path from the root, or a package's name. */
  target: string;
  typeOnly: boolean;
}

interface SourceFile {
  path: string;
  text: string;
  imports: Import[];
}

function filesOf(folder: string): SourceFile[] {
  if (!existsSync(join(root, folder))) return [];
  const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.ts')).map((name) => readSource(join(folder, name)));
}

function readSource(path: string): SourceFile {
  const text = readFileSync(join(root, path), 'utf8');
  const imports: Import[] = [];
  for (const [, type, what, from] of text.matchAll(
    /^(?:import|export)\s+(type\s+)?([^;'"]*?)\s*from\s+['"]([^'"]+)['"]/gm,
  ))
    imports.push({ target: resolve(path, from!), typeOnly: type !== undefined || onlyTypes(what!) });
  for (const [, from] of text.matchAll(/(?:^import\s+|\bimport\()['"]([^'"]+)['"]/gm))
    imports.push({ target: resolve(path, from!), typeOnly: false });
  return { path, text, imports };
}

/** `{ type A, type B }` */
function onlyTypes(what: string): boolean {
  const names = /^\{([\s\S]*)\}$/
    .exec(what)?.[1]
    ?.split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  return names?.every((name) => name.startsWith('type ')) ?? false;
}

function resolve(path: string, from: string): string {
  return from.startsWith('.') ? relative(root, join(root, dirname(path), from)) : from;
}

interface Layer {
  /** Folders, or single files without their ending, that may be imported. */
  values: Set<string>;
  types: Set<string>;
}

/** The table of src/README.md: folder to what it may import. */
function readTable(): Map<string, Layer> {
  const layers = new Map<string, Layer>();
  for (const line of readFileSync(join(root, 'src/README.md'), 'utf8').split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());
    if (cells.length !== 5 || !cells[1]!.startsWith('`')) continue;
    const entries = cells[3]!
      .split(';')[0]!
      .split(',')
      .map((entry) => entry.trim());
    const typed = (entry: string) => entry.endsWith('(types)');
    const layer = {
      values: new Set(entries.filter((entry) => !typed(entry))),
      types: new Set(entries.filter(typed).map((entry) => entry.replace(/\s*\(types\)$/, ''))),
    };
    for (const [, name] of cells[1]!.matchAll(/`([^`]+)`/g)) layers.set(name!, layer);
  }
  return layers;
}

const layers = readTable();
const sources = filesOf('src');
const everywhere = new Set(['config.ts', 'errors.ts', 'logger.ts', 'lru.ts', 'priority.ts']);

/** First folder below src, or the file's name where it lies in src itself. */
function layerOf(path: string): string {
  return path.split('/')[1]!;
}

function allowed(from: SourceFile, one: Import): boolean {
  const [source, target] = [layerOf(from.path), layerOf(one.target)];
  const layer = layers.get(source);
  if (source === target || layer === undefined || layer.values.has('everything')) return true;
  if (everywhere.has(target)) return source.endsWith('.ts') || !everywhere.has(source);
  if (one.target.endsWith('/schema.ts')) return true;
  const names = [target, one.target.replace(/^src\//, '').replace(/\.ts$/, '')];
  if (names.some((name) => layer.values.has(name))) return true;
  return one.typeOnly && names.some((name) => layer.types.has(name));
}

test('the table names every folder of src', () => {
  const found = new Set(sources.map((file) => layerOf(file.path)));
  assert.deepEqual(
    [...found].filter((name) => !layers.has(name)),
    [],
  );
});

test('folders import only what the table allows', () => {
  const broken = sources.flatMap((file) =>
    file.imports
      .filter((one) => one.target.startsWith('src/') && !allowed(file, one))
      .map((one) => `${file.path} imports ${one.typeOnly ? 'types of ' : ''}${one.target}`),
  );
  assert.deepEqual(broken, []);
});

test('src imports nothing outside of src', () => {
  const outside = sources.flatMap((file) =>
    file.imports
      .filter((one) => /^(\.\.|test|scripts|workers|demo)(\/|$)/.test(one.target))
      .map((one) => `${file.path} imports ${one.target}`),
  );
  assert.deepEqual(outside, []);
});

test('no cycles', () => {
  const graph = new Map(
    sources.map((file) => [file.path, file.imports.filter((one) => !one.typeOnly).map((one) => one.target)]),
  );
  const state = new Map<string, 'open' | 'done'>();
  const visit = (path: string, trail: string[]): void => {
    if (state.get(path) === 'done' || !graph.has(path)) return;
    assert.notEqual(state.get(path), 'open', [...trail, path].join(' -> '));
    state.set(path, 'open');
    for (const next of graph.get(path)!) visit(next, [...trail, path]);
    state.set(path, 'done');
  };
  for (const path of graph.keys()) visit(path, []);
});

test('only src/onnx/session.ts imports onnxruntime-node', () => {
  const all = ['src', 'workers', 'scripts'].flatMap(filesOf);
  const found = all.filter((file) => file.imports.some((one) => one.target.startsWith('onnxruntime')));
  assert.deepEqual(
    found.map((file) => file.path),
    ['src/onnx/session.ts'],
  );
});

test('only src/config.ts reads the environment', () => {
  // Handing it on whole, to the configuration or to a child process, is not reading it.
  const reading = /process\.env\s*(\.|\[|\?\.)|[=:]\s*process\.env\s*[;,)]/;
  // telemetry.ts only tells onnxruntime to keep quiet.
  const allowedReaders = new Set(['src/config.ts', 'src/onnx/telemetry.ts']);
  const readers = ['src', 'workers'].flatMap(filesOf).filter((file) => reading.test(file.text));
  assert.deepEqual(
    readers.map((file) => file.path).filter((path) => !allowedReaders.has(path)),
    [],
  );
});

test('the check sees imports of every form', () => {
  const file = readSource('test/structure.test.ts');
  assert.ok(file.imports.some((one) => one.target === 'node:fs' && !one.typeOnly));
  assert.ok(sources.some((one) => one.imports.some((each) => each.typeOnly)));
  assert.ok(onlyTypes('{ type A, type B }') && !onlyTypes('{ type A, b }') && !onlyTypes('ort'));
  const layer: SourceFile = { path: 'src/api/x.ts', text: '', imports: [] };
  assert.ok(!allowed(layer, { target: 'src/onnx/session.ts', typeOnly: false }));
  assert.ok(!allowed(layer, { target: 'src/lm/types.ts', typeOnly: true }));
  assert.ok(allowed(layer, { target: 'src/jobs/jobs.ts', typeOnly: false }));
});
