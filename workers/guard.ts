/** For children that compute: they end when their parent says so, and never outlive it. */
import { Worker } from 'node:worker_threads';

/** onnxruntime blocks the main thread for a whole run, for ever if a model loops; so another thread watches the parent. */
const watch = `
const parent = process.ppid;
setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL'); }, 1000);
`;

export function endWithParent(): void {
  // A ctrl-C reaches every process of the terminal; when to stop is the parent's to say.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  process.on('disconnect', () => process.exit(1));
  new Worker(watch, { eval: true }).unref();
}
