/** What openapi.json says about the service as a whole; the routes say the rest in their schemas. */
import type { FastifyDynamicSwaggerOptions } from '@fastify/swagger';

export const bearer = [{ bearerKey: [] }];

type Json = Record<string, unknown>;

const description =
  'P-tuning as a service: tune prompts against a frozen ONNX language model. The shape is that of OpenAI’s API ' +
  '(files, fine_tuning.jobs, models, completions), so that the `openai` SDK is a client; what P-tuning needs beyond ' +
  'that is an extension. Errors are always `{"error": {message, type, param, code}}`.';

const info = {
  openapi: '3.1.0',
  info: { title: 'ptuned', version: '0.1.0', license: { name: 'MIT', identifier: 'MIT' }, description },
  servers: [{ url: '/', description: 'This service.' }],
  tags: [
    { name: 'Files', description: 'Training, validation and test data as JSONL.' },
    { name: 'Jobs', description: 'P-tuning jobs.' },
    { name: 'Models', description: 'Frozen base LMs and tuned prompts.' },
    { name: 'Queries', description: 'Predictions of tuned and base models.' },
    { name: 'Service', description: 'Health and metrics.' },
  ],
  components: {
    securitySchemes: {
      bearerKey: {
        type: 'http' as const,
        scheme: 'bearer',
        description: 'A key of PTUNED_API_KEYS; none is needed when the service has none.',
      },
    },
  },
};

/** What a multipart route takes; the body is read as a stream, so no schema checks it. */
const uploadForm = {
  type: 'object',
  required: ['file', 'purpose'],
  properties: {
    file: { type: 'string', contentMediaType: 'application/octet-stream', description: 'JSONL, at most 512 MiB.' },
    purpose: { type: 'string', enum: ['fine-tune'] },
  },
};

const metadataFilter = {
  name: 'metadata',
  in: 'query',
  required: false,
  style: 'deepObject',
  explode: true,
  description: 'metadata[name]=value keeps the jobs that have the pair; several pairs must all be there.',
  schema: { type: 'object', additionalProperties: { type: 'string' } },
};

export const openapiOptions: FastifyDynamicSwaggerOptions = {
  openapi: info,
  hideUntagged: true,
  transform: ({ schema, url, route }) => {
    const isUpload = route.config?.multipart === true && route.method === 'POST';
    return { url, schema: isUpload ? { ...schema, consumes: ['multipart/form-data'], body: uploadForm } : schema };
  },
  transformObject: (document) => {
    const found = (document as { openapiObject: Json }).openapiObject;
    const schemas: Json = {};
    const paths = refine(found.paths, schemas) as Record<string, Record<string, { parameters?: unknown[] }>>;
    paths['/v1/fine_tuning/jobs']?.get?.parameters?.push(metadataFilter);
    const components = { ...(found.components as Json), schemas };
    return { ...found, paths, components } as ReturnType<NonNullable<FastifyDynamicSwaggerOptions['transformObject']>>;
  },
};

/** Moves each schema that has a title to `components`, so that a client's types have names and appear once. */
function refine(node: unknown, schemas: Json): unknown {
  if (Array.isArray(node)) return node.map((item) => refine(item, schemas));
  if (typeof node !== 'object' || node === null) return node;
  const entries = Object.entries(node).map(([name, value]) => [name, refine(value, schemas)]);
  const refined: Json = Object.fromEntries(entries);
  if (refined.description === 'Default Response') refined.description = 'The answer.';
  if (typeof refined.title !== 'string') return refined;
  schemas[refined.title] = refined;
  return { $ref: `#/components/schemas/${refined.title}` };
}
