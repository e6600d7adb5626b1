import { LRUCache } from 'lru-cache';
import type { Authenticate } from '../auth/authenticator.ts';
import type { Decision, Granted } from '../auth/decision.ts';
import { detached } from '../auth/detached.ts';
import { challengeOf, scopeChallengeOf, tokenErrorOf } from '../auth/challenge.ts';
import type { CompilePolicy, Policy } from '../auth/policy.ts';
import type { Logger } from '../log.ts';
import type { ReportDenial } from './report-denial.ts';
import type { AnswerDecision } from './decision-server.ts';
import { createGrantLog } from './log-granted.ts';
import { replacementHeaders } from './replacement-headers.ts';
import type { RequestHead } from './request-head.ts';
import { readPolicy } from './request-headers.ts';

export interface DecisionListenerOptions {
  readonly authenticate: Authenticate;
  readonly compilePolicy: CompilePolicy;
  readonly log: Logger;
  readonly reportDenial: ReportDenial;
  /** Every so many grants one is logged; 0 for none. */
  readonly logGrantedEvery?: number;
  /** Until when nginx may keep a grant, in seconds since the epoch; 0 for not at all. Called when nginx could keep it. */
  readonly cacheUntil?: (granted: Granted) => number;
}

/**
 * The answer to nginx's `auth_request`: 204 with the identity, or 401, 403, 503 with a reason; never a body, which
 * would cost nginx the connection. It knows one path and no exemptions.
 */
export function createDecisionHandler(options: DecisionListenerOptions): AnswerDecision {
  const { authenticate, compilePolicy, log, reportDenial, logGrantedEvery = 0, cacheUntil = () => 0 } = options;
  const findPolicy = rememberPolicies(compilePolicy);
  const logGranted = createGrantLog(logGrantedEvery, log);

  function answerTo(decision: Decision, policy: Policy, request: RequestHead): string {
    if (decision.outcome === 'granted') logGranted(decision, request.requestId);
    else reportDenial(decision, policy, request);
    const text = answer(decision, policy);
    // in the tick of the answer: a change that comes later withdraws what is promised here
    return request.hasCache ? text.replace('\r\n', `\r\nX-Accel-Expires: ${expiryOf(decision)}\r\n`) : text;
  }

  /** A point in time, not a span: an answer that nginx reads late is not kept for longer. */
  function expiryOf(decision: Decision): string {
    const until = decision.outcome === 'granted' && decision.isReusable ? cacheUntil(decision) : 0;
    return until === 0 ? '0' : `@${until}`;
  }

  /** A fault of ours is no decision. */
  function fail(error: unknown): string {
    log.error({ err: error }, 'the decision failed');
    return message('503 Service Unavailable', []);
  }

  return (request) => {
    if (request.target !== '/decision') return message('404 Not Found', []);
    try {
      const policy = findPolicy(request.policyLines);
      const decision = authenticate(policy, request);
      if (!(decision instanceof Promise)) return answerTo(decision, policy, request);
      return decision.then((settled) => answerTo(settled, policy, request)).catch(fail);
    } catch (error) {
      return fail(error);
    }
  };
}

/** Nearly every request comes with the lines of the one before it; comparing is cheaper than looking up. */
function rememberPolicies(compilePolicy: CompilePolicy): (policyLines: string) => Policy {
  const known = new LRUCache<string, Policy>({ max: 256 });
  let lastLines: string | undefined;
  let lastPolicy: Policy | undefined;
  return (policyLines) => {
    if (lastPolicy && policyLines === lastLines) return lastPolicy;
    let policy = known.get(policyLines);
    if (!policy) {
      policy = compilePolicy(readPolicy(policyLines));
      known.set(detached(policyLines), policy);
    }
    lastLines = policyLines;
    lastPolicy = policy;
    return policy;
  };
}

function answer(decision: Decision, policy: Policy): string {
  if (decision.outcome === 'granted') return grantedMessage(decision);
  const { outcome, reason } = decision;
  switch (outcome) {
    case 'unauthenticated': {
      const error = tokenErrorOf(reason);
      return message('401 Unauthorized', [
        ...['X-Auth-Reason', reason, 'WWW-Authenticate', challengeOf(policy, reason)],
        ...(error === undefined ? [] : ['X-jwt-error', error]),
      ]);
    }
    case 'forbidden': {
      const challenge = scopeChallengeOf(policy, reason);
      const { limitState, retryAfter, lifetime } = decision;
      return message('403 Forbidden', [
        ...['X-Auth-Reason', reason],
        ...(challenge === undefined ? [] : ['WWW-Authenticate', challenge]),
        ...(retryAfter === undefined ? [] : ['Retry-After', String(retryAfter)]),
        ...(lifetime ? Object.entries(replacementHeaders(lifetime)).flat() : []),
        ...(limitState ? ['RateLimit-Policy', limitState.policy, 'RateLimit', limitState.state] : []),
      ]);
    }
    case 'unavailable':
      return message('503 Service Unavailable', ['X-Auth-Reason', reason, 'Retry-After', '1']);
  }
}

// the marker without which nginx lets nothing through: a 2xx from anybody else does not have it
const granted = 'HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\nX-Auth-Decision: granted\r\n';

function grantedMessage(decision: Granted): string {
  const { principal, replacedAt, limitState } = decision;
  const { clientId, clientName, method } = principal;
  const identity = `X-Client-Id: ${clientId}\r\nX-Client-Name: ${clientName}\r\nX-Auth-Method: ${method}\r\n`;
  if (replacedAt === null && !limitState) return `${granted}${identity}\r\n`;
  let more = '';
  for (const [name, value] of Object.entries(replacementHeaders(decision))) more += `${name}: ${value}\r\n`;
  if (limitState) more += `RateLimit-Policy: ${limitState.policy}\r\nRateLimit: ${limitState.state}\r\n`;
  return `${granted}${identity}${more}\r\n`;
}

/**
 * The whole HTTP message of a refusal, without a body.
 *
 * @throws {Error} when a value would end its line, or is not ASCII
 */
function message(status: string, headers: readonly string[]): string {
  let text = `HTTP/1.1 ${status}\r\nCache-Control: no-store\r\nContent-Length: 0\r\n`;
  for (let index = 0; index < headers.length; index += 2) {
    const value = headers[index + 1] ?? '';
    if (!/^[\x20-\x7e]*$/.test(value)) throw new Error(`The value of ${headers[index] ?? ''} cannot be sent.`);
    text += `${headers[index] ?? ''}: ${value}\r\n`;
  }
  return `${text}\r\n`;
}
