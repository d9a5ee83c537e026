/** Hostile model files: each is refused with a reason, none takes the process that reads it along. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { toBinary } from '@bufbuild/protobuf';
import { failures, PtunedError } from '../../src/errors.ts';
import { importModel } from '../../src/lm/import.ts';
import { preflightModel } from '../../src/models/preflight.ts';
import { ModelProtoSchema } from '../../src/onnx/onnx_pb.ts';
import { hostileCases, squaring, writeHostile } from './hostile.ts';
import { config, soundModel } from './hostile-model.ts';

const root = mkdtempSync(join(tmpdir(), 'ptuned-hostile-'));
after(() => rmSync(root, { recursive: true }));
const tokenizer = fileURLToPath(new URL('../../demo/models/demo-bert', import.meta.url));

function newFolder(name: string): string {
  const folder = join(root, name.replaceAll(/[^a-z0-9]+/gi, '-'));
  mkdirSync(folder);
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) cpSync(join(tokenizer, file), join(folder, file));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return folder;
}

/** The user's fault, said in words. */
function checkRefusal(error: unknown, says: RegExp): void {
  assert.ok(error instanceof PtunedError, (error as Error).stack);
  assert.ok(failures[error.code].status < 500, `${error.code}: ${error.message}`);
  assert.match(error.message, says);
}

test('the LM that the cases change is in order', async () => {
  const folder = newFolder('sound');
  writeFileSync(join(folder, 'model.onnx'), toBinary(ModelProtoSchema, soundModel()));
  assert.equal((await importModel(folder)).kind, 'masked');
});

test('sizes that no machine writes out as a polynomial are left unknown', async () => {
  const folder = newFolder('squaring');
  const model = soundModel();
  squaring(model);
  writeFileSync(join(folder, 'model.onnx'), toBinary(ModelProtoSchema, model));
  assert.equal((await importModel(folder)).kind, 'masked');
});

test('there are sixty of them and more, each by its own name', () => {
  assert.ok(new Set(hostileCases.map(({ name }) => name)).size >= 60);
  assert.equal(new Set(hostileCases.map(({ name }) => name)).size, hostileCases.length);
});

for (const one of hostileCases) {
  test(`${one.name} is refused`, async () => {
    const folder = newFolder(one.name);
    writeHostile(one, folder);
    const limits = { megabytes: 1000, seconds: 4 };
    const work = one.greedy === true ? preflightModel(folder, limits) : importModel(folder);
    const error = await work.then(
      () => assert.fail('was imported'),
      (thrown) => thrown,
    );
    checkRefusal(error, one.says);
  });
}

const configs: [file: string, text: string, says: RegExp][] = [
  ['config.json', 'null', /config\.json is not JSON/],
  ['config.json', '["BertForMaskedLM"]', /config\.json is not JSON/],
  ['config.json', '{', /config\.json is not JSON/],
  ['config.json', '{"architectures": ["BertForMaskedLM"], "vocab_size": 1e30}', /word-embedding/],
  ['config.json', '{"architectures": {"0": 1}, "model_type": []}', /architecture/],
  ['tokenizer_config.json', '{', /JSON/],
  ['tokenizer_config.json', 'null', /./],
];

test('configurations that are not what they should be are refused', async () => {
  for (const [i, [file, text, says]] of configs.entries()) {
    const folder = newFolder(`configuration ${i}`);
    writeFileSync(join(folder, 'model.onnx'), toBinary(ModelProtoSchema, soundModel()));
    writeFileSync(join(folder, file), text);
    const error = await importModel(folder).then(
      () => assert.fail(`${file} ${text} was imported`),
      (thrown) => thrown,
    );
    checkRefusal(error, says);
  }
});

/** An export of transformers, small enough that altered bytes often hit the graph and not the weights. */
const whole = readFileSync(fileURLToPath(new URL('../fixtures/bert/model.onnx', import.meta.url)));

test('an export with altered bytes is imported or refused, each in a process of its own', async () => {
  let state = 11;
  const random = (limit: number) => (state = (state * 48271) % 0x7fffffff) % limit;
  const outcomes: string[] = [];
  for (let i = 0; i < 12; i++) {
    const folder = newFolder(`altered ${i}`);
    cpSync(fileURLToPath(new URL('../fixtures/bert/config.json', import.meta.url)), join(folder, 'config.json'));
    const bytes = Uint8Array.from(whole);
    for (let k = 0; k < 4 * (i + 1); k++) bytes[random(bytes.length)] = random(256);
    writeFileSync(join(folder, 'model.onnx'), bytes);
    const work = preflightModel(folder, { megabytes: 1000, seconds: 30 });
    await work.then(
      () => outcomes.push('imported'),
      (error) => {
        checkRefusal(error, /./);
        outcomes.push('refused');
      },
    );
  }
  assert.ok(outcomes.includes('refused'), 'some of the alterations must matter');
});
