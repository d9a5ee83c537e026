/** A device that does not work is found out before the first job. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { PtunedError } from '../../src/errors.ts';
import { checkDevice } from '../../src/onnx/device.ts';
import { requireDevice } from '../../workers/device.ts';

const hasDriver = existsSync('/proc/driver/nvidia/version');

test('the CPU works, and is not tried in a process of its own', async () => {
  await checkDevice('cpu');
  await requireDevice({ device: 'cpu' });
});

test('cuda without its libraries is refused with the variable and what to do', { skip: hasDriver }, async () => {
  await assert.rejects(requireDevice({ device: 'cuda' }), (error) => {
    assert.ok(error instanceof PtunedError);
    assert.equal(error.param, 'PTUNED_DEVICE');
    assert.match(error.message, /^PTUNED_DEVICE is cuda, .*PTUNED_DEVICE=cpu works everywhere\.$/s);
    return true;
  });
});
