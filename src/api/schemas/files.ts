/** Uploaded files, in the form of OpenAI's Files API. */
import { type Static, Type } from 'typebox';
import { After, Patterned, UnixSeconds } from './common.ts';

export const FileParams = Type.Object({ file_id: Type.String({ examples: ['file-0f3a9c5d7e1b2a4c6d8e0f12'] }) });

export const ListFilesQuery = Type.Object(
  {
    after: Type.Optional(After('file')),
    limit: Type.Optional(
      Patterned('^([1-9][0-9]{0,3}|10000)$', 'a whole number from 1 to 10000', {
        description: 'Files a page, 1 to 10000. Default 10000.',
      }),
    ),
    order: Type.Optional(
      Type.Union([Type.Literal('asc'), Type.Literal('desc')], { description: 'By created_at. Default desc.' }),
    ),
    purpose: Type.Optional(Type.String({ maxLength: 64, description: 'Only files of this purpose.' })),
  },
  { additionalProperties: false },
);

export const FileObject = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('file'),
    bytes: Type.Integer(),
    created_at: UnixSeconds,
    filename: Type.String(),
    purpose: Type.Literal('fine-tune'),
    status: Type.Literal('processed'),
  },
  {
    title: 'File',
    description: 'An uploaded file.',
    examples: [
      {
        id: 'file-0f3a9c5d7e1b2a4c6d8e0f12',
        object: 'file',
        bytes: 18230,
        created_at: 1764000000,
        filename: 'train.jsonl',
        purpose: 'fine-tune',
        status: 'processed',
      },
    ],
  },
);

export type FileObject = Static<typeof FileObject>;
