/** Load on an HTTP server: as many requests as so many clients can send, or so many a second whatever comes of them. */
import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { quantile } from './statistics.ts';

export interface Outcome {
  status: number;
  /** From the request to the last byte of its answer. */
  ms: number;
}

export interface LoadSummary {
  /** Answers with status 200, a second. */
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  served: number;
  /** Answers with status 503, and how long these took. */
  refused: number;
  refusedP50Ms: number;
  refusedP99Ms: number;
  /** Everything else: other states, connections that broke. */
  failed: number;
}

export interface Target {
  url: string;
  /** Body of the n-th request. */
  body: (n: number) => object;
}

/** So many clients that send their next request when the last is answered. */
export async function closedLoop(target: Target, clients: number, seconds: number): Promise<LoadSummary> {
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const outcomes: Outcome[] = [];
  const end = performance.now() + 1000 * seconds;
  let sent = 0;
  const client = async () => {
    while (performance.now() < end) outcomes.push(await post(agent, target, sent++));
  };
  const begun = performance.now();
  await Promise.all(Array.from({ length: clients }, client));
  agent.destroy();
  return summary(outcomes, (performance.now() - begun) / 1000);
}

/**
 * Requests at a fixed rate, at most `most` of them open at a time. Resolves when the last is sent; what was answered until
 * then is in the summary, and `drained` resolves when the rest is answered too.
 */
export async function openLoop(
  target: Target,
  rate: number,
  seconds: number,
  most: number,
): Promise<{ summary: LoadSummary; drained: Promise<unknown> }> {
  const agent = new Agent({ keepAlive: true, maxSockets: most });
  const outcomes: Outcome[] = [];
  const open = new Set<Promise<void>>();
  const begun = performance.now();
  for (let sent = 0; ; ) {
    const elapsed = (performance.now() - begun) / 1000;
    if (elapsed >= seconds) break;
    for (; sent < elapsed * rate && open.size < most; sent++) {
      const one: Promise<void> = post(agent, target, sent).then((outcome) => {
        outcomes.push(outcome);
        open.delete(one);
      });
      open.add(one);
    }
    await sleep(2);
  }
  const measured = (performance.now() - begun) / 1000;
  const drained = Promise.all(open).then(() => agent.destroy());
  return { summary: summary([...outcomes], measured), drained };
}

export function post(agent: Agent, { url, body }: Target, n: number): Promise<Outcome> {
  const text = JSON.stringify(body(n));
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  const begun = performance.now();
  return new Promise((resolve) => {
    const done = (status: number) => resolve({ status, ms: performance.now() - begun });
    const sending = request(url, { method: 'POST', agent, headers }, (answer) => {
      answer.resume();
      answer.once('end', () => done(answer.statusCode ?? 0));
      answer.once('error', () => done(0));
    });
    sending.once('error', () => done(0));
    sending.end(text);
  });
}

function summary(outcomes: readonly Outcome[], seconds: number): LoadSummary {
  const times = (status: number) => outcomes.filter((one) => one.status === status).map(({ ms }) => ms);
  const [served, refused] = [times(200), times(503)];
  return {
    perSecond: served.length / seconds,
    p50Ms: quantile(served, 0.5),
    p99Ms: quantile(served, 0.99),
    served: served.length,
    refused: refused.length,
    refusedP50Ms: quantile(refused, 0.5),
    refusedP99Ms: quantile(refused, 0.99),
    failed: outcomes.length - served.length - refused.length,
  };
}
