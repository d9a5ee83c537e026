/** openapi/openapi.json is what the routes say; that they answer so is checked in every test that uses service.ts. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { differences, generateOpenapi } from '../../scripts/openapi.ts';
import { projectFolder } from '../../src/api/project.ts';

const file = join(projectFolder(), 'openapi', 'openapi.json');

type Operation = Record<string, unknown> & { operationId?: string; responses: Record<string, unknown> };

test('the committed file is the generated one, and generation is deterministic', async () => {
  const generated = await generateOpenapi();
  assert.equal(await generateOpenapi(), generated);
  assert.deepEqual(differences(JSON.parse(await readFile(file, 'utf8')), JSON.parse(generated)), [], 'npm run openapi');
});

test('a difference is named by its place', () => {
  assert.deepEqual(differences({ a: { 'b/c': 1, d: [1, 2] } }, { a: { 'b/c': 2, d: [1, 3] } }), ['/a/b~1c', '/a/d/1']);
  assert.deepEqual(differences({ a: 1 }, { a: 1, b: 2 }), ['/b']);
  assert.deepEqual(differences({ a: 1, b: 2 }, { b: 2, a: 1 }), [' (order)']);
});

test('every operation has an id of its own, a tag, a summary, its errors and its security', async () => {
  const document = JSON.parse(await readFile(file, 'utf8'));
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.values(methods as Record<string, Operation>).map((operation) => ({ path, operation })),
  );
  assert.ok(operations.length >= 24);
  assert.equal(new Set(operations.map(({ operation }) => operation.operationId)).size, operations.length);
  for (const { path, operation } of operations) {
    for (const key of ['operationId', 'summary', 'tags', 'security']) assert.ok(operation[key], `${path} ${key}`);
    assert.ok('4XX' in operation.responses && '5XX' in operation.responses, path);
    assert.equal((operation.security as object[]).length, path.startsWith('/v1/') ? 1 : 0, path);
  }
});
