import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addDims,
  clampDim,
  type Dim,
  dimKey,
  divideDims,
  evaluateDim,
  isClampOf,
  multiplyDims,
  productOf,
  sameDim,
  subtractDims,
  symbol,
  unknownDim,
} from '../../src/onnx/dim.ts';
import { broadcastShapes } from '../../src/onnx/types.ts';

const [b, s] = [symbol('batch'), symbol('sequence')];
const bindings = new Map([
  ['batch', 3],
  ['sequence', 7],
]);
const value = (dim: Dim) => evaluateDim(dim, bindings);

const anyDim = fc.letrec<{ dim: Dim }>((tie) => ({
  dim: fc.oneof(
    { depthSize: 'small' },
    fc.integer({ min: -5, max: 9 }),
    fc.constantFrom(b, s),
    fc.tuple(tie('dim'), tie('dim')).map(([x, y]) => addDims(x, y)),
    fc.tuple(tie('dim'), tie('dim')).map(([x, y]) => multiplyDims(x, y)),
  ),
})).dim;

test('arithmetic on dimensions agrees with arithmetic on their sizes', () => {
  fc.assert(
    fc.property(anyDim, anyDim, (x, y) => {
      assert.equal(value(addDims(x, y)), value(x)! + value(y)!);
      assert.equal(value(subtractDims(x, y)), value(x)! - value(y)!);
      assert.equal(value(multiplyDims(x, y)), value(x)! * value(y)! + 0);
    }),
  );
});

test('equal polynomials have one form', () => {
  fc.assert(
    fc.property(anyDim, anyDim, anyDim, (x, y, z) => {
      assert.ok(sameDim(addDims(x, y), addDims(y, x)));
      assert.ok(sameDim(multiplyDims(x, addDims(y, z)), addDims(multiplyDims(x, y), multiplyDims(x, z))));
      assert.ok(sameDim(subtractDims(x, x), 0));
    }),
  );
});

test('what divides a product is divided out exactly, or not at all', () => {
  fc.assert(
    fc.property(anyDim, fc.constantFrom<Dim>(2, 3, b, s, multiplyDims(2, b), multiplyDims(b, s)), (x, by) => {
      fc.pre(x !== 0);
      const quotient = divideDims(multiplyDims(x, by), by);
      assert.ok(quotient !== null && sameDim(quotient, x));
    }),
  );
  assert.equal(divideDims(addDims(s, 1), 2), null);
  assert.equal(divideDims(b, s), null);
  assert.equal(divideDims(4, 0), null);
  assert.equal(divideDims(7, 2), null);
});

test('different symbols are not the same dimension, and an unknown is only itself', () => {
  assert.ok(!sameDim(b, s));
  const unknown = unknownDim();
  assert.ok(sameDim(unknown, unknown));
  assert.ok(!sameDim(unknown, unknownDim()));
  assert.equal(dimKey(productOf([b, 4, s])), dimKey(productOf([s, b, 4])));
});

test('broadcasting two symbols stays unknown; 1 and numbers decide', () => {
  const broadcast = (x: Dim, y: Dim) => broadcastShapes([x], [y], () => symbol('unknown'))!.map(dimKey)[0];
  assert.equal(broadcast(b, s), 'unknown');
  assert.equal(broadcast(b, 1), 'batch');
  assert.equal(broadcast(1, s), 'sequence');
  assert.equal(broadcast(b, 4), '4');
  assert.equal(broadcast(s, s), 'sequence');
  assert.deepEqual(broadcastShapes([s, 1], [b, 1, 8], () => 0)!.map(dimKey), ['batch', 'sequence', '8']);
});

test('a length clamped to a buffer broadcasts only against itself', () => {
  const clamped = clampDim(64, s);
  assert.ok(isClampOf(clamped, s));
  assert.ok(!isClampOf(clamped, b));
  assert.ok(!isClampOf(s, clamped));
  // min(1, s) may be stretched.
  assert.ok(!isClampOf(clampDim(1, s), s));
  assert.equal(clampDim(64, 100), 64);
  assert.deepEqual(
    broadcastShapes([clamped], [s], () => 0),
    [s],
  );
});
