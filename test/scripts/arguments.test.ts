/** What a script is given wrongly is said in a line, without a stack. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const wrong: [script: string, args: string[], message: RegExp][] = [
  ['generate-lm', ['t5', '/nowhere'], /'t5' is invalid for argument 'family'.*gpt2, bert, llama/],
  ['generate-lm', ['gpt2', '/nowhere', '--layers', 'x'], /'--layers <count>' argument 'x' is invalid\. A whole number/],
  ['check-memory', ['/nowhere'], /There is no folder \/nowhere\./],
  ['check-memory', ['/nowhere', '--batch', '0'], /'--batch <rows>' argument '0' is invalid\. A positive number/],
  ['demo', ['--for-ever'], /unknown option '--for-ever'/],
];

for (const [script, args, message] of wrong) {
  test(`${script} ${args.join(' ')}`, () => {
    const path = fileURLToPath(new URL(`../../scripts/${script}.ts`, import.meta.url));
    const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', path, ...args], { encoding: 'utf8' });
    assert.equal(status, 1);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n {4}at /);
  });
}
