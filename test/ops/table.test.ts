/** What the tables of ops say of each: opsets, older forms, attributes of fused ops; and that cases bear it out. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type LoweredOp, read } from '../../src/autodiff/lower/lower.ts';
import { lowerings, lowerNode } from '../../src/autodiff/lower/registry.ts';
import { PtunedError } from '../../src/errors.ts';
import { createBuilder } from '../../src/onnx/builder.ts';
import type { Attribute } from '../../src/onnx/ir.ts';
import { type Op, opKey } from '../../src/ops/op.ts';
import { inferNode, ops } from '../../src/ops/registry.ts';
import { gradientCases } from './cases/all.ts';
import { type GradientCase, subjectOf } from './gradient-check.ts';

/** test/fixtures/make_opsets.py: every op of ONNX with the opsets from 11 to 26 that brought or revised it. */
const revisions = JSON.parse(readFileSync(new URL('../fixtures/onnx-opsets.json', import.meta.url), 'utf8')) as Record<
  string,
  number[]
>;

const records = new Map<string, Op | LoweredOp>([...ops, ...lowerings]);
const casesOf = (key: string) => gradientCases.filter((one) => opKey(one.domain ?? '', one.op) === key);

test('no op has both a rule of its own and a lowering', () => {
  assert.deepEqual(
    [...lowerings.keys()].filter((key) => ops.has(key)),
    [],
  );
});

test('every record has the opsets that ONNX gives', () => {
  for (const [key, { opsets }] of records) {
    // onnxruntime defines its own ops once, some of them in the default domain.
    const expected = key.startsWith('com.microsoft.') || revisions[key] === undefined ? [1] : revisions[key];
    assert.deepEqual([...opsets], expected, key);
  }
});

test('every op of ONNX has a record', () => {
  // ImageDecoder reads files of images, and yields no floats.
  const missing = Object.keys(revisions).filter((name) => !records.has(name) && name !== 'ImageDecoder');
  assert.deepEqual(missing, []);
});

test('every older form has a case written in it', () => {
  for (const [key, { older = [], ...record }] of records) {
    if ('vjp' in record && typeof record.vjp !== 'function') continue;
    for (const [i, { before, what }] of older.entries()) {
      const after = older[i - 1]?.before ?? 0;
      const found = casesOf(key).some(({ opset }) => opset !== undefined && opset >= after && opset < before);
      assert.ok(found, `${key} below ${before}: ${what}`);
    }
  }
});

test('every attribute of a fused op that a lowering reads is set in a case', () => {
  for (const [key, { attributes }] of lowerings) {
    const set = new Set(casesOf(key).flatMap((one) => Object.keys(one.attributes ?? {})));
    const wanted = Object.keys(attributes).filter((name) => attributes[name] === read);
    assert.deepEqual(
      wanted.filter((name) => !set.has(name)),
      [],
      key,
    );
  }
});

/** What lowering a case with an attribute or input more comes to. */
function lowered(one: GradientCase, name: string, value: Attribute | null): string {
  const { graph } = subjectOf(one).model;
  const builder = createBuilder({ ...graph, nodes: [] }, inferNode);
  const node = { ...graph.nodes[0]!, attributes: new Map(graph.nodes[0]!.attributes) };
  const record = lowerings.get(opKey(node.domain, node.op))!;
  if (value !== null) node.attributes.set(name, value);
  else node.inputs = [...node.inputs, ...Array(record.inputs - node.inputs.length).fill(''), node.inputs[0]!];
  try {
    lowerNode(builder, node);
    return 'lowered';
  } catch (error) {
    assert.ok(error instanceof PtunedError && error.code === 'unsupported_op', String(error));
    return error.message;
  }
}

test('an attribute or input of a fused op that no lowering knows is refused by name', () => {
  for (const [key, { attributes, inputs }] of lowerings) {
    const one = casesOf(key)[0]!;
    assert.match(lowered(one, 'novelty', { kind: 'int', value: 1 }), /has novelty = 1/, key);
    assert.match(lowered(one, '', null), new RegExp(`takes an input ${inputs};`), key);
    for (const [name, accepted] of Object.entries(attributes)) {
      if (accepted === read) continue;
      const other: Attribute =
        typeof accepted.only === 'number'
          ? { kind: 'int', value: accepted.only + 1 }
          : { kind: 'string', value: 'other' };
      assert.match(lowered(one, name, other), new RegExp(`has ${name} = `), key);
    }
  }
});
