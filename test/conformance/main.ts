/**
 * `npm run conformance`: every gradient rule and lowering against finite differences, as a table. On the repository's own
 * gradient cases, or with `--onnx-tests DIR` on ONNX's backend node tests.
 */
import { parseArgs } from 'node:util';
import { type CaseResult, type ConformanceCase, compareCase } from './compare-case.ts';
import { readNodeTests } from './node-tests.ts';
import { ownCases } from './own-cases.ts';
import { failureLines, tableLines } from './table.ts';

const { values } = parseArgs({
  options: { 'onnx-tests': { type: 'string' }, only: { type: 'string' }, verbose: { type: 'boolean' } },
});
const folder = values['onnx-tests'];
const { cases, skipped } = folder === undefined ? { cases: ownCases(), skipped: new Map() } : readNodeTests(folder);
const only = values.only;
const chosen =
  only === undefined ? cases : cases.filter((one: ConformanceCase) => `${one.op} ${one.name}`.includes(only));
const results: CaseResult[] = [];
for (const one of chosen) results.push(await compareCase(one));
for (const line of tableLines(results)) console.log(line);
for (const [reason, count] of [...skipped].sort()) console.log(`left out: ${count} cases, ${reason}`);
const failed = failureLines(results, values.verbose === true);
for (const line of failed) console.log(line);
const failures = results.filter((one) => one.failures.length > 0).length;
const refused = results.filter((one) => one.refused !== null).length;
const notRun = results.filter((one) => one.notRun !== null).length;
const passed = results.length - failures - refused - notRun;
console.log(`${passed} passed, ${refused} refused by name, ${notRun} not run by onnxruntime-node, ${failures} failed`);
process.exitCode = failures > 0 || passed === 0 ? 1 : 0;
