/** All gradient cases; one line a family. */
import type { GradientCase } from '../gradient-check.ts';
import { arithmeticCases } from './arithmetic.ts';
import { attentionCases } from './attention.ts';
import { convolutionCases } from './convolution.ts';
import { einsumCases } from './einsum.ts';
import { fusedCases } from './fused.ts';
import { generateCases } from './generate.ts';
import { indexingCases } from './indexing.ts';
import { layoutCases } from './layout.ts';
import { matmulCases } from './matmul.ts';
import { normalizeCases } from './normalize.ts';
import { olderCases } from './older.ts';
import { quantizeCases } from './quantize.ts';
import { rearrangeCases } from './rearrange.ts';
import { reduceCases } from './reduce.ts';
import { roundingCases } from './rounding.ts';
import { unaryCases } from './unary.ts';

export const gradientCases: readonly GradientCase[] = [
  unaryCases,
  arithmeticCases,
  matmulCases,
  reduceCases,
  normalizeCases,
  layoutCases,
  indexingCases,
  rearrangeCases,
  einsumCases,
  convolutionCases,
  fusedCases,
  attentionCases,
  quantizeCases,
  roundingCases,
  generateCases,
  olderCases,
].flat();
