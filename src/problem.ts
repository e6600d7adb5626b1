import { STATUS_CODES } from 'node:http';

/** One fault in a request: where (an RFC 6901 JSON Pointer into the body, or a parameter's name) and what. */
export type FieldError =
  { readonly pointer: string; readonly detail: string } | { readonly parameter: string; readonly detail: string };

interface ProblemOptions {
  readonly errors?: readonly FieldError[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
  /** The reason for logs, where the caller is told less. */
  readonly loggedReason?: string;
}

/**
 * A refusal that the caller may read, as RFC 9457 `application/problem+json`. Only `detail` and `errors` are public
 * text; `cause` goes to the log.
 */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly status: number;
  /** Stable, machine-readable code. */
  readonly reason: string;
  readonly loggedReason: string;
  readonly errors: readonly FieldError[];
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    reason: string,
    detail: string,
    { errors = [], headers = {}, cause, loggedReason = reason }: ProblemOptions = {},
  ) {
    super(detail, cause === undefined ? {} : { cause });
    this.status = status;
    this.reason = reason;
    this.loggedReason = loggedReason;
    this.errors = errors;
    this.headers = headers;
  }
}

/**
 * The `type` of a problem: the page that says what its reason means, on the same host (RFC 9457 3.1.1: a relative
 * reference with the full path).
 */
export function typeOf(reason: string): string {
  return `/v1/management/problems${reason && `/${reason}`}`;
}

// RFC 9110's, as nginx has them in problems.conf; Node's are older
const titles: Readonly<Record<number, string | undefined>> = {
  ...STATUS_CODES,
  413: 'Content Too Large',
  422: 'Unprocessable Content',
};

/** The JSON body of a problem. */
export function presentProblem({ status, reason, message, errors }: Problem, requestId: string): object {
  return {
    type: typeOf(reason),
    title: titles[status] ?? 'Error',
    status,
    reason,
    detail: message,
    ...(errors.length > 0 && { errors }),
    request_id: requestId,
  };
}
