import { typeOf } from '../../problem.ts';
import { isReason } from '../../reasons.ts';
import type { Answer, Exchange } from './raw.ts';

export type Result = 'ok' | 'warning' | 'wrong' | 'not checked';

export interface Verdict {
  readonly result: Result;
  /** What was seen, in a few words. */
  readonly seen: string;
  readonly remedy?: string;
}

/**
 * What has to come back.
 *
 * - refusal: a page of the gateway, or of nginx for it
 * - malformed: that, or whatever an HTTP parser does with a request that is none: a bare 4xx, or the end of the connection
 * - uncredentialed: a refusal that has seen no credential, because it stood where none is looked for
 * - hidden: a refusal that says that there is nothing, or that it needs a credential
 * - health: a refusal, or the gateway's own public health
 */
export type Expectation = 'refusal' | 'malformed' | 'uncredentialed' | 'hidden' | 'health';

/** What one attempt came to. */
export interface Finding extends Verdict {
  /** The row of the table. */
  readonly check: string;
  /** What is special about the attempt. */
  readonly what: string;
}

export const remedies = {
  letIn: 'It is let in without a credential: does its location ask the gateway? apigw check-config, docs/protect.md',
  elsewhere: 'Something else than the gateway has answered, so nobody asked for a credential',
  continued: 'The body is asked for before it is decided whether it may be sent',
  taken: 'A credential is taken from where it ends up in logs, or is sent by browsers on their own',
  down: 'Try again when it answers',
} as const;

/** Reasons of refusals that say nothing about this request. */
const undecided = ['gateway_unavailable', 'store_unavailable', 'issuer_unavailable', 'policy_invalid', 'rate_limited'];
/** An application that does not answer was asked. */
const forwarded = ['application_unavailable', 'application_timeout'];
/** What an HTTP parser says to what is no request. */
const parserStatuses = [400, 405, 408, 413, 414, 417, 421, 426, 431, 501, 505];
/** Headers between nginx and the gateway. */
const internalHeaders = ['x-auth-decision', 'x-auth-reason', 'x-auth-method', 'x-decision-cache'];

/** The reason of a refusal that is the gateway's, or nginx's for it; undefined for every other answer. */
export function reasonOf({ status, headers, body }: Answer, isHead = false): string | undefined {
  if (status !== 0 && status < 400) return undefined;
  const isProblem = headers['content-type']?.startsWith('application/problem+json') === true;
  if (isHead) return isProblem && headers['x-request-id'] !== undefined ? '' : undefined;
  if (status !== 0 && !isProblem) return undefined;
  const problem = parse(body);
  const { type, reason, request_id: requestId } = problem;
  if (typeof reason !== 'string' || type !== typeOf(reason) || typeof requestId !== 'string') return undefined;
  const isOurs = isReason(reason) && (status === 0 || headers['x-request-id'] === requestId);
  return isOurs ? reason : undefined;
}

function parse(body: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(body);
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Of all that came back to one attempt; the worst of it counts. */
export function judge(exchange: Exchange, expect: Expectation = 'refusal', isHead = false): Verdict {
  const { answers, hasContinued, failure, isRefused } = exchange;
  if (hasContinued) return { result: 'wrong', seen: '100 Continue', remedy: remedies.continued };
  if (answers.length === 0) {
    if (expect === 'malformed' && isRefused) return { result: 'ok', seen: 'the connection is closed' };
    return { result: 'not checked', seen: failure ?? 'no answer', remedy: remedies.down };
  }
  return worst(answers.map((answer) => judgeAnswer(answer, expect, isHead)));
}

const order: readonly Result[] = ['wrong', 'not checked', 'warning', 'ok'];

export function worst(verdicts: readonly Verdict[]): Verdict {
  const none: Verdict = { result: 'not checked', seen: 'nothing' };
  return [...verdicts].sort((one, other) => order.indexOf(one.result) - order.indexOf(other.result))[0] ?? none;
}

export function judgeAnswer(answer: Answer, expect: Expectation, isHead = false): Verdict {
  const leaked = internalHeaders.find((name) => answer.headers[name] !== undefined);
  if (leaked !== undefined)
    return {
      result: 'wrong',
      seen: `${answer.status} with ${leaked}`,
      remedy: "This is the gateway's answer to nginx: its location must be internal",
    };
  const reason = reasonOf(answer, isHead);
  return reason === undefined ? judgeForeign(answer, expect) : judgeRefusal(answer.status, reason, expect);
}

function judgeRefusal(status: number, reason: string, expect: Expectation): Verdict {
  const seen = `${status === 0 ? '' : `${status} `}${reason}`.trim();
  if (forwarded.includes(reason))
    return { result: 'wrong', seen, remedy: `${remedies.letIn}. The application does not answer` };
  if (reason === 'not_granted')
    return {
      result: 'warning',
      seen,
      remedy: 'Nobody has asked the gateway, and only $if_granted kept it out: what does auth_request name there?',
    };
  if (undecided.includes(reason)) return { result: 'not checked', seen, remedy: remedies.down };
  const isBlind =
    ['no_credential', 'authentication_disabled', ''].includes(reason) ||
    status === 400 ||
    status === 404 ||
    status === 405;
  if (expect === 'uncredentialed' && !isBlind) return { result: 'wrong', seen, remedy: remedies.taken };
  if (expect === 'hidden' && status !== 404 && status !== 401 && status !== 400)
    return { result: 'wrong', seen, remedy: 'There is something at this path' };
  return { result: 'ok', seen };
}

function judgeForeign({ status, headers, body }: Answer, expect: Expectation): Verdict {
  if (expect === 'health' && status === 200 && /^\{"status":"(?:alive|ready)"/.test(body) && headers['x-request-id'])
    return { result: 'ok', seen: 'health' };
  const seen = status === 0 ? 'an answer without a status' : String(status);
  if (status >= 400) {
    // what has a request id and is no page of nginx has come through it, from the application
    const isBare = headers['x-request-id'] === undefined || /<center>nginx\b/.test(body);
    const isParser = parserStatuses.includes(status) && isBare;
    if (expect === 'malformed' && isParser) return { result: 'ok', seen: `${seen} of the HTTP parser` };
    return { result: 'wrong', seen: `${seen}, but no refusal of the gateway`, remedy: remedies.elsewhere };
  }
  return { result: 'wrong', seen, remedy: remedies.letIn };
}
