/** Runs a short command to its end. */
import { execFile } from 'node:child_process';

export interface CommandResult {
  /** Exit status; null when it was killed or cannot be run. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  /** Working folder. */
  cwd?: string;
  env?: Record<string, string>;
  milliseconds?: number;
}

/** Never throws: a program that does not exist has code null and says so in stderr. */
export function run(command: string, args: string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { cwd, env = {}, milliseconds = 120_000 } = options;
  const limits = { timeout: milliseconds, killSignal: 'SIGKILL', maxBuffer: 64 * 2 ** 20 } as const;
  return new Promise((resolve) => {
    execFile(command, args, { ...limits, cwd, env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
      else resolve({ code: null, stdout, stderr: stderr || error.message });
    });
  });
}
