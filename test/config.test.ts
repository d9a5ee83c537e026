/** The environment: what is empty is not there, and what cannot be used is refused by name. */
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { readConfig } from '../src/config.ts';

test('an empty variable is as none, whatever it is for', () => {
  const names = ['DATA', 'HOST', 'PORT', 'INFERENCE_HOST', 'INFERENCE_URL', 'CACHE', 'PACKING', 'DEVICE', 'API_KEYS'];
  const empty = Object.fromEntries([...names.map((name) => [`PTUNED_${name}`, '']), ['REDIS_URL', '']]);
  assert.deepEqual(readConfig(empty), readConfig({}));
  assert.equal(readConfig(empty).dataDirectory, resolve('.ptuned'));
});

test('where inference is found is a URL, and follows from its own host and port unless given', () => {
  assert.equal(readConfig({ PTUNED_PORT: '9000' }).inferenceUrl, 'http://127.0.0.1:9001');
  assert.equal(readConfig({ PTUNED_PORT: '65535' }).inferencePort, 65534);
  assert.equal(readConfig({ PTUNED_INFERENCE_URL: 'http://inference:8081' }).inferenceUrl, 'http://inference:8081');
  for (const url of ['inference', 'inference:8081', 'ftp://inference']) {
    assert.throws(() => readConfig({ PTUNED_INFERENCE_URL: url }), {
      param: 'PTUNED_INFERENCE_URL',
      message: `PTUNED_INFERENCE_URL is "${url}"; accepted: a URL such as http://127.0.0.1:8081.`,
    });
  }
});
