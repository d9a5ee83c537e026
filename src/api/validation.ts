/** Turns the validator's errors into one sentence that names the field, what was found and what is accepted. */
import type { FastifySchemaValidationError } from 'fastify';
import { PtunedError } from '../errors.ts';
import { accepts, describeSchema, type SchemaNode } from './describe.ts';

/** What ajv reports with `verbose: true`; `schema` is the keyword's value, `parentSchema` the object it stands in. */
interface VerboseError extends FastifySchemaValidationError {
  schema?: unknown;
  parentSchema?: SchemaNode;
  data?: unknown;
}

/** @param part the part of the request that was checked: body, querystring, params or headers */
export function explainValidation(errors: FastifySchemaValidationError[], part: string): PtunedError {
  const { path, message } = explain(errors as VerboseError[], part === 'querystring' ? 'the query' : `the ${part}`);
  return new PtunedError('invalid_request', message, path === '' ? {} : { param: path });
}

function explain(errors: VerboseError[], whole: string): { path: string; message: string } {
  const error = errors.at(-1);
  if (error === undefined) return { path: '', message: `${whole} is not valid.` };
  const at = fieldPath(error.instancePath);
  const subject = at === '' ? whole : at;
  const own = error.parentSchema ?? {};
  switch (error.keyword) {
    case 'anyOf':
      return explainUnion(errors, error, subject, whole);
    case 'required': {
      const name = String(error.params.missingProperty);
      const wanted = own.properties?.[name];
      const accepted = wanted === undefined ? '' : `; accepted: ${describeSchema(wanted)}`;
      const path = joinPath(at, name);
      return { path, message: `${path} is missing${accepted}.` };
    }
    case 'additionalProperties': {
      const path = joinPath(at, String(error.params.additionalProperty));
      const known = own[accepts] ?? Object.keys(own.properties ?? {}).join(', ');
      return { path, message: `${path} is not a known field; accepted${at === '' ? '' : ` in ${at}`}: ${known}.` };
    }
    case 'propertyNames': {
      const name = String(error.params.propertyName);
      const accepted = `names of at most ${(error.schema as SchemaNode).maxLength} characters`;
      return { path: at, message: `${subject} has the name "${clip(name)}"; accepted: ${accepted}.` };
    }
    default:
      // Fastify gives null where no body came.
      if (at === '' && error.data === null) {
        return { path: at, message: `${whole} is missing; accepted: ${describeSchema(own)}.` };
      }
      return { path: at, message: `${subject} is ${show(error.data)}; accepted: ${describeSchema(own)}.` };
  }
}

/** Of a union only the variant that was meant is worth explaining; where none is recognisable, all are listed. */
function explainUnion(errors: VerboseError[], union: VerboseError, subject: string, whole: string) {
  const variants = union.schema as SchemaNode[];
  const at = fieldPath(union.instancePath);
  const tag = discriminator(variants);
  if (isObject(union.data) && tag !== null) {
    const meant = variants.findIndex((variant) => variant.properties?.[tag]?.const === (union.data as SchemaNode)[tag]);
    const path = joinPath(at, tag);
    if (meant >= 0) return explain(branch(errors, union, meant), whole);
    const accepted = variants.map((variant) => JSON.stringify(variant.properties?.[tag]?.const)).join(' or ');
    const found = tag in union.data ? `is ${show((union.data as SchemaNode)[tag])}` : 'is missing';
    return { path, message: `${path} ${found}; accepted: ${accepted}.` };
  }
  const meant = variants.findIndex((variant) => looksLike(variant, union.data));
  if (meant >= 0) return explain(branch(errors, union, meant), whole);
  return { path: at, message: `${subject} is ${show(union.data)}; accepted: ${describeSchema({ anyOf: variants })}.` };
}

function branch(errors: VerboseError[], union: VerboseError, index: number): VerboseError[] {
  const prefix = `${union.schemaPath}/${index}/`;
  return errors.filter((error) => error.schemaPath.startsWith(prefix));
}

/** The property that every variant fixes to a constant of its own. */
function discriminator(variants: SchemaNode[]): string | null {
  const names = Object.keys(variants[0]?.properties ?? {});
  return names.find((name) => variants.every((variant) => variant.properties?.[name]?.const !== undefined)) ?? null;
}

function looksLike(variant: SchemaNode, data: unknown): boolean {
  if (variant.const !== undefined) return false;
  if (variant.anyOf !== undefined) return variant.anyOf.some((inner) => looksLike(inner, data));
  if (variant.type === 'object') {
    return isObject(data) && (variant.required ?? []).every((name) => name in data);
  }
  if (variant.type === 'array') {
    return (
      Array.isArray(data) && (data.length === 0 || variant.items === undefined || looksLike(variant.items, data[0]))
    );
  }
  if (variant.type === 'integer' || variant.type === 'number') return typeof data === 'number';
  return variant.type === typeof data;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `/method/p_tuning/template/0/virtual` as `method.p_tuning.template[0].virtual`. */
function fieldPath(pointer: string): string {
  let path = '';
  for (const part of pointer.split('/').slice(1)) {
    path = joinPath(path, part.replaceAll('~1', '/').replaceAll('~0', '~'));
  }
  return path;
}

function joinPath(path: string, name: string): string {
  if (/^\d+$/.test(name)) return `${path}[${name}]`;
  return path === '' ? name : `${path}.${name}`;
}

function show(value: unknown): string {
  if (value === undefined) return 'missing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isObject(value)) {
    const names = Object.keys(value);
    return names.length === 0 ? 'an empty object' : `an object with ${clip(names.join(', '))}`;
  }
  return clip(JSON.stringify(value) ?? String(value));
}

function clip(text: string): string {
  return text.length <= 100 ? text : `${text.slice(0, 97)}…`;
}
