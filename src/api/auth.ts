/** Bearer keys: compared as hashes and in constant time, so that neither memory nor timing gives a key away. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { Config } from '../config.ts';
import { PtunedError } from '../errors.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Whose files, jobs and tuned prompts this request may see. */
    owner: string;
  }
}

/** A hook that sets `request.owner`, or answers 401. Without keys everyone is the owner "local". */
export function createAuthenticator(apiKeys: Config['apiKeys']): (request: FastifyRequest) => Promise<void> {
  const known = apiKeys.map(({ owner, key }) => ({ owner, hash: sha256(key) }));
  return async (request) => {
    if (known.length === 0) {
      request.owner = 'local';
      return;
    }
    const header = request.headers.authorization;
    if (header === undefined) throw refuse('the header Authorization is missing');
    const key = /^Bearer +(\S+) *$/i.exec(header)?.[1];
    if (key === undefined) throw refuse('the header Authorization has another form');
    const hash = sha256(key);
    // Every known key is compared, so that the time taken does not tell which one came near.
    const matches = known.filter((entry) => timingSafeEqual(entry.hash, hash));
    const match = matches[0];
    if (match === undefined) throw refuse('the key is not known');
    request.owner = match.owner;
  };
}

function refuse(found: string): PtunedError {
  return new PtunedError('unauthorized', `${found}; accepted: Authorization: Bearer <key>.`);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
