import assert from 'node:assert/strict';
import { getPriority } from 'node:os';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

test('a thread that gives way leaves the others their priority', async (t) => {
  if (process.platform !== 'linux') return t.skip('priorities of threads are Linux');
  const before = getPriority(0);
  const module = JSON.stringify(new URL('../src/priority.ts', import.meta.url).href);
  const tsx = JSON.stringify(import.meta.resolve('tsx/esm/api'));
  const code = `
    import { getPriority } from 'node:os';
    import { parentPort } from 'node:worker_threads';
    import { register } from ${tsx};
    register();
    const { giveWay } = await import(${module});
    giveWay();
    parentPort.postMessage(getPriority(0));`;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`));
  const found = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
  assert.equal(found, Math.min(before + 5, 19));
  assert.equal(getPriority(0), before);
});
