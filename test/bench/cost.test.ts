/** The benchmark's counts against formulas worked out by hand. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { costOf } from '../../scripts/bench/cost.ts';
import { growthExponent, median } from '../../scripts/bench/statistics.ts';
import { families } from '../../scripts/lms/registry.ts';
import { writeLm } from '../../scripts/lms/write.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { bindDims } from '../../src/lm/memory.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { vocabularyCandidates } from '../../src/tuning/reference.ts';

const [layers, H, V, I] = [3, 32, 300, 128];

function costAt(batch: number, length: number) {
  const directory = mkdtempSync(join(tmpdir(), 'ptuned-cost-'));
  try {
    const shape = { layers, hidden: H, heads: 2, vocabulary: V, positions: 64 };
    writeLm(directory, families.get('gpt2')!, { shape });
    const program = trainProgram(inspectDirectory(directory), vocabularyCandidates(V));
    return costOf(program, bindDims({ batch, length, virtual: 3 }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('operations of a GPT-2 step are those of its products; the last layer ends at the targets', () => {
  const [B, S] = [4, 10];
  const { forward, backward, unknown, weightBytes } = costAt(B, S);
  assert.equal(unknown, 0);
  const qkv = 2 * B * S * 3 * H * H;
  const attention = 2 * (2 * B * S * S * H);
  const tail = (rows: number) => 2 * rows * (H * H + 2 * H * I);
  const head = 2 * B * H * V;
  const least = (layers - 1) * (qkv + attention + tail(B * S)) + qkv + attention + tail(B) + head;
  // Prompt rows are picked by a product; leave room for it, and for passes that save more work.
  const select = 2 * B * S * 3 * H;
  assert.ok(forward <= least + select && forward > 0.6 * least, `${forward} for ${least}`);
  assert.ok(backward <= 1.3 * least && backward > 0.6 * least, `${backward} for ${least}`);
  const weights = 4 * (layers * (4 * H * H + 2 * H * I) + H * V);
  assert.ok(weightBytes >= weights && weightBytes < 2.2 * weights, `${weightBytes} for ${weights}`);
});

test('operations grow in proportion to rows, attention alone with the square of the length', () => {
  const at = (batch: number, length: number) => costAt(batch, length).forward;
  assert.ok(Math.abs(at(8, 16) / at(4, 16) - 2) < 0.01);
  // f(S) = aS + bS² + c: what is left after the linear part quadruples with S.
  const [one, two, four] = [at(4, 8), at(4, 16), at(4, 32)] as const;
  const bend = (a: number, b: number, c: number) => (c - b) / 16 - (b - a) / 8;
  const quadratic = bend(one, two, four) / (16 + 32 - (8 + 16));
  assert.ok(Math.abs(quadratic / (layers * 4 * 4 * H) - 1) < 0.35, String(quadratic));
});

test('growth exponents and medians', () => {
  const points = [1, 2, 5].map((x) => ({ x, y: 3 * x * x }));
  assert.ok(Math.abs(growthExponent(points) - 2) < 1e-9);
  assert.equal(median([3, 1, 2]), 2);
});
