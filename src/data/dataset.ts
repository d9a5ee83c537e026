/** A data file through a job's template: checked when the job is created, rendered when it is trained. */
import { PtunedError } from '../errors.ts';
import type { ModelManifest } from '../models/manifest.ts';
import { type CompiledTask, compileTask } from '../tasks/registry.ts';
import { compileTemplate, fieldText, type RenderPlan, type Row, renderRow, where } from '../tasks/render.ts';
import type { Task, Template } from '../tasks/schema.ts';
import { checkTemplate, targetField } from '../tasks/template.ts';
import type { RenderedRow } from '../tasks/types.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type Line, readJsonl } from './jsonl.ts';

export interface DatasetPlan {
  render: RenderPlan;
  task: CompiledTask;
  target: string;
}

export interface DatasetSummary {
  /** Rows that are trained on or scored. */
  used: number;
  /** Of these, rows with a field cut because they were too long. */
  shortened: number;
  /** Rows left out because their target is not one token of this LM (drop_multi_token). */
  dropped: number;
  /** Tokens of the longest row and of all rows, pseudo tokens included. */
  longest: number;
  tokens: number;
}

export interface LoadedDataset extends DatasetSummary {
  rows: RenderedRow[];
}

/** The template of rows in OpenAI's prompt/completion form, which `method.type: supervised` means. */
export const promptCompletionTemplate: Template = [
  { virtual: 3 },
  { field: 'prompt', shortenable: true },
  { virtual: 3 },
  { target: 'completion' },
];

/**
 * Compiles what all rows share. @throws PtunedError invalid_template, template_too_long, target_not_one_token,
 * verbalizer_conflict
 */
export function planDataset(options: {
  model: Pick<ModelManifest, 'kind' | 'maxLength' | 'vocabularySize'>;
  tokenizer: Tokenizer;
  template: Template;
  task: Task;
  allowedWords?: readonly string[] | null;
}): DatasetPlan {
  const { model, tokenizer, template, task } = options;
  checkTemplate(template, model.kind);
  return planRows(
    options,
    compileTemplate(template, { tokenizer, kind: model.kind, maxLength: model.maxLength }),
    task,
  );
}

/** {@link planDataset} for a template that need not hold pseudo tokens: the manual prompt. */
export function planManual(options: Parameters<typeof planDataset>[0]): DatasetPlan {
  const { model, tokenizer, template, task } = options;
  return planRows(
    options,
    compileTemplate(template, { tokenizer, kind: model.kind, maxLength: model.maxLength }),
    task,
  );
}

function planRows(options: Parameters<typeof planDataset>[0], render: RenderPlan, task: Task): DatasetPlan {
  const { model, tokenizer, template, allowedWords = null } = options;
  const { targetAfterSpace } = render;
  const compiled = compileTask(task, {
    tokenizer,
    vocabularySize: model.vocabularySize,
    targetAfterSpace,
    allowedWords,
  });
  return { render, task: compiled, target: targetField(template) };
}

/** One row with its label; null when it is dropped. @throws PtunedError naming line and field */
export function renderLabelled(plan: DatasetPlan, row: Row, line: number): RenderedRow | null {
  const target = fieldText(row, plan.target, { line }).trim();
  const label = plan.task.labelOf(target);
  if (!('index' in label)) {
    if (plan.task.dropsRefused) return null;
    const code =
      label.refused === 'not_one_token'
        ? 'target_not_one_token'
        : label.refused === 'unknown_label'
          ? 'unknown_label'
          : 'invalid_data';
    throw new PtunedError(code, `${where({ line })}Field "${plan.target}": ${label.message}.`, {
      param: plan.target,
      details: { line, field: plan.target },
    });
  }
  return { ...renderRow(plan.render, row, { line }), label: label.index };
}

/** Reads a whole file without keeping its rows. @throws PtunedError naming line and field, empty_file when no row is left */
export async function checkDataset(path: string, plan: DatasetPlan): Promise<DatasetSummary> {
  const { summary, add } = counter();
  for await (const { value, line } of readJsonl(path)) add(renderLabelled(plan, refuseChat(value, plan, line), line));
  return notEmpty(summary);
}

/** All rows of a file, rendered. */
export async function loadDataset(path: string, plan: DatasetPlan): Promise<LoadedDataset> {
  const { summary, add } = counter();
  const rows: RenderedRow[] = [];
  for await (const { value, line } of readJsonl(path)) {
    const row = renderLabelled(plan, value, line);
    add(row);
    if (row !== null) rows.push(row);
  }
  return { ...notEmpty(summary), rows };
}

function counter(): { summary: DatasetSummary; add: (row: RenderedRow | null) => void } {
  const summary: DatasetSummary = { used: 0, shortened: 0, dropped: 0, longest: 0, tokens: 0 };
  return {
    summary,
    add(row) {
      if (row === null) {
        summary.dropped++;
        return;
      }
      summary.used++;
      if (row.cut > 0) summary.shortened++;
      summary.longest = Math.max(summary.longest, row.ids.length);
      summary.tokens += row.ids.length;
    },
  };
}

function notEmpty(summary: DatasetSummary): DatasetSummary {
  if (summary.used > 0) return summary;
  throw new PtunedError(
    'empty_file',
    `No row is left: all ${summary.dropped} were dropped because their target is not one token of this LM.`,
  );
}

/** Chat rows are a form of their own; say what to send instead. */
function refuseChat(row: Line['value'], plan: DatasetPlan, line: number): Row {
  const wanted = plan.render.parts.flatMap((part) => (part.kind === 'field' ? [part.field] : []));
  if (Object.hasOwn(row, 'messages') && !wanted.includes('messages')) {
    throw new PtunedError(
      'invalid_data',
      `Line ${line}: rows with "messages" are not accepted; give each row the fields ${[...new Set(wanted), plan.target].map((one) => `"${one}"`).join(', ')}.`,
      {
        param: 'messages',
        details: { line, field: 'messages' },
      },
    );
  }
  return row;
}
