/** Rows whose mask leaves nothing to see: guarded ones have the right gradient, others are refused when imported. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PtunedError } from '../../src/errors.ts';
import { importModel } from '../../src/lm/import.ts';
import { inspectDirectory } from '../../src/lm/inspect.ts';
import { trainProgram } from '../../src/lm/programs.ts';
import { batchFeeds, openProgram } from '../../src/lm/run-program.ts';
import { createBuilder, emptyGraph, type GraphBuilder } from '../../src/onnx/builder.ts';
import { symbol } from '../../src/onnx/dim.ts';
import { encodeModel } from '../../src/onnx/encode.ts';
import { tensorOf, typeOf } from '../../src/onnx/types.ts';
import { inferNode } from '../../src/ops/registry.ts';

const folder = mkdtempSync(join(tmpdir(), 'ptuned-masks-'));
after(() => rmSync(folder, { recursive: true }));
const tokenizer = fileURLToPath(new URL('../../demo/models/demo-bert/tokenizer.json', import.meta.url));
cpSync(tokenizer, join(folder, 'tokenizer.json'));
const [vocabulary, width] = [8, 4];
const config = { architectures: ['BertForMaskedLM'], vocab_size: vocabulary };
writeFileSync(join(folder, 'config.json'), JSON.stringify(config));

/** What stands in for the probabilities p, or for what is read with them; `blind` marks queries that see no key. */
interface Guard {
  p?(b: GraphBuilder, p: string, blind: string): string;
  y?(b: GraphBuilder, y: string, blind: string): string;
}

const zero = (b: GraphBuilder) => b.constant('float32', 0);
const guards: Record<string, Guard> = {
  'Where(IsNaN(p), 0, p)': { p: (b, p) => b.op('Where', [b.op('IsNaN', [p]), zero(b), p]) },
  'Where(blind, 0, p)': { p: (b, p, blind) => b.op('Where', [blind, zero(b), p]) },
  'Where(sighted, p, 0)': { p: (b, p, blind) => b.op('Where', [b.op('Not', [blind]), p, zero(b)]) },
  'a Where behind casts': {
    p(b, p, blind) {
      const wide = b.op('Cast', [b.op('Cast', [p], { to: 11 })], { to: 1 });
      return b.op('Where', [blind, zero(b), wide]);
    },
  },
};

/** One attention over words, in which queries on padding see nothing: their scores are all `hidden`. */
function write(hidden: number, guard: Guard): void {
  const b = createBuilder(emptyGraph('lm'), inferNode);
  const dims = [symbol('batch'), symbol('sequence')];
  const [ids, mask] = ['input_ids', 'attention_mask'].map((name) => b.input(name, typeOf('int64', dims)));
  const weights = (rows: number, columns: number, phase: number) =>
    b.initializer(
      'weight',
      tensorOf(
        'float32',
        [rows, columns],
        Array.from({ length: rows * columns }, (_, i) => Math.sin(2 * i + phase)),
      ),
    );
  const words = b.op('Gather', [weights(vocabulary, width, 0), ids!]);
  const seen = b.op('Cast', [mask!], { to: 9 });
  const at = (axis: number) => b.op('Unsqueeze', [seen, b.constant('int64', [axis])]);
  const pairs = b.op('And', [at(1), at(2)]);
  const any = b.op('ReduceMax', [b.op('Cast', [pairs], { to: 1 }), b.constant('int64', [-1])], { keepdims: 1 });
  const blind = b.op('Equal', [any, zero(b)]);
  const bias = b.op('Where', [pairs, zero(b), b.constant('float32', hidden)]);
  // Of the last attention only the queries of targets are computed: what padding yields matters in the one before.
  let x = words;
  for (let layer = 0; layer < 2; layer++) {
    const product = b.op('MatMul', [x, b.op('Transpose', [x], { perm: [0, 2, 1] })]);
    const p = b.op('Softmax', [b.op('Add', [product, bias])], { axis: -1 });
    const read = b.op('MatMul', [guard.p?.(b, p, blind) ?? p, x]);
    x = b.op('Add', [x, guard.y?.(b, read, blind) ?? read]);
  }
  b.append({
    op: 'MatMul',
    domain: '',
    name: 'head',
    inputs: [x, weights(width, vocabulary, 1)],
    outputs: ['logits'],
    attributes: new Map(),
  });
  b.graph.outputs.push({ name: 'logits', dtype: 'float32', shape: [...dims, vocabulary] });
  const model = { irVersion: 8, producer: 'test', opsets: new Map([['', 18]]), graph: b.graph, functions: [] };
  writeFileSync(join(folder, 'model.onnx'), encodeModel(model));
}

/** Loss and prompt gradient of two rows, the second of which ends in padding. */
async function step(): Promise<Float32Array[]> {
  const candidates = { count: 2, width: 1, ids: Int32Array.of(2, 3), weights: Float32Array.of(1, 1), names: [] };
  const program = trainProgram(inspectDirectory(folder), candidates);
  const runner = await openProgram(program, { threads: 1, device: 'cpu', directory: folder });
  const batch = {
    rows: 2,
    length: 4,
    ids: BigInt64Array.of(1n, 2n, 3n, 4n, 5n, 6n, 0n, 0n),
    slots: BigInt64Array.of(-1n, 0n, -1n, -1n, 0n, -1n, -1n, -1n),
    mask: BigInt64Array.of(1n, 1n, 1n, 1n, 1n, 1n, 0n, 0n),
    targets: BigInt64Array.of(3n, 1n),
  };
  const table = { rows: 1, width, values: Float32Array.of(0.3, -0.2, 0.5, 0.1) };
  try {
    return (await runner.run(batchFeeds(batch, table, BigInt64Array.of(0n, 1n)))) as Float32Array[];
  } finally {
    await runner.close();
  }
}

for (const [name, guard] of Object.entries(guards)) {
  test(`${name}: the gradient is that of a mask of finite numbers`, async () => {
    write(-1e9, {});
    const expected = await step();
    write(Number.NEGATIVE_INFINITY, guard);
    assert.equal((await importModel(folder, { id: 'masks' })).kind, 'masked');
    const found = await step();
    for (const [i, values] of expected.entries()) {
      for (const [k, value] of values.entries())
        assert.ok(Math.abs(found[i]![k]! - value) < 1e-6, `${i}[${k}] ${found[i]![k]}, ${value} expected`);
    }
  });
}

const unguarded: Record<string, Guard> = {
  'no guard': {},
  // As PyTorch has it, too: 0 · NaN in the product's own gradient.
  'a guard behind the product': { y: (b, y, blind) => b.op('Where', [blind, zero(b), y]) },
};

for (const [name, guard] of Object.entries(unguarded)) {
  test(`${name}: refused when imported, never a gradient of NaN`, async () => {
    write(Number.NEGATIVE_INFINITY, guard);
    await assert.rejects(importModel(folder, { id: 'masks' }), (error: PtunedError) => {
      assert.ok(error instanceof PtunedError);
      assert.equal(error.code, 'import_refused');
      assert.match(error.message, /one of them padded.*not a finite number/);
      return true;
    });
  });
}
