/** A checked job as POST /fine_tuning/validate answers it. */
import { describeChoices } from '../jobs/describe.ts';
import { planOf } from '../jobs/methods/registry.ts';
import { countTotalSteps } from '../jobs/steps.ts';
import type { ValidJob } from '../jobs/validate.ts';
import { virtualTokens, withPrefix } from '../tasks/template.ts';
import { methodObject } from './job-json.ts';
import type { ValidationObject } from './schemas/validation.ts';

export function validationObject({ spec, findings }: ValidJob): ValidationObject {
  const { hyperparameters, template } = spec.method;
  const { prefix } = planOf(spec.method);
  const { files, trainRows } = findings;
  return {
    object: 'fine_tuning.validation',
    model: spec.model,
    kind: findings.kind,
    training_file: files.training,
    validation_file: files.validation,
    test_file: files.test,
    train_rows: trainRows,
    dev_rows: findings.devRows,
    virtual_tokens: virtualTokens(withPrefix(template, prefix)),
    manual_prompt: findings.hasManualPrompt,
    candidates: findings.candidates,
    words_left_out: findings.wordsLeftOut,
    total_steps: countTotalSteps(hyperparameters, trainRows),
    hyperparameters: { ...hyperparameters },
    method: methodObject(spec.method),
    message: describeChoices(hyperparameters, trainRows),
  };
}
