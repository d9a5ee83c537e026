/** GET POST /files, GET DELETE /files/{id}, GET /files/{id}/content. */
import type { Readable } from 'node:stream';
import { Type } from 'typebox';
import type { StoredFile } from '../../data/files.ts';
import { PtunedError } from '../../errors.ts';
import type { App } from '../app.ts';
import { bearer } from '../openapi.ts';
import { Deleted, errors, Page, pageOf } from '../schemas/common.ts';
import { FileObject, FileParams, ListFilesQuery } from '../schemas/files.ts';
import type { ApiServices } from '../services.ts';
import { receiveFile } from '../upload.ts';

const common = { tags: ['Files'], security: bearer };

const Bytes = Type.Unsafe<Readable>({ type: 'string', contentMediaType: 'application/octet-stream' });

export function fileRoutes(v1: App, services: ApiServices): void {
  collectionRoutes(v1, services);
  itemRoutes(v1, services);
}

function collectionRoutes(v1: App, services: ApiServices): void {
  v1.post(
    '/files',
    {
      config: { multipart: true },
      schema: {
        ...common,
        operationId: 'createFile',
        summary: 'Upload a JSONL file, streamed to disk',
        description:
          'multipart/form-data with the fields `file` and `purpose` (fine-tune). What is called *.jsonl is read as it ' +
          'comes: a line that is no JSON object is refused with its number. Any other name is taken as it is, such as ' +
          'a list of allowed words, one a line.',
        response: { 200: FileObject, ...errors },
      },
    },
    async (request) => fileObject(await receiveFile(request, services)),
  );

  v1.get(
    '/files',
    {
      schema: {
        ...common,
        operationId: 'listFiles',
        summary: 'Your files',
        querystring: ListFilesQuery,
        response: { 200: Page(FileObject), ...errors },
      },
    },
    async (request) => {
      const { after, limit = '10000', order = 'desc', purpose } = request.query;
      const all = await services.files.list(request.owner, { limit: Number.MAX_SAFE_INTEGER });
      const wanted = all.files.filter((file) => purpose === undefined || file.purpose === purpose);
      const ordered = order === 'desc' ? wanted : wanted.reverse();
      return pageOf(ordered.map(fileObject), after, Number(limit));
    },
  );
}

function itemRoutes(v1: App, services: ApiServices): void {
  const { files } = services;

  v1.get(
    '/files/:file_id',
    {
      schema: {
        ...common,
        operationId: 'retrieveFile',
        summary: 'One file',
        params: FileParams,
        response: { 200: FileObject, ...errors },
      },
    },
    async (request) => fileObject(await findFile(services, request.params.file_id, request.owner)),
  );

  v1.get(
    '/files/:file_id/content',
    {
      schema: {
        ...common,
        operationId: 'downloadFile',
        summary: 'The bytes of a file as they were uploaded',
        params: FileParams,
        response: {
          200: { description: 'The file.', content: { 'application/octet-stream': { schema: Bytes } } },
          ...errors,
        },
      },
    },
    async (request, reply) => {
      const file = await findFile(services, request.params.file_id, request.owner);
      reply.header('content-length', file.bytes).header('content-disposition', 'attachment');
      return reply.type('application/octet-stream').send(files.content(file));
    },
  );

  v1.delete(
    '/files/:file_id',
    {
      schema: {
        ...common,
        operationId: 'deleteFile',
        summary: 'Delete a file; jobs that have not read it yet will fail',
        params: FileParams,
        response: { 200: Deleted('file'), ...errors },
      },
    },
    async (request) => {
      const { file_id: id } = request.params;
      if (!(await files.remove(id, request.owner))) throw fileNotFound(id);
      return { id, object: 'file' as const, deleted: true as const };
    },
  );
}

async function findFile({ files }: ApiServices, id: string, owner: string): Promise<StoredFile> {
  const file = await files.get(id, owner);
  if (file === null) throw fileNotFound(id);
  return file;
}

function fileNotFound(id: string): PtunedError {
  return new PtunedError('file_not_found', `There is no file "${id}".`, { param: 'file_id' });
}

function fileObject(file: StoredFile): FileObject {
  return {
    id: file.id,
    object: 'file',
    bytes: file.bytes,
    created_at: file.createdAt,
    filename: file.filename,
    purpose: 'fine-tune',
    status: 'processed',
  };
}
