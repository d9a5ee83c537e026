import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PtunedError } from '../../src/errors.ts';
import { defaultLimits, type Limits } from '../../src/inference/limits.ts';
import { createResidents, type Residents } from '../../src/inference/residents.ts';
import { createLogger } from '../../src/logger.ts';
import type { ModelManifest } from '../../src/models/manifest.ts';
import { createFakeLm, type FakeLm, fakeManifest } from '../support/fake-lm.ts';

const model = (id: string, weightBytes = 1000) => fakeManifest({ id, weightBytes });
const signal = () => new AbortController().signal;

interface Setup {
  residents: Residents;
  /** Ids in the order in which they were opened. */
  opened: string[];
  open: Map<string, FakeLm>;
  query(manifest: ModelManifest): Promise<void>;
  generate(manifest: ModelManifest, tokens: number): Promise<void>;
}

function setup(limits: Partial<Limits> = {}, failing: Record<string, PtunedError> = {}): Setup {
  const opened: string[] = [];
  const open = new Map<string, FakeLm>();
  const residents = createResidents({
    openLm: async (manifest) => {
      await sleep(5);
      const failure = failing[manifest.id];
      if (failure !== undefined) throw failure;
      const lm = createFakeLm({ kind: 'causal', vocabulary: 12, width: 8, runMs: 1 });
      opened.push(manifest.id);
      open.set(manifest.id, lm);
      return lm;
    },
    options: { threads: 1, device: 'cpu' },
    limits: { ...defaultLimits(), ...limits },
    logger: createLogger('test', 'silent'),
    observe: () => undefined,
  });
  const row = { ids: [1, 2], slots: [-1, -1], target: 1, label: -1, cut: 0 };
  return {
    residents,
    opened,
    open,
    query: (manifest) =>
      residents.lane(manifest).submit('score', [{ row, prompt: null, grows: 0, take: () => null }], signal()),
    generate(manifest, tokens) {
      let left = tokens;
      const take = () => (--left === 0 ? null : 1);
      return residents.lane(manifest).submit('generate', [{ row, prompt: null, grows: tokens - 1, take }], signal());
    },
  };
}

test('an LM is opened once, when it is first asked for', async () => {
  const { residents, opened, query, open } = setup();
  assert.equal(residents.peek(model('a')), null);
  await Promise.all([query(model('a')), query(model('a')), query(model('b'))]);
  await query(model('a'));
  assert.deepEqual(opened, ['a', 'b']);
  await residents.close();
  assert.ok(open.get('a')!.closed && open.get('b')!.closed);
  assert.deepEqual(residents.held(), []);
});

test('the least recently used LM makes room; one is kept whatever its size', async () => {
  const { residents, opened, query, open } = setup({ lmBytes: 2500 });
  await query(model('a'));
  await query(model('b'));
  await query(model('a'));
  await query(model('c'));
  assert.ok(open.get('b')!.closed && !open.get('a')!.closed);
  assert.deepEqual(
    residents
      .held()
      .map(({ id }) => id)
      .sort(),
    ['a', 'c'],
  );
  await query(model('huge', 1e12));
  assert.deepEqual(
    residents.held().map(({ id }) => id),
    ['huge'],
  );
  await query(model('b'));
  assert.deepEqual(opened, ['a', 'b', 'c', 'huge', 'b']);
  await residents.close();
});

test('a busy LM finishes what it was given before it makes room, and is opened again for what comes after', async () => {
  const { residents, opened, query, generate, open } = setup({ lmBytes: 1000 });
  const long = generate(model('a'), 60);
  await sleep(20);
  const other = query(model('b'));
  await sleep(1);
  const again = query(model('a'));
  await long;
  const first = open.get('a')!;
  await other;
  assert.ok(first.closed);
  await again;
  assert.deepEqual(opened, ['a', 'b', 'a']);
  await residents.close();
});

test('an LM of the same id with other weights is another LM', async () => {
  const { residents, opened, query } = setup();
  await query(model('a'));
  await query(fakeManifest({ id: 'a', hash: 'c'.repeat(64) }));
  assert.deepEqual(opened, ['a', 'a']);
  await residents.close();
});

test('an LM that cannot be opened fails its requests, and is tried again later', async () => {
  const failure = new PtunedError('damaged_model', 'model.onnx is damaged.');
  const failing: Record<string, PtunedError> = { a: failure };
  const { residents, query } = setup({}, failing);
  const outcomes = await Promise.allSettled([query(model('a')), query(model('a'))]);
  for (const outcome of outcomes) assert.ok(outcome.status === 'rejected' && outcome.reason === failure);
  assert.deepEqual(residents.held(), []);
  delete failing.a;
  await query(model('a'));
  await residents.close();
});

test('an LM that is lost fails its requests, and the next request opens it anew', async () => {
  let lose: (reason: unknown) => void = () => undefined;
  let opens = 0;
  const residents = createResidents({
    openLm: async () => {
      opens++;
      const lm = createFakeLm({ kind: 'causal', vocabulary: 12, width: 8, runMs: 20 });
      return { ...lm, lost: new Promise((resolve) => (lose = resolve)) };
    },
    options: { threads: 1, device: 'cpu' },
    limits: defaultLimits(),
    logger: createLogger('test', 'silent'),
    observe: () => undefined,
  });
  const row = { ids: [1], slots: [-1], target: 0, label: -1, cut: 0 };
  const query = () =>
    residents.lane(model('a')).submit('score', [{ row, prompt: null, grows: 0, take: () => null }], signal());
  const waiting = query();
  await sleep(10);
  lose(new PtunedError('inference_unavailable', 'stopped'));
  await assert.rejects(waiting, /stopped/);
  await query();
  assert.equal(opens, 2);
  await residents.close();
});

test('nothing is opened for requests whose clients have gone', async () => {
  const { residents, opened, query } = setup({ lmBytes: 1000 });
  const first = query(model('a'));
  const gone = new AbortController();
  const row = { ids: [1], slots: [-1], target: 0, label: -1, cut: 0 };
  const ticket = { row, prompt: null, grows: 0, take: () => null };
  const second = residents.lane(model('b')).submit('score', [ticket], gone.signal);
  gone.abort(new Error('gone'));
  await assert.rejects(second, /gone/);
  await first;
  await sleep(20);
  assert.deepEqual(opened, ['a']);
  assert.deepEqual(
    residents.held().map(({ id }) => id),
    ['a'],
  );
  await residents.close();
});

test('draining lets requests finish, for a while', async () => {
  const patient = setup();
  const short = patient.generate(model('a'), 20);
  await patient.residents.drain(5000);
  await short;
  await patient.residents.close();

  const hasty = setup();
  const long = hasty.generate(model('a'), 100_000);
  const ended = assert.rejects(long, (error) => error instanceof PtunedError && error.code === 'inference_unavailable');
  await hasty.residents.drain(30);
  await ended;
  await hasty.residents.close();
});
