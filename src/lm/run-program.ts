/** Runs an LM program on a batch. */
import { createSession, type Feed, type SessionOptions } from '../onnx/session.ts';
import { feeds } from './feeds.ts';
import type { Program } from './programs.ts';
import type { LmBatch, PromptTable } from './types.ts';

export interface ProgramRunner {
  /** Data of the program's outputs, in their order. Feeds the program does not read are left out. */
  run(all: Record<string, Feed>): Promise<Feed['data'][]>;
  close(): Promise<void>;
}

export async function openProgram(program: Program, options: SessionOptions): Promise<ProgramRunner> {
  const session = await createSession(program.model, options);
  return {
    async run(all) {
      const wanted: Record<string, Feed> = {};
      for (const name of session.inputs) wanted[name] = all[name]!;
      const results = await session.run(wanted);
      return program.outputs.map((name) => results[name]!.data);
    },
    close: () => session.close(),
  };
}

/** Feeds of a batch with its table; labels where the program takes them. */
export function batchFeeds(batch: LmBatch, table: PromptTable, labels?: BigInt64Array): Record<string, Feed> {
  const whole = [batch.rows, batch.length];
  return {
    [feeds.ids]: { dtype: 'int64', dims: whole, data: batch.ids },
    [feeds.mask]: { dtype: 'int64', dims: whole, data: batch.mask },
    [feeds.slots]: { dtype: 'int64', dims: whole, data: batch.slots },
    [feeds.targets]: { dtype: 'int64', dims: [batch.rows, 1], data: batch.targets },
    [feeds.table]: { dtype: 'float32', dims: [table.rows, table.width], data: table.values },
    ...(labels === undefined ? {} : { [feeds.labels]: { dtype: 'int64', dims: [batch.rows, 1], data: labels } }),
  };
}
