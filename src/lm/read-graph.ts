/** A graph file read with its weights left where they are, everything about them checked. */
import { existsSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { checkGraph } from '../autodiff/check.ts';
import { sortNodes } from '../autodiff/sort.ts';
import { PtunedError } from '../errors.ts';
import { readModel } from '../onnx/decode.ts';
import { leadsOut } from '../onnx/hub-links.ts';
import { isExternal, type Model } from '../onnx/ir.ts';

/** @throws PtunedError missing_file, damaged_model, import_refused */
export function readGraph(folder: string, graphPath: string): Model {
  const path = join(folder, graphPath);
  const directory = dirname(path);
  const decoded = readModel(path, relative(directory, path));
  const read = { ...decoded, graph: sortNodes(decoded.graph) };
  checkWeightFiles(read, directory);
  try {
    checkGraph(read.graph, `reading ${graphPath}`);
  } catch (error) {
    throw new PtunedError('damaged_model', (error as Error).message, { cause: error });
  }
  return read;
}

/** External data must lie inside the model's folder, exist, and be long enough. */
function checkWeightFiles(model: Model, directory: string): void {
  for (const [name, tensor] of model.graph.initializers) {
    if (!isExternal(tensor.data)) continue;
    const { location, offset, length } = tensor.data;
    const path = join(directory, location);
    if (location.startsWith('/') || location.split(/[/\\]/).includes('..') || leadsOut(path, directory)) {
      const message = `Weight "${name}" refers to "${location}", outside the model's folder; copy the file into it (cp -L follows links).`;
      throw new PtunedError('import_refused', message);
    }
    if (!existsSync(path))
      throw new PtunedError(
        'missing_file',
        `Weight "${name}" is in "${location}", which is missing beside the graph.`,
        { details: { file: location } },
      );
    const file = statSync(path);
    if (!file.isFile())
      throw new PtunedError('import_refused', `Weight "${name}" refers to "${location}", which is not a file.`);
    const { size } = file;
    if (offset + length > size) {
      throw new PtunedError(
        'damaged_model',
        `Weight "${name}" ends at byte ${offset + length} of "${location}", which has ${size} bytes.`,
      );
    }
  }
}
