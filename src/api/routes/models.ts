/** GET POST /models, GET DELETE /models/{model}: base LMs and tuned prompts. */
import { basename } from 'node:path';
import type { ArtifactManifest } from '../../artifacts/format.ts';
import { PtunedError } from '../../errors.ts';
import type { ModelManifest } from '../../models/manifest.ts';
import type { App } from '../app.ts';
import { resolveModelFolder } from '../model-roots.ts';
import { bearer } from '../openapi.ts';
import { Deleted, errors, Page } from '../schemas/common.ts';
import { BaseModelObject, ModelObject, ModelParams, ModelRegister, type TunedModelObject } from '../schemas/models.ts';
import type { ApiServices } from '../services.ts';

const tags = ['Models'];

export function modelRoutes(v1: App, services: ApiServices): void {
  collectionRoutes(v1, services);
  itemRoutes(v1, services);
}

function collectionRoutes(v1: App, services: ApiServices): void {
  const { models, artifacts } = services;

  v1.get(
    '/models',
    {
      schema: {
        operationId: 'listModels',
        summary: 'Base LMs and your tuned prompts, on one page',
        tags,
        security: bearer,
        response: { 200: Page(ModelObject), ...errors },
      },
    },
    async (request) => {
      const tuned = await artifacts.list(request.owner, { limit: Number.MAX_SAFE_INTEGER });
      // Checkpoints are listed with their job; each can still be retrieved and queried by its id.
      const finals = tuned.data.filter((manifest) => manifest.result !== null);
      const base = await models.list();
      return {
        object: 'list' as const,
        data: [...base.map(baseModelObject), ...finals.map(tunedModelObject)],
        has_more: false,
      };
    },
  );

  v1.post(
    '/models',
    {
      bodyLimit: 1 << 16,
      schema: {
        operationId: 'registerModel',
        summary: 'Import a base LM from a folder of the service’s machine (extension)',
        tags,
        security: bearer,
        body: ModelRegister,
        response: { 200: BaseModelObject, 201: BaseModelObject, ...errors },
      },
    },
    async (request, reply) => {
      const { manifest, isNew } = await registerModel(services, request.body);
      return reply.code(isNew ? 201 : 200).send(baseModelObject(manifest));
    },
  );
}

function itemRoutes(v1: App, services: ApiServices): void {
  const { models, artifacts } = services;

  v1.get(
    '/models/:model',
    {
      schema: {
        operationId: 'retrieveModel',
        summary: 'One model',
        tags,
        security: bearer,
        params: ModelParams,
        response: { 200: ModelObject, ...errors },
      },
    },
    async (request) => {
      const { model } = request.params;
      if (isTuned(model)) return tunedModelObject(await ownArtifact(services, model, request.owner));
      return baseModelObject(await findBase(services, model));
    },
  );

  v1.delete(
    '/models/:model',
    {
      schema: {
        operationId: 'deleteModel',
        summary: 'Delete a tuned prompt, or unregister a base LM (its folder stays as it is)',
        tags,
        security: bearer,
        params: ModelParams,
        response: { 200: Deleted('model'), ...errors },
      },
    },
    async (request) => {
      const { model } = request.params;
      if (isTuned(model)) {
        await ownArtifact(services, model, request.owner);
        await artifacts.remove(model);
      } else if (!(await models.remove(model))) {
        throw modelNotFound(model);
      }
      return { id: model, object: 'model' as const, deleted: true as const };
    },
  );
}

/** An import may need most of the machine's memory, so that two at once would refuse what each alone could take. */
function createTurns() {
  let last: Promise<unknown> = Promise.resolve();
  return <T>(work: () => Promise<T>): Promise<T> => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
}

const oneAtATime = createTurns();

/** Imports in a child process; the same LM again is no error, another one under a taken id is a conflict. */
async function registerModel(services: ApiServices, { path, id: wantedId, embedding, graph }: ModelRegister) {
  const { config, models, preflightModel, projectDirectory, shippedModels } = services;
  const directory = await resolveModelFolder(path, [...config.modelRoots, shippedModels], projectDirectory);
  const id = wantedId ?? basename(directory);
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(id)) {
    throw new PtunedError(
      'invalid_request',
      `the folder's name "${id}" cannot be an id; give id: 1 to 64 letters, digits, ".", "_" or "-".`,
      { param: 'id' },
    );
  }
  const before = await models.get(id);
  const manifest = await oneAtATime(() => preflightModel(directory, { id, embedding, graph }));
  await models.put(manifest);
  return { manifest, isNew: before === null };
}

async function findBase({ models }: ApiServices, id: string): Promise<ModelManifest> {
  const manifest = await models.get(id);
  if (manifest === null) throw modelNotFound(id);
  return manifest;
}

/** Another owner's tuned prompt answers as if it were not there. */
async function ownArtifact(services: ApiServices, id: string, owner: string): Promise<ArtifactManifest> {
  const manifest = await services.artifacts.get(id);
  if (manifest.owner === owner) return manifest;
  throw modelNotFound(id);
}

function modelNotFound(id: string): PtunedError {
  return new PtunedError('model_not_found', `There is no model "${id}".`, { param: 'model' });
}

function isTuned(model: string): boolean {
  return model.startsWith('ft:');
}

export function baseModelObject(manifest: ModelManifest): BaseModelObject {
  return {
    id: manifest.id,
    object: 'model',
    created: Math.floor(Date.parse(manifest.createdAt) / 1000),
    owned_by: 'ptuned',
    kind: manifest.kind,
    architecture: manifest.architecture,
    parameters: manifest.parameters,
    vocabulary_size: manifest.vocabularySize,
    embedding_width: manifest.embedding.width,
    max_length: manifest.maxLength,
    hash: manifest.hash,
  };
}

export function tunedModelObject(manifest: ArtifactManifest): TunedModelObject {
  const fields = manifest.method.template.flatMap((segment) => ('field' in segment ? [segment.field] : []));
  return {
    id: manifest.id,
    object: 'model',
    created: manifest.createdAt,
    owned_by: manifest.owner,
    kind: manifest.kind,
    base_model: manifest.base.id,
    fine_tuning_job_id: manifest.jobId,
    step: manifest.step,
    method: manifest.method.type,
    task: manifest.method.task.type,
    fields: [...new Set(fields)],
    metrics: manifest.metrics,
  };
}
