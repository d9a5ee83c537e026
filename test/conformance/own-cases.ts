/** The gradient cases of test/ops as conformance cases. */
import { opKey } from '../../src/ops/op.ts';
import { gradientCases } from '../ops/cases/all.ts';
import { caseName, knowledgeOf, subjectOf } from '../ops/gradient-check.ts';
import type { ConformanceCase } from './compare-case.ts';

export function ownCases(): ConformanceCase[] {
  return gradientCases.map((one) => ({
    op: opKey(one.domain ?? '', one.op),
    name: caseName(one),
    // Of rounded values finite differences tell nothing: quantize.test.ts has their gradients.
    subject: one.rounds ? { ...subjectOf(one), variables: [] } : subjectOf(one),
    knowledge: [[knowledgeOf(one, 'static')], [knowledgeOf(one, 'symbolic')]],
    ...(one.precision === undefined ? {} : { precision: one.precision }),
  }));
}
