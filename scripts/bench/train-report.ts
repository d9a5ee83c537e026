/** Results of training in words. */

import type { Machine } from './machine.ts';
import { megabytes, ms, table } from './table.ts';
import type { TrainResult } from './train.ts';

const percent = (share: number) => `${(100 * share).toFixed(0)} %`;

function caseName({ lm, batch, length }: TrainResult): string[] {
  return [lm, `${batch} × ${length}`];
}

/** Steps, ratios and memory; then how near the LM's part is to what the machine can do; then where a step's time goes. */
export function trainReport(results: readonly TrainResult[], machine: Machine): string {
  const parts = [stepTable(results), rooflineTable(results, machine), partsTable(results), disturbance(results)];
  return parts.filter((part) => part !== '').join('\n\n');
}

/** On a machine that is not quiet the figures mean little, and ratios not much more. */
function disturbance(results: readonly TrainResult[]): string {
  const most = Math.max(...results.flatMap(({ others, peer }) => [others, peer?.others ?? 0]));
  return most < 0.05 ? '' : `Other programs used up to ${percent(most)} of the machine meanwhile.`;
}

function stepTable(results: readonly TrainResult[]): string {
  const hasPeer = results.some(({ peer }) => peer !== null);
  const head = ['LM', 'batch × length', 'step ms', 'min', 'peak MB'];
  const peerHead = ['PEFT step ms', 'min', 'peak MB', 'ratio', 'least'];
  const rows = results.map((one) => {
    const own = [...caseName(one), ms(one.medianMs), ms(one.minMs), megabytes(one.peakBytes)];
    const { peer } = one;
    if (!hasPeer) return own;
    if (peer === null) return [...own, '', '', '', '', ''];
    const theirs = [ms(peer.medianMs), ms(peer.minMs), megabytes(peer.peakBytes)];
    return [...own, ...theirs, peer.ratioMedian.toFixed(2), peer.ratioMin.toFixed(2)];
  });
  return table(hasPeer ? [...head, ...peerHead] : head, rows);
}

function rooflineTable(results: readonly TrainResult[], machine: Machine): string {
  const head = [
    ...['LM', 'batch × length', 'GFLOP forward', 'backward', 'GFLOP/s', 'of sgemm'],
    ...['MB moved', 'compute bound ms', 'memory bound ms', 'LM ms'],
  ];
  const rows = results.map((one) => {
    const { cost, flops, bounds, parts } = one;
    return [
      ...caseName(one),
      (cost.forward / 1e9).toFixed(1),
      (cost.backward / 1e9).toFixed(1),
      (flops / 1e9).toFixed(0),
      percent(flops / machine.sgemm),
      megabytes(cost.weightBytes + cost.keptBytes + cost.encoderBytes),
      ms(bounds.computeMs),
      ms(bounds.memoryMs),
      ms(parts.lm),
    ];
  });
  return table(head, rows);
}

function partsTable(results: readonly TrainResult[]): string {
  const head = ['LM', 'batch × length', 'encoder ms', 'LM', 'encoder backward', 'optimizer', 'host', 'open s'];
  const rows = results.map((one) => {
    const { encoder, lm, encoderGradient, optimizer, host } = one.parts;
    const parts = [encoder, lm, encoderGradient, optimizer, host].map(ms);
    return [...caseName(one), ...parts, (one.openMs / 1000).toFixed(2)];
  });
  return table(head, rows);
}

/** Time by op where a profile was taken: ops above one percent. */
export function opReport(result: TrainResult): string {
  const { ops } = result;
  if (ops === null) return '';
  const whole = ops.reduce((total, { ms: one }) => total + one, 0);
  const rows = ops
    .filter((one) => one.ms > whole / 100)
    .map((one) => [one.op, ms(one.ms), percent(one.ms / whole), one.count.toFixed(0)]);
  return `${caseName(result).join(' ')}, nodes as the runtime executes them:\n\n${table(['op', 'ms', 'share', 'nodes'], rows)}`;
}
