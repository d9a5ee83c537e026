import assert from 'node:assert/strict';
import { test } from 'node:test';
import { padBatch } from '../../src/data/batches.ts';
import type { PtunedError } from '../../src/errors.ts';
import type { Parameters } from '../../src/prompts/types.ts';
import { createOptimizer, initialOptimizerState } from '../../src/tuning/optimizers/registry.ts';
import { createPlan } from '../../src/tuning/plan.ts';
import { copyParameters } from '../../src/tuning/state.ts';
import { trainStep } from '../../src/tuning/step.ts';
import { runTrajectory } from '../../src/tuning/trajectory.ts';
import {
  fakeData,
  fakeEncoder,
  fakeHyperparameters,
  fakeLm,
  fakeRows,
  virtualTokens,
  width,
} from '../support/fake-tuning.ts';

async function parts() {
  const trainer = await fakeLm().trainer(fakeData().candidates);
  const encoder = await fakeEncoder({ type: 'mlp', layers: 2, virtualTokens, width, base: null });
  return { trainer, encoder };
}
const { batch, labels } = padBatch(fakeRows(8, 0), 0);

test('the gradient that reaches the optimizer is that of the loss', async () => {
  const { trainer, encoder } = await parts();
  const start = encoder.initialise(1);
  // Plain descent along the gradient: Adam's first step is lr · g / (|g| + ε), so ε far above |g| makes it lr/ε · g.
  const lossWith = async (change: (values: Float32Array) => void): Promise<number> => {
    const parameters = copyParameters(start);
    change(parameters.get('mlp.weight')!.values);
    const values = await encoder.forward(parameters);
    return (await trainer.step(batch, labels, { rows: virtualTokens, width, values })).loss;
  };
  const trained = copyParameters(start);
  const optimizer = createOptimizer('adam', initialOptimizerState(trained), { weightDecay: 0, epsilon: 1e6 });
  const { loss, gradientNorm } = await trainStep({ trainer, encoder, optimizer }, trained, batch, labels, {
    learningRate: 1e6,
    gradientClip: null,
  });
  assert.equal(loss, await lossWith(() => {}));
  assert.ok(gradientNorm > 0);
  for (const i of [0, 7, 13, 35]) {
    const up = await lossWith((values) => void (values[i]! += 1e-2));
    const down = await lossWith((values) => void (values[i]! -= 1e-2));
    const moved = start.get('mlp.weight')!.values[i]! - trained.get('mlp.weight')!.values[i]!;
    assert.ok(Math.abs(moved - (up - down) / 2e-2) < 1e-4, `${moved} against ${(up - down) / 2e-2}`);
  }
});

test('clipping bounds the update and reports the norm before it', async () => {
  const { trainer, encoder } = await parts();
  const norms: number[] = [];
  const moves: number[] = [];
  for (const gradientClip of [null, 1e-3]) {
    const parameters = encoder.initialise(1);
    const before = copyParameters(parameters);
    const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0, epsilon: 1e6 });
    const options = { learningRate: 1e6, gradientClip };
    norms.push((await trainStep({ trainer, encoder, optimizer }, parameters, batch, labels, options)).gradientNorm);
    let squares = 0;
    for (const [name, { values }] of parameters) {
      for (const [i, value] of values.entries()) squares += (value - before.get(name)!.values[i]!) ** 2;
    }
    moves.push(Math.sqrt(squares));
  }
  assert.equal(norms[0], norms[1]);
  assert.ok(Math.abs(moves[0]! / norms[0]! - 1) < 1e-3);
  assert.ok(Math.abs(moves[1]! / 1e-3 - 1) < 1e-2);
});

test('a gradient that is not finite fails the step', async () => {
  const { trainer, encoder } = await parts();
  const broken = {
    ...encoder,
    gradient: async (parameters: Parameters) =>
      new Map([...parameters].map(([name, { values }]) => [name, values.map(() => Number.NaN)])),
  };
  for (const gradientClip of [null, 1]) {
    const parameters = encoder.initialise(1);
    const optimizer = createOptimizer('adam', initialOptimizerState(parameters), { weightDecay: 0 });
    await assert.rejects(
      trainStep({ trainer, encoder: broken, optimizer }, parameters, batch, labels, {
        learningRate: 0.5,
        gradientClip,
      }),
      (error: PtunedError) => error.code === 'loss_not_finite' && /gradient norm became NaN/.test(error.message),
    );
  }
});

test('a trajectory falls, starts at the untrained loss, and can be repeated', async () => {
  const run = async () => {
    const { trainer, encoder } = await parts();
    return runTrajectory({ trainer, encoder }, encoder.initialise(3), batch, labels, {
      steps: 20,
      learningRate: 5e-3,
      weightDecay: 5e-4,
    });
  };
  const losses = await run();
  assert.equal(losses.length, 20);
  assert.ok(losses[19]! < losses[0]! - 0.02, `${losses[0]} to ${losses[19]}`);
  assert.deepEqual(await run(), losses);
});

test('the plan: epochs, evaluations and what is left of them', () => {
  const plan = createPlan({ ...fakeHyperparameters, evaluate_every: 4, n_epochs: 2 }, 45);
  assert.equal(plan.stepsPerEpoch, 6);
  assert.equal(plan.totalSteps, 12);
  assert.deepEqual(plan.batchAt(7), { epoch: 1, batch: 1 });
  assert.deepEqual([...Array(13).keys()].filter(plan.isEvaluatedAfter), [0, 4, 8, 12]);
  assert.deepEqual([0, 3, 4, 11, 12].map(plan.evaluationsLeft), [3, 3, 2, 1, 0]);
  const odd = createPlan({ ...fakeHyperparameters, evaluate_every: 5, n_epochs: 2 }, 45);
  assert.deepEqual([...Array(13).keys()].filter(odd.isEvaluatedAfter), [0, 5, 10, 12]);
  assert.deepEqual([0, 10, 12].map(odd.evaluationsLeft), [3, 1, 0]);
  assert.equal(createPlan({ ...fakeHyperparameters, drop_last: true }, 45).stepsPerEpoch, 5);
});
