/** A process that computes starts only where its device works: otherwise every job would fail, one after the other. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { Config } from '../src/config.ts';
import { type FailureRecord, fromFailureRecord, PtunedError } from '../src/errors.ts';
import { sibling } from './sibling.ts';

/** @throws PtunedError invalid_request naming PTUNED_DEVICE */
export async function requireDevice({ device }: Pick<Config, 'device'>): Promise<void> {
  if (device === 'cpu') return;
  const child = fork(sibling(import.meta.url, './device-child'), [], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new PtunedError('invalid_request', `PTUNED_DEVICE is ${device}; trying it ended with ${signal ?? code}.`, {
      param: 'PTUNED_DEVICE',
    });
  });
  const [failure] = (await Promise.race([once(child, 'message'), ended])) as [FailureRecord | null];
  ended.catch(() => {});
  if (failure !== null) throw fromFailureRecord(failure);
}
