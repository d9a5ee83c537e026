/** One place makes loggers. Logs never carry keys, texts or prompts. */
import { type Logger, pino } from 'pino';

export type { Logger };

/** A JSON logger on standard error, so that standard output stays for what a command prints. */
export function createLogger(name: string, level: string): Logger {
  return pino({ name, level, redact: ['req.headers.authorization', 'headers.authorization'] }, pino.destination(2));
}
