/** The machine that figures were measured on. */
import { cpus, totalmem } from 'node:os';
import { onnxruntimeVersion } from '../../src/onnx/session.ts';
import { inChild } from './child.ts';
import type { MachineRates } from './machine-child.ts';

export interface Machine extends MachineRates {
  date: string;
  cpu: string;
  cores: number;
  threads: number;
  memoryBytes: number;
  node: string;
  onnxruntime: string;
}

export async function measureMachine(threads: number): Promise<Machine> {
  const rates = await inChild<MachineRates>('machine-child', { threads });
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    threads,
    memoryBytes: totalmem(),
    node: process.versions.node,
    onnxruntime: onnxruntimeVersion,
    ...rates,
  };
}

export function describeMachine(machine: Machine): string {
  const { cpu, cores, threads, memoryBytes, node, onnxruntime, sgemm, sgemmSize, stream, date } = machine;
  const memory = Math.round(memoryBytes / 2 ** 30);
  return (
    `${date}: ${cpu.trim()}, ${cores} cores, ${memory} GiB; Node ${node}, onnxruntime ${onnxruntime}, ${threads} threads; ` +
    `sgemm ${(sgemm / 1e9).toFixed(0)} GFLOP/s (best of several sizes, here ${sgemmSize.join('×')}), ` +
    `memory ${(stream / 1e9).toFixed(1)} GB/s (read two arrays, write one)`
  );
}
