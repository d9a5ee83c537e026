/** Every prompt encoder, for one pseudo token and for more: the gradients of its parameters by finite differences. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { wholeGradient } from '../../src/prompts/gradients.ts';
import { openEncoder } from '../../src/prompts/open.ts';
import type { EncoderShape, Parameters } from '../../src/prompts/types.ts';
import { relativeError } from '../../src/tuning/reference.ts';

const width = 6;
const projection = { embedding: 4, hidden: 3 };
const types = ['lstm', 'mlp', 'embedding', 'projection'] as const;

for (const type of types) {
  for (const virtualTokens of [1, 2, 5]) {
    test(`${type} of ${virtualTokens}: gradients as central differences`, async () => {
      const base = type === 'mlp' ? Float32Array.from({ length: virtualTokens * width }, (_, i) => i / 10) : null;
      const shape: EncoderShape = { type, layers: 2, virtualTokens, width, base, projection };
      const encoder = await openEncoder(shape, { threads: 1 });
      const parameters = encoder.initialise(7);
      const seed = Float32Array.from({ length: virtualTokens * width }, (_, i) => Math.cos(i + 1));
      await encoder.forward(parameters);
      const gradients = await encoder.gradient(parameters, seed);
      assert.deepEqual([...gradients.keys()], [...parameters.keys()]);
      const found: number[] = [];
      const wanted: number[] = [];
      for (const [name, { values }] of parameters) {
        const own = wholeGradient(gradients.get(name)!);
        assert.equal(own.length, values.length, name);
        for (const at of [0, values.length >> 1, values.length - 1]) {
          found.push(own[at]!);
          wanted.push(await difference(encoder, parameters, values, at, seed));
        }
      }
      const error = relativeError(found, wanted);
      assert.ok(error < 2e-3, `${error}`);
      await encoder.close();
    });
  }
}

test('with one pseudo token the recurrent weights have a gradient of zeros, as in PyTorch', async () => {
  const shape: EncoderShape = { type: 'lstm', layers: 2, virtualTokens: 1, width, base: null };
  const encoder = await openEncoder(shape, { threads: 1 });
  const parameters = encoder.initialise(7);
  await encoder.forward(parameters);
  const gradients = await encoder.gradient(parameters, new Float32Array(width).fill(1));
  const recurrent = [...gradients].filter(([name]) => name.includes('weight_hh'));
  assert.equal(recurrent.length, 4);
  for (const [name, gradient] of recurrent)
    assert.ok(
      wholeGradient(gradient).every((value) => value === 0),
      name,
    );
  await encoder.close();
});

/** (f(x + h) - f(x - h)) / 2h of f = Σ table · seed, at one element. */
async function difference(
  encoder: Awaited<ReturnType<typeof openEncoder>>,
  parameters: Parameters,
  values: Float32Array,
  at: number,
  seed: Float32Array,
): Promise<number> {
  const step = 2 ** -7;
  const middle = values[at]!;
  const sums: number[] = [];
  for (const sign of [1, -1]) {
    values[at] = middle + sign * step;
    const table = await encoder.forward(parameters);
    sums.push(table.reduce((sum, value, i) => sum + value * seed[i]!, 0));
  }
  values[at] = middle;
  return (sums[0]! - sums[1]!) / (2 * step);
}
