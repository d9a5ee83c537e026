/** Scaled losses: the arithmetic, the moving scale, and steps that are left out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { padBatch } from '../../src/data/batches.ts';
import type { Trainer } from '../../src/lm/types.ts';
import { scaledWeights, startLossScale, unscale } from '../../src/tuning/loss-scale.ts';
import { createOptimizer, initialOptimizerState } from '../../src/tuning/optimizers/registry.ts';
import { copyParameters } from '../../src/tuning/state.ts';
import { trainStep } from '../../src/tuning/step.ts';
import { fakeData, fakeEncoder, fakeLm, fakeRows, virtualTokens, width } from '../support/fake-tuning.ts';

const { batch, labels } = padBatch(fakeRows(8, 0), 0);
const settings = { learningRate: 1e-2, gradientClip: null };

test('the scale comes out of the gradient exactly, grows after 2000 good steps and halves where one is not finite', () => {
  const state = startLossScale();
  const { scale } = state;
  assert.deepEqual(scaledWeights(state, 4), new Float32Array(4).fill(scale / 4));
  const gradient = Float32Array.of(1.5 * scale, -(2 ** -20) * scale);
  assert.equal(unscale(state, gradient), true);
  assert.deepEqual(gradient, Float32Array.of(1.5, -(2 ** -20)));
  for (let i = 1; i < 2000; i++) unscale(state, Float32Array.of(1));
  assert.deepEqual(state, { scale: 2 * scale, good: 0 });
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
    assert.equal(unscale(state, Float32Array.of(1, bad)), false);
  assert.deepEqual(state, { scale: scale / 2, good: 0 });
});

test('at scale 1 a gradient that is not finite is not hidden', () => {
  assert.equal(unscale({ scale: 1, good: 0 }, Float32Array.of(Number.NaN)), true);
});

/** A trainer whose gradients overflow above a largest number, as float16's do. */
function overflowing(trainer: Trainer, largest: number): Trainer {
  return {
    ...trainer,
    half: true,
    async step(...given) {
      const result = await trainer.step(...given);
      const cut = (x: number) => (Math.abs(x) > largest ? Math.sign(x) * Number.POSITIVE_INFINITY : x);
      return { ...result, gradient: result.gradient.map(cut) };
    },
  };
}

test('steps that overflow leave parameters and optimizer alone; the first that fits is that of the unscaled loss', async () => {
  const trainer = await fakeLm().trainer(fakeData().candidates);
  const encoder = await fakeEncoder({ type: 'mlp', layers: 2, virtualTokens, width, base: null });
  const start = encoder.initialise(1);
  const plain = copyParameters(start);
  const plainOptimizer = createOptimizer('adam', initialOptimizerState(plain), { weightDecay: 0 });
  await trainStep({ trainer, encoder, optimizer: plainOptimizer }, plain, batch, labels, settings);

  const parameters = copyParameters(start);
  const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0 });
  const lossScale = startLossScale();
  const scaled = { trainer: overflowing(trainer, 1000), encoder, optimizer };
  let left = 0;
  while (optimizer.state.step === 0) {
    assert.deepEqual(parameters, start);
    await trainStep(scaled, parameters, batch, labels, { ...settings, lossScale });
    left++;
  }
  assert.ok(left > 1, 'the first scale fits');
  assert.equal(lossScale.good, 1);
  for (const [name, { values }] of parameters)
    for (const [i, value] of values.entries())
      assert.ok(Math.abs(value - plain.get(name)!.values[i]!) < 1e-6, `${name}[${i}]`);
});
