/** A JSON schema in words, for error messages. */

/** Keyword that says in words what its schema accepts, where the schema itself says it worse (a pattern). */
export const accepts = 'x-accepts';

/** The keywords of JSON Schema that this project's schemas use. */
export interface SchemaNode {
  [keyword: string]: unknown;
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: SchemaNode[];
  properties?: Record<string, SchemaNode>;
  required?: string[];
  patternProperties?: Record<string, SchemaNode>;
  maxProperties?: number;
  items?: SchemaNode;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
}

export function describeSchema(schema: SchemaNode): string {
  const inWords = schema[accepts];
  if (typeof inWords === 'string') return inWords;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(', ');
  if (schema.anyOf !== undefined) return schema.anyOf.map(describeSchema).join(' or ');
  switch (schema.type) {
    case 'string':
      return describeString(schema);
    case 'integer':
      return `a whole number${range(schema)}`;
    case 'number':
      return `a number${range(schema)}`;
    case 'boolean':
      return 'true or false';
    case 'null':
      return 'null';
    case 'array':
      return `a list of${count(schema.minItems, schema.maxItems)} items, each ${describeSchema(schema.items ?? {})}`;
    case 'object':
      return describeObject(schema);
    default:
      return 'any value';
  }
}

function describeString(schema: SchemaNode): string {
  const characters = count(schema.minLength, schema.maxLength);
  return characters === '' ? 'a string' : `a string of${characters} characters`;
}

function describeObject(schema: SchemaNode): string {
  const names = Object.keys(schema.properties ?? {});
  if (names.length > 0) return `{${names.join(', ')}}`;
  const most = schema.maxProperties === undefined ? '' : ` of at most ${schema.maxProperties} pairs`;
  const [value] = Object.values(schema.patternProperties ?? {});
  return `an object${most}${value === undefined ? '' : `, each value ${describeSchema(value)}`}`;
}

function count(least: number | undefined, most: number | undefined): string {
  if (most === undefined) return least === undefined || least === 0 ? '' : ` at least ${least}`;
  return least === undefined || least === 0 ? ` at most ${most}` : ` ${least} to ${most}`;
}

function range(schema: SchemaNode): string {
  const { minimum, maximum, exclusiveMinimum } = schema;
  if (minimum !== undefined && maximum !== undefined) return ` from ${minimum} to ${maximum}`;
  const parts = [];
  if (exclusiveMinimum !== undefined) parts.push(`above ${exclusiveMinimum}`);
  if (minimum !== undefined) parts.push(`of at least ${minimum}`);
  if (maximum !== undefined) parts.push(`of at most ${maximum}`);
  return parts.length === 0 ? '' : ` ${parts.join(' and ')}`;
}
