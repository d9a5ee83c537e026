/** A multipart upload, streamed to the file store and never held in memory. */
import type { FastifyRequest } from 'fastify';
import type { StoredFile } from '../data/files.ts';
import { PtunedError } from '../errors.ts';
import type { ApiServices } from './services.ts';

const defaultMaxFileBytes = 512 << 20;
const accepted = 'accepted: file and purpose';

/**
 * Takes `file` and `purpose`, in either order (the SDK sends the file first); what was stored is removed again when
 * the rest of the form is refused.
 */
export async function receiveFile(request: FastifyRequest, services: ApiServices): Promise<StoredFile> {
  const { files, maxFileBytes = defaultMaxFileBytes } = services;
  if (!request.isMultipart()) {
    const found = request.headers['content-type'] ?? 'missing';
    throw new PtunedError('unsupported_media_type', `content-type is ${found}; accepted: multipart/form-data.`);
  }
  let stored: StoredFile | null = null;
  let purpose: string | null = null;
  try {
    // One byte more than is accepted: the store refuses a file for its size, rather than for a line that was cut off.
    for await (const part of request.parts({ limits: { fileSize: maxFileBytes + 1, fields: 10, parts: 12 } })) {
      if (part.type === 'field') {
        const value = readPurpose(part.fieldname, part.value);
        if (purpose !== null) throw refuse('purpose', 'is there twice');
        purpose = value;
        continue;
      }
      if (part.fieldname !== 'file') throw refuse(part.fieldname, 'is not a known field');
      if (stored !== null) throw refuse('file', 'is there twice');
      stored = await files.create(part.file, {
        owner: request.owner,
        filename: part.filename || 'file',
        purpose: 'fine-tune',
        limitBytes: maxFileBytes,
      });
    }
    if (stored === null) throw refuse('file', 'is missing');
    if (purpose === null) throw refuse('purpose', 'is missing');
    return stored;
  } catch (error) {
    if (stored !== null) await files.remove(stored.id, request.owner);
    throw explainForm(error);
  }
}

/** The parser's errors have no code; a form that is cut off or malformed is the client's fault. */
function explainForm(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof PtunedError || 'code' in error) return error;
  if (!/^(Unexpected end|Multipart|Part |Header |Malformed|The needle)/.test(error.message)) return error;
  return new PtunedError('invalid_request', `the form cannot be read (${error.message}); ${accepted}.`);
}

function readPurpose(name: string, value: unknown): string {
  if (name === 'file') throw refuse('file', 'is a text field, not an upload (it has no file name)');
  if (name !== 'purpose') throw refuse(name, 'is not a known field');
  if (value === 'fine-tune') return value;
  throw new PtunedError('invalid_request', `purpose is ${JSON.stringify(value)}; accepted: "fine-tune".`, {
    param: 'purpose',
  });
}

function refuse(field: string, found: string): PtunedError {
  return new PtunedError('invalid_request', `${field} ${found}; ${accepted}.`, { param: field });
}
