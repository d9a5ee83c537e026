/** manifest.json: the JSON of an {@link ArtifactManifest} and the sha256 of that JSON, so a changed bit is noticed. */
import { createHash } from 'node:crypto';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { PtunedError } from '../errors.ts';
import { LmKind } from '../models/schema.ts';
import type { ArtifactManifest } from './format.ts';

const hash = Type.String({ pattern: '^[0-9a-f]{64}$' });
const text = Type.String({ minLength: 1 });
const count = Type.Integer({ minimum: 0 });
const metrics = Type.Record(Type.String(), Type.Number());

/** What serving relies on. Method and result are the job's own records; the checksum vouches for them. */
const schema = Compile(
  Type.Object({
    version: Type.Literal(1),
    id: text,
    owner: text,
    createdAt: Type.Number(),
    jobId: text,
    base: Type.Object({ id: text, hash: text, tokenizerSha256: text }),
    kind: LmKind,
    method: Type.Object({
      type: text,
      template: Type.Array(Type.Object({}), { minItems: 1 }),
      task: Type.Object({ type: Type.Union([Type.Literal('cloze'), Type.Literal('classification')]), metric: text }),
      hyperparameters: Type.Object({}),
    }),
    seed: Type.Number(),
    data: Type.Object({
      train: text,
      validation: Type.Union([text, Type.Null()]),
      test: Type.Union([text, Type.Null()]),
    }),
    virtualTokens: Type.Integer({ minimum: 1 }),
    width: Type.Integer({ minimum: 1 }),
    place: Type.Optional(Type.Union([Type.Literal('embeddings'), Type.Literal('past')])),
    step: count,
    metrics,
    result: Type.Union([Type.Object({}), Type.Null()]),
    software: Type.Object({ ptuned: text, onnxruntime: text, node: text }),
    files: Type.Array(Type.Object({ path: text, bytes: count, sha256: hash })),
  }),
);

export function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Bytes of manifest.json. */
export function encodeManifest(manifest: ArtifactManifest): Uint8Array {
  // Through JSON once, so that what is hashed is what a reader will see (undefined, -0 and NaN do not survive JSON).
  const content = JSON.parse(JSON.stringify(manifest)) as ArtifactManifest;
  checkShape(content, manifest.id);
  return Buffer.from(`${JSON.stringify({ ...content, sha256: sha256(JSON.stringify(content)) }, null, 2)}\n`);
}

/** Reads manifest.json of the artifact `id`. Throws damaged_artifact for anything but what was written for that id. */
export function decodeManifest(bytes: Uint8Array, id: string): ArtifactManifest {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw damaged(id, 'manifest.json is not JSON', cause);
  }
  if (typeof parsed !== 'object' || parsed === null) throw damaged(id, 'manifest.json is not an object');
  const { sha256: expected, ...content } = parsed as Record<string, unknown>;
  if (sha256(JSON.stringify(content)) !== expected) throw damaged(id, 'manifest.json does not have its own sha256');
  checkShape(content, id);
  return content as unknown as ArtifactManifest;
}

function checkShape(content: unknown, id: string): void {
  if (!schema.Check(content)) {
    const [first] = schema.Errors(content);
    throw damaged(id, `manifest.json${first === undefined ? '' : ` ${first.instancePath}`} is not of format version 1`);
  }
  if ((content as { id: string }).id !== id) throw damaged(id, 'manifest.json belongs to another model');
}

export function damaged(id: string, what: string, cause?: unknown): PtunedError {
  return new PtunedError(
    'damaged_artifact',
    `The tuned prompt ${id} is damaged: ${what}.`,
    cause === undefined ? {} : { cause },
  );
}
