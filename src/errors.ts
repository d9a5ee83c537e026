/**
 * Every failure a user can meet, in one table: HTTP status, OpenAI error type, and whether the queue may try again.
 * One place (src/api/errors.ts) turns a failure into a response; one place (workers) turns it into a failed job.
 */
export const failures = {
  invalid_request: { status: 400, type: 'invalid_request_error', retryable: false },
  invalid_json: { status: 400, type: 'invalid_request_error', retryable: false },
  invalid_data: { status: 400, type: 'invalid_request_error', retryable: false },
  empty_file: { status: 400, type: 'invalid_request_error', retryable: false },
  invalid_template: { status: 400, type: 'invalid_request_error', retryable: false },
  template_too_long: { status: 400, type: 'invalid_request_error', retryable: false },
  target_not_one_token: { status: 400, type: 'invalid_request_error', retryable: false },
  verbalizer_conflict: { status: 400, type: 'invalid_request_error', retryable: false },
  unknown_label: { status: 400, type: 'invalid_request_error', retryable: false },
  wrong_model_kind: { status: 400, type: 'invalid_request_error', retryable: false },
  model_mismatch: { status: 409, type: 'invalid_request_error', retryable: false },
  unauthorized: { status: 401, type: 'authentication_error', retryable: false },
  not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  file_not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  model_not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  job_not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  conflict: { status: 409, type: 'invalid_request_error', retryable: false },
  payload_too_large: { status: 413, type: 'invalid_request_error', retryable: false },
  unsupported_media_type: { status: 415, type: 'invalid_request_error', retryable: false },
  rate_limited: { status: 429, type: 'rate_limit_error', retryable: true },
  overloaded: { status: 503, type: 'server_error', retryable: true },
  queue_unavailable: { status: 503, type: 'server_error', retryable: true },
  inference_unavailable: { status: 503, type: 'server_error', retryable: true },
  storage_unavailable: { status: 503, type: 'server_error', retryable: true },
  import_refused: { status: 400, type: 'invalid_request_error', retryable: false },
  unsupported_op: { status: 400, type: 'invalid_request_error', retryable: false },
  damaged_model: { status: 400, type: 'invalid_request_error', retryable: false },
  missing_file: { status: 400, type: 'invalid_request_error', retryable: false },
  damaged_artifact: { status: 500, type: 'server_error', retryable: false },
  loss_not_finite: { status: 500, type: 'server_error', retryable: false },
  out_of_memory: { status: 500, type: 'server_error', retryable: false },
  worker_crashed: { status: 500, type: 'server_error', retryable: true },
  internal: { status: 500, type: 'server_error', retryable: false },
} as const satisfies Record<string, { status: number; type: string; retryable: boolean }>;

export type FailureCode = keyof typeof failures;

/** A failure meant for the user: `message` says what was found and what is accepted, `param` names the field. */
export class PtunedError extends Error {
  readonly code: FailureCode;
  readonly param: string | null;
  readonly details: Record<string, unknown>;

  constructor(
    code: FailureCode,
    message: string,
    options: { param?: string; details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'PtunedError';
    this.code = code;
    this.param = options.param ?? null;
    this.details = options.details ?? {};
  }
}

/** The form in which a failure crosses a process boundary (worker child to worker, worker to job record). */
export interface FailureRecord {
  code: FailureCode;
  message: string;
  param: string | null;
  details?: Record<string, unknown>;
}

/** Reduces any thrown value to a record; what is not a PtunedError becomes `internal` with its message. */
export function toFailureRecord(error: unknown): FailureRecord {
  if (error instanceof PtunedError) {
    return { code: error.code, message: error.message, param: error.param, details: error.details };
  }
  return { code: 'internal', message: error instanceof Error ? error.message : String(error), param: null };
}

/** The inverse of {@link toFailureRecord}. */
export function fromFailureRecord(record: FailureRecord): PtunedError {
  return new PtunedError(record.code, record.message, {
    ...(record.param === null ? {} : { param: record.param }),
    ...(record.details === undefined ? {} : { details: record.details }),
  });
}
