/**
 * A reporter for Node's test runner that ends with one plain line: `N passed, N failed, N skipped`.
 * Plain JavaScript: the runner loads reporters before the TypeScript loader.
 */
export default async function* summary(source) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for await (const { type, data } of source) {
    if (data.details?.type === 'suite') continue;
    if (type === 'test:fail') counts.failed++;
    if (type === 'test:pass') counts[data.skip === undefined || data.skip === false ? 'passed' : 'skipped']++;
  }
  yield `\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`;
}
