import type { CaseInput, GradientCase } from '../gradient-check.ts';
import { uniform } from './inputs.ts';

const einsum = (equation: string, ...shapes: number[][]): GradientCase => ({
  op: 'Einsum',
  attributes: { equation },
  inputs: shapes.map((shape): CaseInput => uniform(shape)),
});

export const einsumCases: GradientCase[] = [
  einsum('ij,jk->ik', [2, 3], [3, 4]),
  einsum('ibh,hnd->ibnd', [3, 2, 4], [4, 2, 2]),
  einsum('ibnd,jbnd->bnij', [3, 2, 2, 2], [4, 2, 2, 2]),
  einsum('ijbn->bnij', [2, 3, 2, 2]),
  einsum('i,d->id', [3], [2]),
  einsum('ij->i', [2, 3]),
  einsum('ij->', [2, 3]),
  einsum('ij,jk', [2, 3], [3, 4]),
  einsum('ba,cb', [2, 3], [4, 2]),
  einsum('...ij,...jk->...ik', [2, 2, 3], [2, 3, 2]),
  einsum('...ij,...jk->...ik', [2, 1, 2, 3], [2, 1, 3, 2]),
  einsum('bi,bj,bk->bijk', [2, 2], [2, 3], [2, 2]),
  einsum('ij,kj->k', [2, 3], [4, 3]),
  einsum('...ii->...i', [2, 3, 3]),
  einsum('ii->', [3, 3]),
  einsum('bii,ij->bj', [2, 3, 3], [3, 2]),
];
