/** A data file through a job's template: checked when the job is created, rendered when it is trained. */
import { PtunedError } from '../errors.ts';
import type { ModelManifest } from '../models/manifest.ts';
import { fieldText, type Row, where } from '../tasks/place.ts';
import { type CompiledTask, compileTask, type Label } from '../tasks/registry.ts';
import { compileTemplate, type RenderPlan, renderRow } from '../tasks/render.ts';
import type { Task, Template, VirtualSegment } from '../tasks/schema.ts';
import { checkTemplate, inputFields, manualTemplate, targetField, withPrefix } from '../tasks/template.ts';
import type { RenderedRow } from '../tasks/types.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { createRowStore, type Rows } from './compact.ts';
import { readJsonl } from './jsonl.ts';
import type { Source } from './lines.ts';

export interface DatasetPlan {
  render: RenderPlan;
  /** The same rows in the words of the manual prompt; null where the template names none. */
  manual: RenderPlan | null;
  task: CompiledTask;
  /** Field that holds the target, and the others a row must have. */
  target: string;
  fields: string[];
}

export interface DatasetSummary {
  /** Rows that are trained on or scored. */
  used: number;
  /** Of these, rows with a field cut because they were too long. */
  shortened: number;
  /** Rows left out because their target is not one token of this LM, or not an allowed one (drop_multi_token). */
  dropped: number;
  /** Tokens of the longest row, of a row on average, and of all rows; pseudo tokens included. */
  longest: number;
  mean: number;
  tokens: number;
}

export interface LoadedDataset extends DatasetSummary {
  rows: Rows;
  /** As the manual prompt words them, in the order of `rows`. */
  manual: Rows | null;
}

/**
 * The template of rows in OpenAI's prompt/completion form, which `method.type: supervised` means. Spaces around a
 * completion do not matter: a target's marker comes from its place in the template.
 */
export const promptCompletionTemplate: Template = [
  { virtual: 3 },
  { field: 'prompt', shortenable: true },
  { virtual: 3 },
  { target: 'completion' },
];

export interface DatasetOptions {
  model: Pick<ModelManifest, 'kind' | 'decoder' | 'maxLength' | 'vocabularySize'>;
  tokenizer: Tokenizer;
  template: Template;
  /** Pseudo tokens that stand before every row as keys and values. */
  prefix?: VirtualSegment | null;
  task: Task;
  /** Words of allowed_words_file. */
  allowedWords?: readonly string[] | null;
}

/**
 * Compiles what all rows share, the manual prompt included. @throws PtunedError invalid_template, template_too_long,
 * target_not_one_token, verbalizer_conflict
 */
export function planDataset(options: DatasetOptions): DatasetPlan {
  const { model, tokenizer, template, prefix = null, task, allowedWords = null } = options;
  checkTemplate(template, model, prefix);
  const lm = { ...model, tokenizer };
  const render = compileTemplate(template, lm, prefix?.virtual);
  // Without its prefix a template is a manual prompt as it stands.
  const words = manualTemplate(withPrefix(template, prefix)) ?? (prefix === null ? null : template);
  const { targetAfterSpace } = render;
  return {
    render,
    manual: words === null ? null : compileTemplate(words, lm),
    task: compileTask(task, { tokenizer, vocabularySize: model.vocabularySize, targetAfterSpace, allowedWords }),
    target: targetField(template),
    fields: inputFields(template),
  };
}

export interface DatasetRow {
  line: number;
  /** Null when the row is dropped. */
  row: RenderedRow | null;
  manual: RenderedRow | null;
}

/** Every row of a file in its order, none kept. @throws PtunedError naming line and field, empty_file */
export async function* renderFile(source: Source, plan: DatasetPlan): AsyncGenerator<DatasetRow> {
  for await (const { value, line } of readJsonl(source)) {
    refuseChat(value, plan, line);
    const row = renderLabelled(plan, value, line);
    const manual =
      row === null || plan.manual === null ? null : { ...renderRow(plan.manual, value, { line }), label: row.label };
    yield { line, row, manual };
  }
}

/** One row with its label; null when it is dropped. @throws PtunedError naming line and field */
export function renderLabelled(plan: DatasetPlan, row: Row, line: number): RenderedRow | null {
  const target = fieldText(row, plan.target, { line }).trim();
  const label = plan.task.labelOf(target);
  if ('index' in label) return { ...renderRow(plan.render, row, { line }), label: label.index };
  if (plan.task.dropsRefused) return null;
  throw new PtunedError(codes[label.refused], `${where({ line })}Field "${plan.target}": ${label.message}.`, {
    param: plan.target,
    details: { line, field: plan.target },
  });
}

const codes = {
  not_one_token: 'target_not_one_token',
  not_allowed: 'invalid_data',
  unknown_label: 'unknown_label',
} as const satisfies Record<Extract<Label, { refused: string }>['refused'], string>;

/** Reads a whole file without keeping its rows. @throws PtunedError naming line and field, empty_file when no row is left */
export async function checkDataset(source: Source, plan: DatasetPlan): Promise<DatasetSummary> {
  const counter = createCounter();
  for await (const { row } of renderFile(source, plan)) counter.add(row);
  return counter.summary();
}

/** All rows of a file, rendered; as the manual prompt words them only where that is asked for. @throws as {@link checkDataset} */
export async function loadDataset(source: Source, whole: DatasetPlan, withManual = true): Promise<LoadedDataset> {
  const plan = withManual ? whole : { ...whole, manual: null };
  const counter = createCounter();
  const rows = createRowStore();
  const worded = createRowStore();
  for await (const { row, manual } of renderFile(source, plan)) {
    counter.add(row);
    if (row !== null) rows.add(row);
    if (manual !== null) worded.add(manual);
  }
  return { ...counter.summary(), rows, manual: plan.manual === null ? null : worded };
}

function createCounter(): { add: (row: RenderedRow | null) => void; summary: () => DatasetSummary } {
  const counts = { used: 0, shortened: 0, dropped: 0, longest: 0, tokens: 0 };
  return {
    add(row) {
      if (row === null) {
        counts.dropped++;
        return;
      }
      counts.used++;
      if (row.cut > 0) counts.shortened++;
      counts.longest = Math.max(counts.longest, row.ids.length);
      counts.tokens += row.ids.length;
    },
    summary() {
      if (counts.used > 0) return { ...counts, mean: counts.tokens / counts.used };
      throw new PtunedError(
        'empty_file',
        `No row is left: all ${counts.dropped} were dropped because their target is not one token of this LM.`,
      );
    },
  };
}

/** Chat rows are a form of their own; say what to send instead. */
function refuseChat(row: Row, { fields, target }: DatasetPlan, line: number): void {
  if (!Object.hasOwn(row, 'messages') || fields.includes('messages') || Object.hasOwn(row, target)) return;
  const wanted = [...fields, target].map((field) => `"${field}"`).join(', ');
  throw new PtunedError(
    'invalid_data',
    `${where({ line })}rows with "messages" are not accepted; give each row the fields ${wanted}.`,
    { param: 'messages', details: { line, field: 'messages' } },
  );
}
