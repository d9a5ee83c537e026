import type { GradientCase } from '../gradient-check.ts';
import { at, distinct, fed, ints, uniform } from './inputs.ts';

const end = 2 ** 63;

export const indexingCases: GradientCase[] = [
  { op: 'Gather', inputs: [uniform([4, 2]), ints([0, 2, 2])], note: 'an index twice' },
  { op: 'Gather', inputs: [uniform([4, 2]), fed(ints([-1, 1, -1, 3], [2, 2]))], note: 'negative indices' },
  { op: 'Gather', attributes: { axis: 1 }, inputs: [uniform([2, 3, 2]), fed(ints([2, -3, 2]))] },
  { op: 'Gather', attributes: { axis: -1 }, inputs: [uniform([2, 3]), ints([0, 2, 1, 1], [2, 2])] },
  { op: 'Gather', attributes: { axis: 1 }, inputs: [uniform([2, 3]), ints(2)], note: 'scalar index' },
  { op: 'Gather', inputs: [uniform([3, 2]), ints(-1)], note: 'scalar index' },
  { op: 'GatherElements', inputs: [uniform([3, 2]), ints([0, 2, 2, -1], [2, 2])] },
  { op: 'GatherElements', attributes: { axis: 1 }, inputs: [uniform([2, 3]), fed(ints([1, 1, 0, 2], [2, 2]))] },
  { op: 'GatherND', inputs: [uniform([2, 3, 2]), ints([0, 1, 1, 2, 0, 1], [3, 2])] },
  { op: 'GatherND', inputs: [uniform([2, 3]), fed(ints([1, -2, 1, 1], [2, 2]))], note: 'negative indices' },
  { op: 'GatherND', attributes: { batch_dims: 1 }, inputs: [uniform([2, 3, 2]), ints([1, 2], [2, 1])] },
  { op: 'GatherND', attributes: { batch_dims: 1 }, inputs: [uniform([2, 3]), ints([1, 1, 0, 2], [2, 2, 1])] },
  { op: 'ScatterND', inputs: [uniform([4, 2]), ints([2, 0], [2, 1]), uniform([2, 2])] },
  {
    op: 'ScatterND',
    attributes: { reduction: 'add' },
    inputs: [uniform([4, 2]), fed(ints([2, 2], [2, 1])), uniform([2, 2])],
  },
  { op: 'ScatterElements', inputs: [uniform([3, 2]), ints([2, 0], [1, 2]), uniform([1, 2])] },
  {
    op: 'ScatterElements',
    attributes: { axis: 1, reduction: 'add' },
    inputs: [uniform([2, 3]), fed(ints([1, 1, 0, -1], [2, 2])), uniform([2, 2])],
  },
  ...['mul', 'max', 'min'].map((reduction): GradientCase => {
    const [data, updates] = [distinct([4, 2]), at([3, 2], [0.7, -2, 1.9, 0.4, -0.8, 2.3])];
    return { op: 'ScatterND', attributes: { reduction }, inputs: [data, fed(ints([2, 0, 2], [3, 1])), updates] };
  }),
  ...['mul', 'max', 'min'].map((reduction): GradientCase => {
    const [data, updates] = [distinct([2, 3]), at([2, 2], [0.7, -2, 1.9, 0.4])];
    return {
      op: 'ScatterElements',
      attributes: { axis: 1, reduction },
      inputs: [data, ints([1, 1, 0, -1], [2, 2]), updates],
    };
  }),
  {
    op: 'ScatterElements',
    attributes: { reduction: 'mul' },
    inputs: [at([2, 2], [0, 2, 3, 0]), ints([0, 0, 0, 1, 0, 1], [3, 2]), at([3, 2], [2, 0, -1, 3, 4, 0])],
    note: 'zeros',
  },
  { op: 'Slice', inputs: [uniform([4, 3]), ints([1]), ints([3])] },
  { op: 'Slice', inputs: [uniform([4, 3]), ints([1]), ints([end]), ints([-1])] },
  { op: 'Slice', inputs: [uniform([4, 3]), ints([-3, 0]), ints([-1, 2]), ints([0, 1])] },
  { op: 'Slice', inputs: [uniform([5, 2]), ints([0]), ints([end]), ints([0]), ints([2])], note: 'step 2' },
  { op: 'Slice', inputs: [uniform([2, 4]), ints([-1]), ints([-end]), ints([1]), ints([-1])], note: 'reversed' },
  { op: 'Slice', inputs: [uniform([4, 3]), fed(ints([1])), fed(ints([3])), ints([0])], note: 'bounds at run time' },
  { op: 'Slice', inputs: [uniform([4, 3]), fed(ints([1])), fed(ints([3])), fed(ints([0])), fed(ints([1]))] },
  { op: 'TopK', inputs: [distinct([2, 4]), ints([2])], outputs: 2 },
  {
    op: 'TopK',
    attributes: { axis: 0, largest: 0, sorted: 1 },
    inputs: [distinct([4, 2]), fed(ints([3]))],
    outputs: 2,
  },
];
