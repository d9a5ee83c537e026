/** What must happen in Redis at once, as Lua. Every write of a worker names its attempt and is refused when superseded. */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';

export interface Script {
  lua: string;
  sha: string;
}

const prelude = `
local function isFinal(status)
  return status == 'succeeded' or status == 'failed' or status == 'cancelled'
end
-- 'ok', or why a write of this attempt does not count.
local function fence(key, attempt)
  local state = redis.call('HMGET', key, 'status', 'attempt')
  if not state[1] then return 'missing' end
  if isFinal(state[1]) then return 'final' end
  if state[2] ~= attempt then return 'superseded' end
  return 'ok', state[1]
end
local function tell(stream, channel, id, event)
  redis.call('XADD', stream, 'MAXLEN', '~', 5000, '*', 'event', event)
  redis.call('PUBLISH', channel, id)
end
-- Counts an attempt that broke off; progress since the last one that did forgives all before.
local function charge(key, field)
  local state = redis.call('HMGET', key, 'topStep', 'markStep')
  local top = tonumber(state[1] or '0')
  if top > tonumber(state[2] or '0') then
    redis.call('HSET', key, 'markStep', top, 'crashes', 0, 'losses', 0)
    return 0
  end
  return redis.call('HINCRBY', key, field, 1)
end
`;

