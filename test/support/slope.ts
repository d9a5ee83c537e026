/** Finite differences of a training step. */
import type { LmBatch, PromptTable, Trainer } from '../../src/lm/types.ts';

/**
 * Slope of a step's mean loss along its own gradient, by central differences of fourth order, and the gradient's length,
 * which it should be.
 */
export async function slopeAlongGradient(trainer: Trainer, batch: LmBatch, labels: BigInt64Array, table: PromptTable) {
  const { gradient } = await trainer.step(batch, labels, table);
  const size = Math.hypot(...gradient);
  const lossAt = async (distance: number) => {
    const values = table.values.map((value, i) => value + (distance * gradient[i]!) / size);
    const { losses } = await trainer.step(batch, labels, { ...table, values });
    return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  };
  const h = 0.02;
  const slope =
    (8 * ((await lossAt(h)) - (await lossAt(-h))) - ((await lossAt(2 * h)) - (await lossAt(-2 * h)))) / (12 * h);
  return { slope, size };
}
