/** A registered LM in words, for the terminal. */
import type { ModelManifest } from '../src/models/manifest.ts';

export function describeModel(manifest: ModelManifest): string {
  const { id, kind, architecture, parameters, vocabularySize, embedding, maxLength, opset, weightBytes } = manifest;
  const path = Object.entries(manifest.gradientPath)
    .sort(([, a], [, b]) => b - a)
    .map(([op, count]) => `${op} ${count}`);
  const rows: [string, string][] = [
    ['kind', `${kind} LM, ${architecture}`],
    ['parameters', `${count(parameters)} (${megabytes(weightBytes)})`],
    ['vocabulary', `${count(vocabularySize)} tokens`],
    ['embedding', `${embedding.width} wide, ${embedding.dtype}`],
    ['longest input', `${count(maxLength)} tokens, pseudo tokens included`],
    ['opset', String(opset)],
    ['gradient path', path.join(', ')],
    ...(manifest.straightThrough === undefined ? [] : [straightThrough(manifest.straightThrough)]),
    ...(kind === 'seq2seq' ? [generation(manifest)] : []),
    ...(kind === 'causal' ? [contexts(manifest)] : []),
    ['folder', manifest.directory],
    ['hash', manifest.hash],
  ];
  return [`${id} is registered.`, ...rows.map(([name, value]) => `  ${name.padEnd(14)} ${value}`)].join('\n');
}

function straightThrough(ops: readonly string[]): [string, string] {
  return ['rounding', `${ops.join(', ')}: straight-through gradient`];
}

function generation({ cachedDecoder }: ModelManifest): [string, string] {
  return [
    'generation',
    cachedDecoder === undefined ? 'runs the whole decoder for each token' : "from the decoder's cache",
  ];
}

function contexts(manifest: ModelManifest): [string, string] {
  return [
    'contexts',
    manifest.contexts === true
      ? 'texts before the first pseudo token are computed once for a job'
      : 'texts before the first pseudo token are computed in every step: no cache in the export, or rows do not go on from it as whole ones do',
  ];
}

/** One line each. */
export function listModels(manifests: readonly ModelManifest[]): string {
  if (manifests.length === 0) return 'No LM is registered; `ptuned models add DIRECTORY` registers one.';
  const rows = manifests.map(({ id, kind, architecture, parameters, directory }) => [
    id,
    kind,
    architecture,
    `${count(parameters)} parameters`,
    directory,
  ]);
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
