/**
 * Job packing: steps that several jobs ask for at the same time run as one step of the LM. Each job keeps its own prompt
 * rows, encoder, optimizer and schedule, and gets the loss and gradient it would get alone, within float tolerance.
 */
import type { LmBatch, StepResult, Trainer } from '../lm/types.ts';
import { joinRequests, type StepRequest, splitResult } from './pack-batch.ts';
import { createPayoff, type Way } from './payoff.ts';

export interface PackMember {
  step: Trainer['step'];
  /** The others do not wait for it until it asks for its next step. */
  leave(): void;
  /** It asks for no more steps. */
  quit(): void;
}

export interface Pack {
  join(): PackMember;
}

export interface PackOptions {
  /** Padding token. */
  pad: number;
  /** Tokens of a shared step, padding included: beyond it sharing gains nothing and costs memory. 0: none is shared. */
  mostTokens: number;
  /** Milliseconds that only grow. */
  now?: () => number;
}

interface Pending extends StepRequest {
  resolve(result: StepResult): void;
  reject(error: unknown): void;
}

/** So long this thread may have nothing to do while a member is waited for that writes to a slow disk, say. */
const patienceMilliseconds = 100;
const lookMilliseconds = 25;
/** A shared step has at most so many times the tokens that its batches have alone: rows are padded to the longest. */
const mostPadding = 1.25;

export function createPack(trainer: Trainer, options: PackOptions): Pack {
  const { mostTokens } = options;
  const runGroup = createGroupRunner(trainer, options);
  /** Members that are on their way to a step, and the steps that are asked for. */
  const expected = new Set<PackMember>();
  let pending: Pending[] = [];
  let isRunning = false;
  let isDue = false;
  let patience: NodeJS.Timeout | null = null;

  /** Runs what is asked for as soon as nobody is on the way any more. */
  function check(): void {
    if (isRunning || pending.length === 0) return;
    if (expected.size === 0) {
      // Not at once: jobs that come from the same event ask one after the other.
      if (!isDue) setImmediate(run);
      isDue = true;
    } else if (patience === null) {
      const since = performance.eventLoopUtilization();
      patience = setInterval(() => {
        if (performance.eventLoopUtilization(since).idle > patienceMilliseconds) void run();
      }, lookMilliseconds);
    }
  }

  async function run(): Promise<void> {
    if (patience !== null) clearInterval(patience);
    patience = null;
    isDue = false;
    if (isRunning) return;
    isRunning = true;
    const asked = pending;
    pending = [];
    for (const group of groupByLength(asked, mostTokens)) await runGroup(group);
    isRunning = false;
    check();
  }

  return {
    join() {
      const member: PackMember = {
        step: (batch, labels, table, weights) =>
          new Promise<StepResult>((resolve, reject) => {
            expected.delete(member);
            const answered = <T>(answer: (value: T) => void) => {
              return (value: T) => {
                expected.add(member);
                answer(value);
              };
            };
            const request = { batch, labels, table, ...(weights === undefined ? {} : { weights }) };
            pending.push({ ...request, resolve: answered(resolve), reject: answered(reject) });
            check();
          }),
        leave() {
          if (expected.delete(member)) check();
        },
        quit: () => member.leave(),
      };
      return member;
    },
  };
}

/** Batches of like length together, so that sharing pads little. */
function groupByLength(asked: readonly Pending[], mostTokens: number): Pending[][] {
  const sorted = [...asked].sort((a, b) => a.batch.length - b.batch.length);
  const groups: Pending[][] = [];
  let rows = 0;
  let own = 0;
  for (const one of sorted) {
    const { batch } = one;
    const group = groups.at(-1);
    const tokens = (rows + batch.rows) * batch.length;
    const fits = tokens <= mostTokens && tokens <= mostPadding * (own + batch.rows * batch.length);
    if (group !== undefined && fits && isJoinable(batch) && group.every(({ batch }) => isJoinable(batch))) {
      group.push(one);
      rows += batch.rows;
      own += batch.rows * batch.length;
    } else {
      groups.push([one]);
      rows = batch.rows;
      own = batch.rows * batch.length;
    }
  }
  return groups;
}

const joinable = new Set(['rows', 'length', 'ids', 'mask', 'slots', 'targets']);

/** Prompts that enter otherwise than by rows of a table cannot be told apart by row. */
function isJoinable(batch: LmBatch): boolean {
  return Object.keys(batch).every((name) => joinable.has(name));
}

/**
 * Runs groups, each together as long as that pays. Numbers that are not finite spread from one job's rows to the others'
 * gradients, and a step that is too big fails for all: then each runs alone, and only the one that is the reason fails.
 */
function createGroupRunner(trainer: Trainer, { pad, now = () => performance.now() }: PackOptions) {
  const payoff = createPayoff();
  const timed = async <T>(way: Way, tokens: number, run: () => Promise<T>): Promise<T> => {
    const begun = now();
    const result = await run();
    payoff.record(way, now() - begun, tokens);
    return result;
  };
  const runApart = async (group: readonly Pending[]) => {
    // Answered when all are done: what a job then does with its gradient is no part of the cost.
    const answers: (() => void)[] = [];
    for (const { batch, labels, table, weights, resolve, reject } of group) {
      const step = trainer.step(batch, labels, table, weights);
      answers.push(
        await step.then(
          (result) => () => resolve(result),
          (error) => () => reject(error),
        ),
      );
    }
    for (const answer of answers) answer();
  };
  return async (group: readonly Pending[]): Promise<void> => {
    if (group.length === 1) return runApart(group);
    // Their own tokens, for what sharing pads is a part of its cost.
    const tokens = group.reduce((sum, { batch }) => sum + batch.rows * batch.length, 0);
    if (payoff.choose() === 'apart') return timed('apart', tokens, () => runApart(group));
    const results = await timed('together', tokens, () => runTogether(trainer, group, pad).catch(() => null));
    if (results === null) return runApart(group);
    for (const [i, { resolve }] of group.entries()) resolve(results[i]!);
  };
}

/** A result for each request, or null when a number is not finite. */
async function runTogether(trainer: Trainer, group: readonly Pending[], pad: number): Promise<StepResult[] | null> {
  if (!group.every(({ table }) => areFinite(table.values))) return null;
  const { batch, labels, table, weights } = joinRequests(group, pad);
  const result = await trainer.step(batch, labels, table, weights);
  if (!areFinite(result.losses) || !areFinite(result.gradient)) return null;
  return splitResult(result, group);
}

function areFinite(values: Float32Array): boolean {
  // Zero times anything finite is zero, times anything else NaN.
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * 0;
  return sum === 0;
}
