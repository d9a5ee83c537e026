/** One case of the conformance run: results and gradients of the canonical, lowered graph against what is right. */
import { PtunedError } from '../../src/errors.ts';
import type { Feed } from '../../src/onnx/session.ts';
import { gradientError, outputError, outputTolerance, tolerances } from '../ops/compare.ts';
import { type Differences, finiteDifferences } from '../ops/differences.ts';
import { type Knowledge, ruleGradients } from '../ops/rule-gradients.ts';
import type { Subject } from '../ops/subject.ts';

export interface ConformanceCase {
  /** Row of the table. */
  op: string;
  name: string;
  subject: Subject;
  /** What is known of shapes: each list in turn, of which the first that the op can do with is taken. */
  knowledge: readonly (readonly Knowledge[])[];
  /** The right results, and how near to come; those of the runtime's own kernel where there are none. */
  expected?: { outputs: Record<string, Feed>; tolerance: number };
  /** Finite differences in float32 only: the runtime's float64 kernels round as float32 do. */
  precision?: 'float32';
}

export interface CaseResult {
  op: string;
  name: string;
  /** Worst error of an output, in units of its size. */
  forward: number;
  /** Worst error of a gradient, in units of the largest slope; null where nothing is differentiated. */
  gradient: number | null;
  /** Elements whose gradient was compared, and how many of them lie at a kink. */
  elements: number;
  kinks: number;
  /** Why the op's variant is refused by name, null where it is not. */
  refused: string | null;
  /** Why onnxruntime-node does not run the case as it is written, null where it does. */
  notRun: string | null;
  failures: string[];
}

/** Elements of each input that finite differences are taken at. */
const mostElements = 24;

export async function compareCase(one: ConformanceCase): Promise<CaseResult> {
  const result: CaseResult = {
    op: one.op,
    name: one.name,
    forward: 0,
    gradient: null,
    elements: 0,
    kinks: 0,
    refused: null,
    notRun: null,
    failures: [],
  };
  const reference = await referenceOf(one, result);
  if (reference === null) return result;
  const compared = [...reference.gradients.values()].flat();
  result.elements = compared.length;
  result.kinks = compared.filter(({ kink }) => kink).length;
  try {
    for (const alternatives of one.knowledge) await compareWithFirst(one, reference, alternatives, result);
  } catch (error) {
    if (error instanceof PtunedError && error.code !== 'internal') result.refused = error.message;
    else result.failures.push((error as Error).message);
  }
  return result;
}

async function referenceOf(one: ConformanceCase, result: CaseResult): Promise<Differences | null> {
  const precision = one.precision === undefined ? {} : { precision: one.precision };
  try {
    return await finiteDifferences(one.subject, { most: mostElements, ...precision });
  } catch (error) {
    result.notRun = (error as Error).message;
    return null;
  }
}

async function compareWithFirst(
  one: ConformanceCase,
  reference: Differences,
  alternatives: readonly Knowledge[],
  result: CaseResult,
): Promise<void> {
  for (const [i, knowledge] of alternatives.entries()) {
    try {
      await compareWith(one, reference, knowledge, result);
      return;
    } catch (error) {
      const refused =
        error instanceof PtunedError && (error.code === 'import_refused' || error.code === 'unsupported_op');
      if (!refused || i === alternatives.length - 1) throw error;
    }
  }
}

async function compareWith(
  { subject, expected }: ConformanceCase,
  reference: Differences,
  knowledge: Knowledge,
  result: CaseResult,
): Promise<void> {
  const found = await ruleGradients(subject, knowledge, reference.outputs);
  const { outputs, tolerance } = expected ?? { outputs: reference.outputs, tolerance: outputTolerance };
  const output = outputError(found.outputs, outputs);
  // Where the runtime itself differs from the file there is nothing more to ask than to do as the runtime does.
  const kernel = output.error <= tolerance ? output : outputError(found.outputs, reference.outputs);
  result.forward = Math.max(result.forward, kernel.error);
  if (!(kernel.error <= tolerance)) result.failures.push(`output ${output.what}`);
  result.failures.push(...found.disagreements);
  if (reference.gradients.size === 0) return;
  const { error, what } = gradientError(found, reference);
  result.gradient = Math.max(result.gradient ?? 0, error);
  if (!(error <= tolerances[reference.precision])) result.failures.push(`gradient ${what}`);
}
