/** `npm test [-- FILE…]`: all test files under test/ (or those given) with Node's test runner. */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const given = process.argv.slice(2);
const files =
  given.length > 0
    ? given
    : readdirSync('test', { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.test.ts'))
        .sort()
        .map((name) => join('test', name));
if (files.length === 0) {
  console.error('There is no test file under test/.');
  process.exit(1);
}
// One file at a time: end-to-end tests measure time limits and train, and would disturb each other.
const reporters = ['spec', './scripts/test-summary.mjs'].flatMap((name) => [
  `--test-reporter=${name}`,
  '--test-reporter-destination=stdout',
]);
const options = ['--import', 'tsx', '--test', '--test-concurrency=1', ...reporters];
const child = spawn(process.execPath, [...options, ...files], { stdio: 'inherit' });
const forward = (signal: NodeJS.Signals) => child.kill(signal);
process.on('SIGINT', forward);
process.on('SIGTERM', forward);
child.on('exit', (code, signal) => {
  process.exitCode = signal === null ? (code ?? 1) : 1;
});
