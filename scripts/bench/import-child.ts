/** Import of an LM: the passes over its graph one by one, and the whole as a user sees it. */
import { gradientPathOf, importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { vocabularyCandidates } from '../../src/tuning/reference.ts';
import { answerOnce } from './child.ts';

export interface ImportTimes {
  /** Nodes of the training graph. */
  nodes: number;
  /** Processor time of reading and preparing the graph, finding the gradient's path, building the training graph. */
  inspectMs: number;
  pathMs: number;
  programMs: number;
  /** Processor time of all of the import, weights hashed, the session opened and a trial step run. */
  importMs: number;
}

answerOnce<{ directory: string }, ImportTimes>(async ({ directory }) => {
  const time = <T>(work: () => T): [T, number] => {
    const start = cpuMs();
    const result = work();
    return [result, cpuMs() - start];
  };
  // Once for the compiler, which is what takes longest in small graphs.
  inspectDirectory(directory);
  const [lm, inspectMs] = time(() => inspectDirectory(directory));
  const candidates = vocabularyCandidates(lm.vocabularySize);
  gradientPathOf(lm);
  const [, pathMs] = time(() => gradientPathOf(lm));
  trainProgram(lm, candidates);
  const [program, programMs] = time(() => trainProgram(lm, candidates));
  const start = cpuMs();
  await importModel(directory);
  const importMs = cpuMs() - start;
  return { nodes: program.model.graph.nodes.length, inspectMs, pathMs, programMs, importMs };
});

/** Processor time of this process: unlike the clock it does not see what others do. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
