/** Measurements in fresh processes: nothing that ran before is still in memory, and the peak of memory is their own. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { sibling } from '../../workers/sibling.ts';
import { type Taken, watchProcess } from './watch.ts';

type Answer<T> = { result: T } | { error: string };

/** Runs a script beside this file in a process of its own and resolves with what its `answerOnce` returns. */
export async function inChild<T>(name: string, task: object): Promise<T & Taken> {
  const child = fork(sibling(import.meta.url, `./${name}`), [], {
    stdio: ['ignore', 2, 2, 'ipc'],
    execArgv: process.execArgv,
  });
  const watch = watchProcess(child.pid ?? 0);
  try {
    const answer = await new Promise<Answer<T> | null>((resolve) => {
      child.once('message', (message) => resolve(message as Answer<T>));
      child.once('exit', () => resolve(null));
      child.send(task, () => {});
    });
    if (answer === null) throw new Error(`${name} ended without an answer (${child.signalCode ?? child.exitCode})`);
    if ('error' in answer) throw new Error(`${name}: ${answer.error}`);
    return { ...answer.result, ...watch.end() };
  } finally {
    watch.end();
    await ended(child);
  }
}

/** In the child: does the one task that comes, sends what it yields, and waits for the end. */
export function answerOnce<Task, Result>(work: (task: Task) => Promise<Result>): void {
  process.once('message', async (task) => {
    const answer: Answer<Result> = await work(task as Task).then(
      (result) => ({ result }),
      (error: unknown) => ({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
    process.send!(answer);
  });
  process.on('disconnect', () => process.exit(0));
}

/** Runs any program and resolves with what it printed. */
export async function runProgram(command: string, args: readonly string[]): Promise<{ output: string } & Taken> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const watch = watchProcess(child.pid ?? 0);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${errors.slice(-2000)}`);
    return { output, ...watch.end() };
  } finally {
    watch.end();
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  if (child.connected) child.disconnect();
  const late = setTimeout(() => child.kill('SIGKILL'), 5000);
  await exit;
  clearTimeout(late);
}
