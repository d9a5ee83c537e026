/** Rendered rows in little memory: exact arrays, and one array of slots for all rows of a shape. */
import type { RenderedRow } from '../tasks/types.ts';

/** Rows of one template differ in their slots only by the lengths of their fields, so few arrays serve many rows. */
export function createCompactor(): (row: RenderedRow) => RenderedRow {
  const shapes = new Map<string, number[]>();
  return (row) => {
    const shape = row.slots.join();
    let slots = shapes.get(shape);
    if (slots === undefined) {
      slots = row.slots.slice();
      shapes.set(shape, slots);
    }
    // Pushing leaves arrays with room to grow; a slice has none.
    return { ...row, ids: row.ids.slice(), slots };
  };
}
