/** Files over HTTP: streamed uploads, lists, contents, owners. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestService, type TestService, uploadForm } from './service.ts';

let service: TestService;

const ada = { authorization: 'Bearer key-of-ada' };
const bob = { authorization: 'Bearer key-of-bob' };

before(async () => {
  const apiKeys = ['ada', 'bob'].map((owner) => ({ owner, key: `key-of-${owner}` }));
  // Files need no Redis: the address is one where nothing listens.
  service = await startTestService({ redisUrl: 'redis://127.0.0.1:1', config: { apiKeys }, maxFileBytes: 1000 });
});

after(() => service?.close());

async function upload(form: { payload: string; contentType: string }) {
  const headers = { ...ada, 'content-type': form.contentType };
  const response = await service.app.inject({ method: 'POST', url: '/v1/files', headers, payload: form.payload });
  return { status: response.statusCode, body: response.json() };
}

async function get(path: string, headers = ada) {
  const response = await service.app.inject({ url: `/v1/files${path}`, headers });
  return { status: response.statusCode, body: response.json() };
}

const stored = () => readdir(join(service.config.dataDirectory, 'files'));

test('a file comes back as it went up, in whatever order the form has its fields', async () => {
  for (const fileFirst of [true, false]) {
    const content = `{"a": "${fileFirst}"}\r\n{"b": "ü"}`;
    const { status, body } = await upload(uploadForm({ purpose: 'fine-tune' }, content, 'file', fileFirst));
    assert.equal(status, 200);
    const { id, created_at, ...rest } = body;
    assert.match(id, /^file-[0-9a-f]{24}$/);
    assert.ok(Math.abs(created_at - Date.now() / 1000) < 10);
    const bytes = Buffer.byteLength(content);
    const filename = 'rows.jsonl';
    assert.deepEqual(rest, { object: 'file', bytes, filename, purpose: 'fine-tune', status: 'processed' });
    assert.deepEqual((await get(`/${id}`)).body, body);
    const response = await service.app.inject({ url: `/v1/files/${id}/content`, headers: ada });
    assert.equal(response.body, content);
    assert.equal(response.headers['content-type'], 'application/octet-stream');
    assert.equal(response.headers['content-length'], String(bytes));
  }
});

const refused: [
  name: string,
  form: { payload: string; contentType: string },
  status: number,
  param: string | null,
  message: RegExp,
][] = [
  [
    'another purpose',
    uploadForm({ purpose: 'batch' }, '{}'),
    400,
    'purpose',
    /purpose is "batch"; accepted: "fine-tune"/,
  ],
  ['no purpose', uploadForm({}, '{}'), 400, 'purpose', /purpose is missing/],
  [
    'two purposes',
    uploadForm({ purpose: 'fine-tune', ' purpose': 'x' }, '{}'),
    400,
    ' purpose',
    /accepted: file and purpose/,
  ],
  [
    'an unknown field',
    uploadForm({ expires_after: '1', purpose: 'fine-tune' }, '{}'),
    400,
    'expires_after',
    /expires_after is not a known field/,
  ],
  [
    'a file under another name',
    uploadForm({ purpose: 'fine-tune' }, '{}', 'data'),
    400,
    'data',
    /data is not a known field/,
  ],
  [
    'another field after its purpose',
    uploadForm({ purpose: 'fine-tune', expires_after: '1' }, '{}'),
    400,
    'expires_after',
    /expires_after is not a known field/,
  ],
  [
    'a file that is a text field',
    {
      payload: '--b\r\ncontent-disposition: form-data; name="file"\r\n\r\n{}\r\n--b--\r\n',
      contentType: 'multipart/form-data; boundary=b',
    },
    400,
    'file',
    /file is a text field, not an upload/,
  ],
  [
    'a broken line',
    uploadForm({ purpose: 'fine-tune' }, '{"a": 1}\n\n{"a": '),
    400,
    'file',
    /^file: Line 3, column 6 is not JSON: /,
  ],
  ['a line that is no object', uploadForm({ purpose: 'fine-tune' }, '["a"]'), 400, 'file', /^file: Line 1 is a list/],
  ['no rows', uploadForm({ purpose: 'fine-tune' }, '\n \n'), 400, 'file', /^file: The file has no rows/],
  [
    'no file',
    {
      payload: '--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b--\r\n',
      contentType: 'multipart/form-data; boundary=b',
    },
    400,
    'file',
    /file is missing/,
  ],
  ['an empty file', uploadForm({ purpose: 'fine-tune' }, ''), 400, 'file', /no rows/],
  ['a file that is too large', uploadForm({ purpose: 'fine-tune' }, '{}\n'.repeat(1001)), 413, 'file', /larger than/],
  [
    'a form that breaks off',
    {
      payload: uploadForm({}, '{}').payload.slice(0, -30),
      contentType: 'multipart/form-data; boundary=form-boundary-7f3c',
    },
    400,
    null,
    /./,
  ],
  ['a form without boundary', { payload: 'x', contentType: 'multipart/form-data' }, 400, null, /./],
  ['JSON', { payload: '{}', contentType: 'application/json' }, 415, null, /accepted: multipart\/form-data/],
  ['plain text', { payload: 'x', contentType: 'text/plain' }, 415, null, /accepted: multipart\/form-data/],
];

for (const [name, form, status, param, message] of refused) {
  test(`an upload with ${name} is refused and leaves nothing behind`, async () => {
    const before = await stored();
    const { status: found, body } = await upload(form);
    assert.deepEqual([found, body.error.param], [status, param], JSON.stringify(body));
    assert.match(body.error.message, message);
    assert.deepEqual(await stored(), before);
  });
}

test('a client that goes away in the middle of an upload leaves nothing behind', async () => {
  await service.app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = service.app.server.address() as AddressInfo;
  const before = await stored();
  const { payload, contentType } = uploadForm({ purpose: 'fine-tune' }, '{}\n'.repeat(300));
  const headers = { ...ada, 'content-type': contentType, 'content-length': payload.length };
  const request = httpRequest({ port, host: '127.0.0.1', method: 'POST', path: '/v1/files', headers });
  request.on('error', () => {});
  await new Promise((resolve) => request.write(payload.slice(0, 400), resolve));
  await until(async () => (await stored()).length > before.length);
  request.destroy();
  await until(async () => (await stored()).length === before.length);
});

test('lists are pages in both orders, by purpose, and each owner’s own', async () => {
  const listed = await get('');
  const ids: string[] = listed.body.data.map(({ id }: { id: string }) => id);
  assert.equal(ids.length, 2);
  const pick = ({ body }: Awaited<ReturnType<typeof get>>) => [
    body.data.map(({ id }: { id: string }) => id),
    body.has_more,
  ];
  assert.deepEqual(pick(await get('?limit=1')), [[ids[0]], true]);
  assert.deepEqual(pick(await get(`?limit=1&after=${ids[0]}`)), [[ids[1]], false]);
  assert.deepEqual(pick(await get('?order=asc&purpose=fine-tune')), [[...ids].reverse(), false]);
  assert.deepEqual(pick(await get('?purpose=batch')), [[], false]);
  assert.deepEqual(pick(await get('', bob)), [[], false]);
  const wrong: [string, string][] = [
    ['?after=file-0', 'after'],
    ['?limit=-1', 'limit'],
    ['?order=up', 'order'],
    ['?page=1', 'page'],
  ];
  for (const [query, param] of wrong) {
    const { status, body } = await get(query);
    assert.deepEqual([status, body.error.param], [400, param]);
  }
});

test('a file is deleted once, by its owner', async () => {
  const { id } = (await get('')).body.data[0];
  const remove = async (headers: typeof ada) => {
    const response = await service.app.inject({ method: 'DELETE', url: `/v1/files/${id}`, headers });
    return [response.statusCode, response.json().error?.code ?? response.json()];
  };
  assert.deepEqual(await remove(bob), [404, 'file_not_found']);
  assert.equal((await get(`/${id}/content`, bob)).status, 404);
  assert.deepEqual(await remove(ada), [200, { id, object: 'file', deleted: true }]);
  assert.deepEqual(await remove(ada), [404, 'file_not_found']);
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail('it did not happen in 2 s');
}
