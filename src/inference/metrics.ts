/** What the inference process tells about itself at /metrics. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Residents } from './residents.ts';

export interface Metrics {
  observeRun(model: string, kind: string, rows: number, tokens: number, seconds: number): void;
  observeRequest(route: string, status: number, seconds: number): void;
  /** Gauges of what is held now, read when they are scraped. */
  watch(residents: Residents, prompts: () => { entries: number; weight: number }): void;
  render(): Promise<{ type: string; text: string }>;
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const rows = new Histogram({
    name: 'ptuned_inference_batch_rows',
    help: 'Rows of one run of an LM.',
    labelNames: ['kind'],
    buckets: [1, 2, 4, 8, 16, 32],
    registers,
  });
  const tokens = new Counter({
    name: 'ptuned_inference_tokens_total',
    help: 'Tokens run, padding included.',
    labelNames: ['model', 'kind'],
    registers,
  });
  const runs = new Histogram({
    name: 'ptuned_inference_run_seconds',
    help: 'Duration of one run of an LM.',
    labelNames: ['kind'],
    buckets: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10],
    registers,
  });
  const requests = new Histogram({
    name: 'ptuned_inference_request_seconds',
    help: 'Duration of requests.',
    labelNames: ['route', 'status'],
    buckets: [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30],
    registers,
  });
  return {
    observeRun(model, kind, count, total, seconds) {
      rows.observe({ kind }, count);
      tokens.inc({ model, kind }, total);
      runs.observe({ kind }, seconds);
    },
    observeRequest: (route, status, seconds) => requests.observe({ route, status: String(status) }, seconds),
    watch: (residents, prompts) => watch(registry, residents, prompts),
    render: async () => ({ type: registry.contentType, text: await registry.metrics() }),
  };
}

function watch(registry: Registry, residents: Residents, prompts: () => { entries: number; weight: number }): void {
  const gauges: [name: string, help: string, read: () => [labels: Record<string, string>, value: number][]][] = [
    [
      'waiting_rows',
      'Rows waiting for an LM.',
      () => residents.held().map(({ id, waiting }) => [{ model: id }, waiting]),
    ],
    ['lm_bytes', 'Weights of an open LM.', () => residents.held().map(({ id, bytes }) => [{ model: id }, bytes])],
    ['prompts', 'Tuned prompts in memory.', () => [[{}, prompts().entries]]],
    ['prompt_bytes', 'Memory of tuned prompts.', () => [[{}, prompts().weight]]],
  ];
  for (const [name, help, read] of gauges) {
    new Gauge({
      name: `ptuned_inference_${name}`,
      help,
      labelNames: name === 'waiting_rows' || name === 'lm_bytes' ? ['model'] : [],
      registers: [registry],
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.set(labels, value);
      },
    });
  }
}
