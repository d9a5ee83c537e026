/** From a model id and its owner to what serves it: the base LM, its tokenizer, and the tuned prompt if it is one. */
import { promptFile, wordsFile } from '../artifacts/prompt.ts';
import { notFound } from '../artifacts/read.ts';
import type { ArtifactStore, LoadedPrompt } from '../artifacts/store.ts';
import { PtunedError } from '../errors.ts';
import { createLru } from '../lru.ts';
import type { ModelManifest } from '../models/manifest.ts';
import { promptWidth, tokensBefore } from '../models/past.ts';
import { compileTask } from '../tasks/registry.ts';
import { compileTemplate, type RenderPlan } from '../tasks/render.ts';
import { inputFields, targetField, virtualTokens } from '../tasks/template.ts';
import type { Candidates } from '../tasks/types.ts';
import { loadTokenizer } from '../tokenizer/load.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Prompt } from './batch.ts';
import { type Cache, createCache } from './cache.ts';
import type { Limits } from './limits.ts';
import { verifyFiles } from './verify.ts';

/** The registry of frozen LMs (src/models/registry.ts). */
export interface ModelSource {
  get(id: string): Promise<ModelManifest | null>;
}

export interface Tuned {
  owner: string;
  base: { id: string; hash: string; tokenizerSha256: string };
  prompt: Prompt;
  plan: RenderPlan;
  /** Fields an input must have. */
  fields: string[];
  /** The field that is predicted. */
  target: string;
  /** Labels, or the words a cloze task allows; null when it allows all. */
  candidates: Candidates | null;
  task: 'cloze' | 'classification';
}

export interface Served {
  /** As the client named it. */
  id: string;
  base: ModelManifest;
  tokenizer: Tokenizer;
  /** Null for a base LM. */
  tuned: Tuned | null;
}

/** What is told of an id without asking the store: enough to refuse, not to serve. */
export interface Known {
  base: ModelManifest;
  /** Null for a base LM. */
  task: Tuned['task'] | null;
}

export interface Catalog {
  /** Throws model_not_found (also for another owner's prompt), model_mismatch, damaged_artifact, missing_file. */
  resolve(id: string, owner: string): Promise<Served>;
  /** What `id` was when this owner last asked, without asking the store; null when unknown. */
  recall(id: string, owner: string): Known | null;
  /** Tuned prompts in memory and their bytes. */
  size(): { entries: number; weight: number };
}

/** Ids of which it is remembered what they are. */
const mostKnown = 10_000;

export function createCatalog(models: ModelSource, artifacts: ArtifactStore, limits: Limits): Catalog {
  const tokenizers: Cache<Tokenizer> = createCache(limits.tokenizers, () => 1);
  const prompts: Cache<Tuned> = createCache(limits.promptBytes, weigh);
  const known = createLru<Known>(mostKnown, () => 1);

  function remember(served: Served, owner: string): Served {
    known.set(`${owner} ${served.id}`, { base: served.base, task: served.tuned?.task ?? null });
    return served;
  }

  function tokenizerOf(base: ModelManifest): Promise<Tokenizer> {
    return tokenizers.get(`${base.tokenizer.sha256} ${base.directory}`, async () => {
      await verifyFiles(base, [base.tokenizer]);
      return loadTokenizer(base.directory);
    });
  }

  async function load(id: string, key: string): Promise<Tuned> {
    const prompt = await artifacts.loadPrompt(id);
    const base = await baseOf(id, prompt.manifest.base);
    const words = await readWords(artifacts, prompt);
    return compile(prompt, key, base, await tokenizerOf(base), words);
  }

  /** The registered LM, if it is still the one the prompt was tuned on. */
  async function baseOf(id: string, wanted: Tuned['base']): Promise<ModelManifest> {
    const base = await models.get(wanted.id);
    if (base === null) {
      throw new PtunedError('model_not_found', `"${id}" was tuned on the LM "${wanted.id}", which is not registered.`, {
        param: 'model',
      });
    }
    if (base.hash === wanted.hash && base.tokenizer.sha256 === wanted.tokenizerSha256) return base;
    const differs = base.hash === wanted.hash ? 'tokenizer' : 'weights';
    throw new PtunedError(
      'model_mismatch',
      `"${id}" was tuned on another LM: the ${differs} registered as "${wanted.id}" are not those it belongs to.`,
      { param: 'model' },
    );
  }

  return {
    async resolve(id, owner) {
      if (!id.startsWith('ft:')) {
        const base = await models.get(id);
        if (base === null) throw notFound(id);
        return remember({ id, base, tokenizer: await tokenizerOf(base), tuned: null }, owner);
      }
      const version = await artifacts.version(id);
      if (version === null) throw notFound(id);
      const key = `${id} ${version}`;
      const tuned = await prompts.get(key, () => load(id, key));
      if (tuned.owner !== owner) throw notFound(id);
      const base = await baseOf(id, tuned.base);
      return remember({ id, base, tokenizer: tuned.plan.tokenizer, tuned }, owner);
    },
    recall: (id, owner) => known.get(`${owner} ${id}`) ?? null,
    size: prompts.size,
  };
}

function compile(
  { manifest, table, rows, width }: LoadedPrompt,
  key: string,
  base: ModelManifest,
  tokenizer: Tokenizer,
  allowedWords: readonly string[] | null,
): Tuned {
  const { template, task } = manifest.method;
  const place = manifest.place ?? 'embeddings';
  const wanted = promptWidth(place, base);
  const before = tokensBefore(place, rows);
  const tokens = before + virtualTokens(template);
  if (tokens !== rows || width !== wanted) {
    throw new PtunedError(
      'damaged_artifact',
      `${promptFile} of ${manifest.id} is [${rows},${width}]; its template and LM need [${tokens},${wanted}].`,
    );
  }
  const plan = compileTemplate(template, { ...base, tokenizer }, before);
  const restricted = task.type === 'classification' || task.allowed_words !== undefined || allowedWords !== null;
  const { vocabularySize } = base;
  const compiled = { tokenizer, vocabularySize, targetAfterSpace: plan.targetAfterSpace, allowedWords };
  return {
    owner: manifest.owner,
    base: manifest.base,
    prompt: { place, table: { rows, width, values: table }, key, lead: plan.lead },
    plan,
    fields: inputFields(template),
    target: targetField(template),
    candidates: restricted ? compileTask(task, compiled).candidates : null,
    task: task.type,
  };
}

/** Words of an allowed_words_file, one a line, as they were stored with the prompt. */
async function readWords(artifacts: ArtifactStore, { manifest }: LoadedPrompt): Promise<string[] | null> {
  const { task } = manifest.method;
  if (task.type !== 'cloze' || task.allowed_words_file === undefined) return null;
  const text = new TextDecoder().decode(await artifacts.readFile(manifest.id, wordsFile));
  return text
    .split('\n')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

/** Bytes of an entry, roughly: numbers exactly, names at two bytes a character with a string's overhead. */
function weigh({ prompt: { table }, candidates }: Tuned): number {
  const names = candidates?.names.reduce((sum, name) => sum + 2 * name.length + 24, 0) ?? 0;
  const numbers = (candidates?.ids.byteLength ?? 0) + (candidates?.weights.byteLength ?? 0);
  return table.values.byteLength + numbers + names + 4096;
}
