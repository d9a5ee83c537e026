/** Writes openapi/openapi.json from the routes; with --check compares instead, and exits with 1 where they differ. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createApp } from '../src/api/app.ts';
import { projectFolder } from '../src/api/project.ts';
import type { ApiServices } from '../src/api/services.ts';
import { readConfig } from '../src/config.ts';
import { createLogger } from '../src/logger.ts';

const file = join(projectFolder(), 'openapi', 'openapi.json');

/** The document of the routes. No handler runs, so nothing behind the routes is needed. */
export async function generateOpenapi(): Promise<string> {
  const config = readConfig({});
  const app = await createApp({ config, logger: createLogger('openapi', 'silent') } as ApiServices);
  await app.ready();
  const document = app.swagger();
  await app.close();
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** JSON pointers of what differs between two documents, at most ten. */
export function differences(written: unknown, generated: unknown, at = ''): string[] {
  if (JSON.stringify(written) === JSON.stringify(generated)) return [];
  const both = [written, generated].every((value) => typeof value === 'object' && value !== null);
  if (!both) return [at || '/'];
  const [left, right] = [written, generated] as [Record<string, unknown>, Record<string, unknown>];
  const keys = [...new Set([...Object.keys(left), ...Object.keys(right)])];
  const found = keys.flatMap((key) => differences(left[key], right[key], `${at}/${key.replaceAll('/', '~1')}`));
  return (found.length === 0 ? [`${at} (order)`] : found).slice(0, 10);
}

function check(generated: string): number {
  const written = readFileSync(file, 'utf8');
  if (written === generated) return 0;
  const where = differences(JSON.parse(written), JSON.parse(generated));
  console.error(
    `openapi/openapi.json differs from the routes at:\n${where.map((pointer) => `  ${pointer}`).join('\n')}`,
  );
  console.error('Run: npm run openapi');
  return 1;
}

if (process.argv[1] === import.meta.filename) {
  const generated = await generateOpenapi();
  if (process.argv.includes('--check')) process.exitCode = check(generated);
  else writeFileSync(file, generated);
}
