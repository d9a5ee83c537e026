import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../workers/ptuned.ts', import.meta.url));
let data: string;
let started: ChildProcess[];

beforeEach(async () => {
  data = await fs.mkdtemp(join(tmpdir(), 'ptuned-service-'));
  started = [];
});

afterEach(async () => {
  for (const child of started) child.kill('SIGKILL');
  await eventually('nothing is left', () => processes().length === 0);
  await fs.rm(data, { recursive: true, force: true });
});

interface Run {
  child: ChildProcess;
  stderr(): string;
  /** First line on standard output; null when it ended without one. */
  line: Promise<string | null>;
  /** Exit code. */
  ended: Promise<number | null>;
}

function ptuned(args: string[], environment: Record<string, string> = {}): Run {
  const { REDIS_URL: _, ...clean } = process.env;
  const child = spawn(process.execPath, ['--import', 'tsx', script, ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...clean, PTUNED_DATA: data, PTUNED_PORT: '0', PTUNED_LOG_LEVEL: 'warn', ...environment },
  });
  started.push(child);
  let errors = '';
  child.stderr!.setEncoding('utf8').on('data', (text) => {
    errors += text;
  });
  const lines = createInterface(child.stdout!);
  const line = Promise.race([once(lines, 'line').then(([text]) => text), once(lines, 'close').then(() => null)]);
  const ended = once(child, 'exit').then(([code]) => code);
  return { child, stderr: () => errors, line, ended };
}

/** Every process that works on this test's data directory, by its environment or its arguments. */
function processes(): { pid: number; command: string }[] {
  const found = execFileSync('sh', ['-c', `grep -lzs "${data}" /proc/[0-9]*/environ /proc/[0-9]*/cmdline || true`]);
  const pids = new Set([...found.toString().matchAll(/\/proc\/(\d+)\//g)].map(([, pid]) => Number(pid)));
  const commands = execFileSync('ps', ['-eo', 'pid=,ppid=,stat=,args=']).toString().split('\n');
  return commands
    .map((row) => /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(row))
    .filter((row) => row !== null)
    .filter(
      ([, pid, parent, stat]) => pids.has(Number(pid)) && !stat!.startsWith('Z') && Number(parent) !== process.pid,
    )
    .map(([, pid, , , command]) => ({ pid: Number(pid), command: command! }));
}

function pidOf(role: string): number | undefined {
  return processes().find(({ command }) => command.includes(`workers/${role}.ts`))?.pid;
}

async function eventually(what: string, holds: () => boolean | Promise<boolean>, milliseconds = 15_000): Promise<void> {
  for (const end = Date.now() + milliseconds; !(await holds()); await setTimeout(100)) {
    assert.ok(Date.now() < end, `not so after ${milliseconds} ms: ${what}`);
  }
}

const isReady = (url: string) =>
  fetch(`${url}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  );

test('starts everything, starts a dead process again, stops on ctrl-C and leaves nothing', async () => {
  const service = ptuned(['start']);
  const line = await service.line;
  const url = /^ptuned is ready at (http:\/\/127\.0\.0\.1:\d+)$/.exec(line ?? '')?.[1];
  assert.ok(url !== undefined, `${line} ${service.stderr()}`);
  const { checks } = (await (await fetch(`${url}/readyz`)).json()) as { checks: Record<string, { ok: boolean }> };
  assert.deepEqual(
    Object.values(checks).map(({ ok }) => ok),
    [true, true, true],
  );

  for (const role of ['inference', 'api']) {
    const pid = pidOf(role)!;
    process.kill(pid, 'SIGKILL');
    await eventually(`a new ${role} process`, () => pidOf(role) !== undefined && pidOf(role) !== pid);
  }
  await eventually('ready again at the same place', async () => {
    const answer = await fetch(`${url}/readyz`).catch(() => null);
    if (!answer?.ok) return false;
    return ((await answer.json()) as typeof checks & { checks: typeof checks }).checks.inference!.ok;
  });

  const again = ptuned(['start']);
  assert.equal(await again.ended, 1);
  assert.match(again.stderr(), /data directory is in use.*process \d+/);
  assert.equal(await isReady(url), true);

  // As a terminal does: to the whole group.
  process.kill(-service.child.pid!, 'SIGINT');
  assert.equal(await service.ended, 0);
  assert.deepEqual(processes(), []);
});

test('when the supervisor is killed, every process ends by itself', async () => {
  const service = ptuned(['start', '--roles', 'api,tuning']);
  assert.match((await service.line)!, /ready at/);
  assert.ok(processes().some(({ command }) => command.includes('redis-server')));
  service.child.kill('SIGKILL');
  await eventually('nothing is left', () => processes().length === 0);
});

test('what keeps it from starting is said in one line, and nothing is left', async () => {
  const wrong = ptuned(['start', '--roles', 'api,cook']);
  assert.equal(await wrong.ended, 1);
  assert.match(wrong.stderr(), /^ptuned: --roles has "cook"; accepted: api, tuning, inference\.$/m);

  const holder = (await import('node:net')).createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  const { port } = holder.address() as { port: number };
  const taken = ptuned(['start', '--roles', 'api'], { PTUNED_PORT: String(port) });
  assert.equal(await taken.ended, 1);
  assert.match(taken.stderr(), new RegExp(`^ptuned: Port ${port} on 127.0.0.1 is in use; PTUNED_PORT`, 'm'));
  holder.close();

  const nowhere = ptuned(['start', '--roles', 'api'], { PTUNED_HOST: 'name.invalid' });
  assert.equal(await nowhere.ended, 1);
  assert.match(nowhere.stderr(), /^ptuned: Port 0 on name\.invalid is not known: .*; PTUNED_HOST chooses another\.$/m);

  const file = join(data, 'file');
  await fs.writeFile(file, 'x');
  const unwritable = ptuned(['start', '--data', file]);
  assert.equal(await unwritable.ended, 1);
  assert.match(unwritable.stderr(), /^ptuned: ENOTDIR: .*\. PTUNED_DATA or --data says where everything is kept/m);
  assert.doesNotMatch(unwritable.stderr(), /\n {4}at /);
  assert.deepEqual(processes(), []);
});
