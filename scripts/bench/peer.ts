/** The peer: P-tuning with PEFT on PyTorch, by a script that trains the same shapes (`PYTHON PEER.PY train …`). */
import { runProgram } from './child.ts';
import type { Taken } from './watch.ts';

export interface Peer {
  python: string;
  script: string;
}

export interface PeerTask {
  lm: string;
  batch: number;
  length: number;
  virtual: number;
  encoder: string;
  steps: number;
  threads: number;
}

export interface PeerTimes extends Taken {
  medianMs: number;
  minMs: number;
}

/** @throws Error when the program fails or prints something else */
export async function trainPeer({ python, script }: Peer, task: PeerTask): Promise<PeerTimes> {
  const options = { ...task, encoder: task.encoder.toUpperCase() };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const { output, ...taken } = await runProgram(python, [script, 'train', ...args]);
  const found = /step median ([\d.]+) ms, min ([\d.]+) ms/.exec(output);
  if (found === null) throw new Error(`${script} printed no step times:\n${output.slice(-2000)}`);
  return { medianMs: Number(found[1]), minMs: Number(found[2]), ...taken };
}
