import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createTextBuilder } from '../../src/inference/text.ts';

/** One token a byte, so that characters and stop strings straddle tokens. */
const bytes = { decode: (ids: readonly number[]) => new TextDecoder().decode(Uint8Array.from(ids)) };
/** Words that carry their space, and a decoder that strips the first one, as sentencepiece does. */
const words = ['▁Paris', '▁is', '▁big', '.', 'ian'];
const pieces = {
  decode: (ids: readonly number[]) =>
    ids
      .map((id) => words[id])
      .join('')
      .replaceAll('▁', ' ')
      .trimStart(),
};

const utf8 = (text: string) => [...new TextEncoder().encode(text)];

function run(text: string, stops: string[]) {
  const builder = createTextBuilder(bytes, [], stops);
  const released: string[] = [];
  let stopped = false;
  let used = 0;
  for (const token of utf8(text)) {
    used++;
    stopped = builder.push(token);
    released.push(builder.release(stopped));
    if (stopped) break;
  }
  released.push(builder.release(true));
  return { text: builder.text(), released, stopped, used };
}

test('characters of several tokens appear whole', () => {
  const { text, released } = run('né 😀 ✓', []);
  assert.equal(text, 'né 😀 ✓');
  assert.deepEqual(
    released.filter((piece) => piece !== ''),
    ['n', 'é', ' ', '😀', ' ', '✓'],
  );
});

test('a character that never completes is shown at the end as what it is', () => {
  const builder = createTextBuilder(bytes, [], []);
  for (const token of [0x61, 0xe2, 0x9c]) builder.push(token);
  assert.equal(builder.release(false), 'a');
  assert.equal(builder.release(true), '\uFFFD');
  assert.equal(builder.text(), 'a\uFFFD');
});

test('stop strings end the text across token borders, and nothing of them is ever shown', () => {
  const { text, released, stopped, used } = run('one, two###three', ['##', 'tree']);
  assert.deepEqual([text, stopped, used], ['one, two', true, 'one, two##'.length]);
  assert.equal(released.join(''), 'one, two');
});

test('of several stop strings the first in the text counts; a near miss is shown', () => {
  assert.equal(run('abcabd!', ['abd', 'zz']).text, 'abc');
  assert.deepEqual(run('ababab', ['abac']).released.join(''), 'ababab');
});

test('what is released, joined, is the text up to the first stop string, whatever the text', () => {
  const alphabet = fc.constantFrom('a', 'b', 'é', '😀');
  const text = fc.string({ unit: alphabet, maxLength: 40 });
  const stop = fc.string({ unit: alphabet, minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(text, fc.array(stop, { maxLength: 4 }), (whole, stops) => {
      const { text: built, released } = run(whole, stops);
      // The text ends as soon as a stop string is complete, so what counts is which ends first.
      const ends = stops.flatMap((one) => (whole.includes(one) ? [whole.indexOf(one) + one.length] : []));
      const prefix = whole.slice(0, Math.min(...ends, whole.length));
      const starts = stops.flatMap((one) => (prefix.includes(one) ? [prefix.indexOf(one)] : []));
      assert.equal(built, whole.slice(0, Math.min(...starts, whole.length)));
      assert.equal(released.join(''), built);
    }),
    { numRuns: 500 },
  );
});

test('the first word keeps the space that separates it from the prompt', () => {
  const inside = createTextBuilder(pieces, [0], []);
  for (const token of [1, 2, 3]) inside.push(token);
  assert.equal(inside.text(), ' is big.');
  assert.deepEqual(inside.offsets(), [0, 3, 7]);
  const suffix = createTextBuilder(pieces, [0], []);
  suffix.push(4);
  assert.equal(suffix.text(), 'ian');
});
