/** Which of the graphs in an LM's folder is the LM: hubs hold one model in many precisions, a file each. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, normalize } from 'node:path';
import { PtunedError } from '../errors.ts';
import type { LmKind } from '../models/schema.ts';

export interface GraphChoice {
  /** The graph with the logits, relative to the LM's folder. */
  path: string;
  /** What its name has behind the usual one: "_q4" of model_q4.onnx, as transformers.js names precisions. */
  variant: string;
}

/** Usual names of the graph with the logits, in the order they are looked for. */
const mainNames: Record<LmKind, readonly string[]> = {
  masked: ['model'],
  causal: ['model', 'decoder_model_merged', 'decoder_model'],
  seq2seq: ['decoder_model_merged', 'decoder_model', 'model'],
};
const folders = ['', 'onnx'];

/** Graphs that stand beside the one with the logits, or only go on from a cache. */
const parts = /^(encoder_model|decoder_with_past_model|embed_tokens|embeddings?)/;

/**
 * The graph that is `wanted`, or that genai_config.json names; else the one of a usual name; else the only one there is.
 * @throws PtunedError missing_file, import_refused listing the graphs where several could be meant
 */
export function chooseGraph(folder: string, kind: LmKind, wanted?: string, named?: string | null): GraphChoice {
  if (wanted !== undefined) return { path: checked(folder, wanted), variant: variantOf(wanted, kind) };
  const usual = mainNames[kind].flatMap((name) => folders.map((one) => join(one, `${name}.onnx`)));
  const plain = [...(named && isInside(named) ? [named] : []), ...usual].find((path) => existsSync(join(folder, path)));
  if (plain !== undefined) return { path: plain, variant: '' };
  const graphs = otherGraphs(folder, kind);
  const [only] = graphs;
  if (only === undefined) throw new PtunedError('missing_file', `${folder} has neither ${usual.join(' nor ')}.`);
  if (graphs.length > 1) {
    throw new PtunedError(
      'import_refused',
      `${folder} has no ${usual[0]}, and several graphs that could be meant: ${graphs.map((path) => sized(folder, path)).join(', ')}. \`--graph FILE\` of \`ptuned models add\`, or "graph" in POST /v1/models, says which one it is.`,
      { param: 'graph' },
    );
  }
  return { path: only, variant: variantOf(only, kind) };
}

/** Graphs that could be the LM in a folder without one of a usual name; of one variant the first of those names. */
export function otherGraphs(folder: string, kind: LmKind): string[] {
  const paths = folders.flatMap((one) => onnxFiles(join(folder, one)).map((name) => join(one, name)));
  const graphs = paths.filter((path) => !parts.test(basename(path)));
  const rank = (path: string) => mainNames[kind].findIndex((name) => basename(path).startsWith(name));
  const known = graphs.filter((path) => rank(path) >= 0).sort((a, b) => rank(a) - rank(b));
  if (known.length === 0) return graphs;
  const key = (path: string) => `${dirname(path)} ${variantOf(path, kind)}`;
  return known.filter((path, i) => known.findIndex((one) => key(one) === key(path)) === i).sort();
}

function onnxFiles(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.endsWith('.onnx'))
    .sort();
}

/** `names` of parts beside a chosen graph: those of its own precision, then the plain ones. */
export function beside({ path, variant }: GraphChoice, names: readonly string[]): string[] {
  const folder = dirname(path);
  const own = variant === '' ? [] : names.map((name) => join(folder, `${name}${variant}.onnx`));
  return [...own, ...names.map((name) => join(folder, `${name}.onnx`))];
}

function variantOf(path: string, kind: LmKind): string {
  const name = basename(path, '.onnx');
  // The longest first: decoder_model_merged is no variant of decoder_model.
  const main = [...mainNames[kind]].sort((a, b) => b.length - a.length).find((one) => name.startsWith(one));
  return main === undefined ? '' : name.slice(main.length);
}

function checked(folder: string, wanted: string): string {
  const path = normalize(wanted);
  if (isInside(path) && path.endsWith('.onnx') && existsSync(join(folder, path))) return path;
  const there = folders.flatMap((one) => onnxFiles(join(folder, one)).map((name) => sized(folder, join(one, name))));
  throw new PtunedError(
    'missing_file',
    `The graph "${wanted}" is no .onnx file in ${folder}; there are ${there.join(', ') || 'none'}.`,
    { param: 'graph' },
  );
}

function isInside(path: string): boolean {
  return !path.startsWith('/') && !path.split(/[/\\]/).includes('..');
}

function sized(folder: string, path: string): string {
  return `${path} (${(statSync(join(folder, path)).size / 2 ** 20).toFixed(1)} MiB)`;
}
