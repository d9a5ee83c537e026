/** The answer of POST /fine_tuning/validate. */
import { type Static, Type } from 'typebox';
import { LmKind } from '../../models/schema.ts';

const FileFindings = Type.Object(
  {
    used: Type.Integer({ description: 'Rows that are trained on or scored.' }),
    shortened: Type.Integer({ description: 'Of these, rows cut in a shortenable field because they were too long.' }),
    dropped: Type.Integer({ description: 'Rows left out because their target is not one token (drop_multi_token).' }),
    longest: Type.Integer({ description: 'Tokens of the longest row, pseudo tokens included.' }),
    mean: Type.Number({ description: 'Tokens of a row on average.' }),
    tokens: Type.Integer({ description: 'Tokens of all rows.' }),
  },
  { title: 'FileFindings' },
);

export const ValidationObject = Type.Object(
  {
    object: Type.Literal('fine_tuning.validation'),
    model: Type.String(),
    kind: LmKind,
    training_file: FileFindings,
    validation_file: Type.Union([FileFindings, Type.Null()]),
    test_file: Type.Union([FileFindings, Type.Null()]),
    train_rows: Type.Integer({ description: 'After a dev set was split off where none was given.' }),
    dev_rows: Type.Integer(),
    virtual_tokens: Type.Integer(),
    manual_prompt: Type.Boolean({ description: 'The template names words: it is scored as a manual prompt too.' }),
    candidates: Type.Integer({ description: 'Words or labels the target is chosen among.' }),
    words_left_out: Type.Integer({ description: 'Allowed words that are not one token of this LM.' }),
    total_steps: Type.Integer({ description: 'Without early stopping.' }),
    hyperparameters: Type.Unsafe<Record<string, unknown>>({ type: 'object', description: 'All of them, resolved.' }),
    method: Type.Unsafe<Record<string, unknown>>({ type: 'object', description: 'The method with every default.' }),
    message: Type.String({ description: 'What will be done, in a sentence.' }),
  },
  { title: 'Validation', description: 'What was found, and what would be done.' },
);

export type ValidationObject = Static<typeof ValidationObject>;
