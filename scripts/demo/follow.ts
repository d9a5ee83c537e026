/** A progress bar for a job: step, loss, dev metric, time left. */
import { setTimeout as sleep } from 'node:timers/promises';
import progress from 'cli-progress';
import type { Client, Job } from './client.ts';

const format = '  {bar} step {value}/{total}  loss {loss}  dev {metric} {dev} (best {best})  {left} left';

/** Polls until the job has ended. @throws Error with the job's own message when it did not succeed */
export async function followJob(client: Client, id: string): Promise<Job> {
  const bar = new progress.SingleBar({
    format,
    hideCursor: true,
    barsize: 24,
    noTTYOutput: true,
    notTTYSchedule: 3000,
  });
  let running = false;
  for (;;) {
    const job = await client.job(id);
    if (job.progress !== null) {
      const {
        step,
        total_steps: total,
        loss,
        metric,
        dev_metric: dev,
        best_dev_metric: best,
        seconds_left: left,
      } = job.progress;
      const number = (value: number | null, digits: number) => (value === null ? '-' : value.toFixed(digits));
      const texts = {
        loss: number(loss, 3),
        metric,
        dev: number(dev, 3),
        best: number(best, 3),
        left: left === null ? '-' : `${Math.ceil(left)} s`,
      };
      if (!running) bar.start(total, step, texts);
      running = true;
      bar.setTotal(total);
      bar.update(step, texts);
    }
    if (job.status === 'succeeded' || job.status === 'failed' || job.status === 'cancelled') {
      if (running) bar.stop();
      if (job.status === 'succeeded') return job;
      throw new Error(`Job ${id} ${job.status}: ${job.error?.message ?? ''}`);
    }
    await sleep(500);
  }
}