function script(body: string): Script {
  const lua = prelude + body;
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

/** Runs a script; Redis is sent its text only when it does not know it yet. */
export async function runScript(
  client: Redis,
  { lua, sha }: Script,
  keys: string[],
  args: (string | number)[],
): Promise<unknown> {
  try {
    return await client.evalsha(sha, keys.length, ...keys, ...args);
  } catch (error) {
    if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
    return client.eval(lua, keys.length, ...keys, ...args);
  }
}

/**
 * KEYS idempotency, known; ARGV value, value that may be replaced, seconds to live.
 * The value that holds the key now, or 'unknown' when Redis may have forgotten keys.
 */
export const reserve = script(`
if redis.call('EXISTS', KEYS[2]) == 0 then return 'unknown' end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return ARGV[1]
`);

/**
 * KEYS job, open, owner, events, idempotency; ARGV id, time in ms, channel, event, value of the idempotency key or '',
 * its seconds to live, then field, value, … of the hash.
 * 'created', 'exists', or 'taken' when another request holds the idempotency key.
 */
export const create = script(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
if ARGV[5] ~= '' then
  local holder = redis.call('GET', KEYS[5])
  if holder and holder ~= ARGV[5] then return 'taken' end
  redis.call('SET', KEYS[5], ARGV[5], 'EX', ARGV[6])
end
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
if not isFinal(redis.call('HGET', KEYS[1], 'status')) then redis.call('SADD', KEYS[2], ARGV[1]) end
tell(KEYS[4], ARGV[3], ARGV[1], ARGV[4])
return 'created'
`);

/**
 * KEYS job; ARGV queue entry, seconds now, attempt on disk, losses allowed.
 * {'ok' or 'poison', attempt, highest step told before} or {'missing' | 'final' | 'paused' | 'stale'}.
 */
export const claim = script(`
local state = redis.call('HMGET', KEYS[1], 'status', 'entry', 'attempt', 'eventStep')
if not state[1] then return {'missing'} end
if isFinal(state[1]) then return {'final'} end
if state[1] == 'paused' then return {'paused'} end
if state[2] ~= ARGV[1] then return {'stale'} end
local verdict = 'ok'
if state[1] == 'running' and charge(KEYS[1], 'losses') >= tonumber(ARGV[4]) then verdict = 'poison' end
local attempt = math.max(tonumber(state[3]), tonumber(ARGV[3])) + 1
redis.call('HSET', KEYS[1], 'attempt', attempt, 'status', 'running')
redis.call('HSETNX', KEYS[1], 'startedAt', ARGV[2])
return {verdict, attempt, tonumber(state[4] or '-1')}
`);

/** KEYS job; ARGV attempt, progress, step. The status ('paused' asks the worker to stop) or why it was refused. */
export const progress = script(`
local verdict, status = fence(KEYS[1], ARGV[1])
if verdict ~= 'ok' then return verdict end
local step = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'progress', ARGV[2])
if step > tonumber(redis.call('HGET', KEYS[1], 'topStep') or '0') then redis.call('HSET', KEYS[1], 'topStep', step) end
if status == 'queued' then redis.call('HSET', KEYS[1], 'status', 'running') end
return status
`);

/** KEYS job; ARGV attempt. The status, or why a write of this attempt would be refused. */
export const check = script(`
local verdict, status = fence(KEYS[1], ARGV[1])
return status or verdict
`);

/** KEYS job, events; ARGV attempt ('' from the API), channel, id, event, its step or ''. 'ok' or why it was refused. */
export const event = script(`
if ARGV[1] ~= '' then
  local verdict = fence(KEYS[1], ARGV[1])
  if verdict ~= 'ok' then return verdict end
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'eventStep', ARGV[5]) end
tell(KEYS[2], ARGV[2], ARGV[3], ARGV[4])
return 'ok'
`);

/** KEYS job, checkpoints; ARGV attempt, model, checkpoint or '' to remove it. 'ok' or why it was refused. */
export const checkpoint = script(`
local verdict = fence(KEYS[1], ARGV[1])
if verdict ~= 'ok' then return verdict end
if ARGV[3] == '' then redis.call('HDEL', KEYS[2], ARGV[2]) else redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) end
return 'ok'
`);

/**
 * An attempt stops without an end; after a crash the job shares no child. KEYS job; ARGV attempt, 'hand-back' or 'crash', crashes allowed.
 * 'queued', 'paused', 'poison', or why it was refused.
 */
export const release = script(`
local verdict, status = fence(KEYS[1], ARGV[1])
if verdict ~= 'ok' then return verdict end
if ARGV[2] == 'crash' then redis.call('HSET', KEYS[1], 'alone', 1) end
if status == 'paused' then return status end
if ARGV[2] == 'crash' and charge(KEYS[1], 'crashes') >= tonumber(ARGV[3]) then return 'poison' end
redis.call('HSET', KEYS[1], 'status', 'queued')
return 'queued'
`);

/**
 * Tells Redis the end that is on disk. KEYS job, open, events; ARGV id, channel, event, then field, value, ….
 * 'ok', 'final' when it was told before, 'missing'.
 */
export const finish = script(`
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
if isFinal(status) then return 'final' end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('SREM', KEYS[2], ARGV[1])
tell(KEYS[3], ARGV[2], ARGV[1], ARGV[3])
return 'ok'
`);

/** KEYS job, events; ARGV id, channel, event. The status before. */
export const pause = script(`
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'queued' or status == 'running' then
  redis.call('HSET', KEYS[1], 'status', 'paused')
  tell(KEYS[2], ARGV[2], ARGV[1], ARGV[3])
end
return status or 'missing'
`);

/**
 * A new queue entry takes the place of the one before. KEYS job, events; ARGV id, channel, event,
 * 'paused' or 'lost', entry before, entry, ms now. 'made' or the status that forbids it.
 */
export const requeue = script(`
local state = redis.call('HMGET', KEYS[1], 'status', 'entry')
if not state[1] then return 'missing' end
local wanted = state[1] == 'paused'
if ARGV[4] == 'lost' then wanted = (state[1] == 'queued' or state[1] == 'running') and state[2] == ARGV[5] end
if not wanted then return state[1] end
redis.call('HSET', KEYS[1], 'status', 'queued', 'entry', ARGV[6], 'queuedAt', ARGV[7])
tell(KEYS[2], ARGV[2], ARGV[1], ARGV[3])
return 'made'
`);

/** KEYS mark of this reconciliation, known. 'ok', or 'lost' when Redis has lost the mark and whatever else. */
export const confirm = script(`
if redis.call('DEL', KEYS[1]) == 0 then return 'lost' end
redis.call('SET', KEYS[2], 1)
return 'ok'
`);
