/** Turns steps and evaluations into the progress a user sees: at most one report a second, with the time left. */
import type { Progress } from '../jobs/contract.ts';
import type { Plan } from './plan.ts';
import type { TrainingState } from './state.ts';

export interface StepTaken {
  loss: number;
  learningRate: number;
  seconds: number;
  /** Tokens of its rows, padding not counted. */
  tokens: number;
  /** Jobs that shared the LM's step. */
  jobs: number;
}

export interface Meter {
  /** An update was made. */
  stepped(step: StepTaken): void;
  /** An evaluation was made in `seconds`; it is reported at once. */
  evaluated(seconds: number): void;
}

const reportMilliseconds = 1000;
/** Weight of the newest step in the running mean of step times. */
const freshness = 0.1;

/** A meter over `state`, which the caller keeps up to date. `now` is in milliseconds. */
export function createMeter(
  state: TrainingState,
  plan: Plan,
  metric: string,
  report: (progress: Progress) => void,
  now: () => number,
): Meter {
  let lastReport = Number.NEGATIVE_INFINITY;
  let lossSum = 0;
  let lossCount = 0;
  let learningRate = plan.learningRateAt(state.step);
  let perStep: number | null = null;
  let tokensPerStep = 0;
  let packedJobs = 1;
  let perEvaluation = 0;

  function flush(): void {
    lastReport = now();
    const training = perStep === null ? null : (plan.totalSteps - state.step) * perStep;
    report({
      step: state.step,
      totalSteps: plan.totalSteps,
      epoch: plan.batchAt(state.step).epoch,
      loss: lossCount === 0 ? null : lossSum / lossCount,
      learningRate,
      metric,
      devMetric: state.devMetrics?.[metric] ?? null,
      bestDevMetric: state.stopping.best,
      secondsPerStep: perStep,
      secondsLeft: training === null ? null : training + plan.evaluationsLeft(state.step) * perEvaluation,
      trainedTokens: state.trainedTokens,
      tokensPerSecond: perStep === null ? null : tokensPerStep / perStep,
      packedJobs,
    });
    lossSum = 0;
    lossCount = 0;
  }

  return {
    stepped({ loss, learningRate: rate, seconds, tokens, jobs }) {
      learningRate = rate;
      lossSum += loss;
      lossCount++;
      packedJobs = jobs;
      tokensPerStep = perStep === null ? tokens : tokensPerStep + freshness * (tokens - tokensPerStep);
      perStep = perStep === null ? seconds : perStep + freshness * (seconds - perStep);
      if (now() - lastReport >= reportMilliseconds) flush();
    },
    evaluated(seconds) {
      perEvaluation = seconds;
      flush();
    },
  };
}
