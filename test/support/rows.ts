/** Rendered rows of plain tokens. */
import type { RenderedRow } from '../../src/tasks/types.ts';

/** Tokens without pseudo tokens, read at the last. */
export const plainRow = (ids: number[]): RenderedRow => ({
  ids,
  slots: ids.map(() => -1),
  target: ids.length - 1,
  label: -1,
  cut: 0,
});
