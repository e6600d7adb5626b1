import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Authenticate } from '../auth/authenticator.ts';
import type { Decision, Principal } from '../auth/decision.ts';
import { encodeHeaderValue } from '../auth/header-value.ts';
import { challengeOf, scopeChallengeOf, tokenErrorOf } from '../auth/challenge.ts';
import type { CompilePolicy, Policy } from '../auth/policy.ts';
import type { Logger } from '../log.ts';
import { logDenial } from './log-denial.ts';
import { readGatewayHeaders } from './request-headers.ts';

export interface DecisionListenerOptions {
  readonly authenticate: Authenticate;
  readonly compilePolicy: CompilePolicy;
  readonly log: Logger;
}

/**
 * The answer to nginx's `auth_request`: 204 with the identity, or 401, 403, 503 with a reason; never a body, which
 * would cost nginx the connection. It knows one path and no exemptions.
 */
export function createDecisionHandler({ authenticate, compilePolicy, log }: DecisionListenerOptions): RequestListener {
  function decide(request: IncomingMessage, response: ServerResponse): void | Promise<void> {
    const { policy: source, authorization, requestId } = readGatewayHeaders(request.rawHeaders);
    const policy = compilePolicy(source);
    const decision = authenticate(policy, authorization);
    if (!(decision instanceof Promise)) {
      answerDecision(response, decision, policy, requestId, log);
      return;
    }
    return decision.then((settled) => {
      answerDecision(response, settled, policy, requestId, log);
    });
  }

  /** A fault of ours is no decision. */
  function fail(response: ServerResponse, error: unknown): void {
    log.error({ err: error }, 'the decision failed');
    answer(response, 503, []);
  }

  return (request, response) => {
    response.sendDate = false;
    if (request.url !== '/decision') {
      answer(response, 404, []);
      return;
    }
    try {
      decide(request, response)?.catch((error: unknown) => {
        fail(response, error);
      });
    } catch (error) {
      fail(response, error);
    }
  };
}

function answerDecision(
  response: ServerResponse,
  decision: Decision,
  policy: Policy,
  requestId: string,
  log: Logger,
): void {
  if (decision.outcome === 'granted') {
    answer(response, 204, grantedHeaders(decision.principal));
    return;
  }
  logDenial(decision, requestId, log);
  const { outcome, reason } = decision;
  switch (outcome) {
    case 'unauthenticated': {
      const error = tokenErrorOf(reason);
      answer(response, 401, [
        ...['X-Auth-Reason', reason, 'WWW-Authenticate', challengeOf(policy, reason)],
        ...(error === undefined ? [] : ['X-jwt-error', error]),
      ]);
      return;
    }
    case 'forbidden': {
      const challenge = scopeChallengeOf(policy, reason);
      const challengeHeader = challenge === undefined ? [] : ['WWW-Authenticate', challenge];
      answer(response, 403, ['X-Auth-Reason', reason, ...challengeHeader]);
      return;
    }
    case 'unavailable':
      answer(response, 503, ['X-Auth-Reason', reason, 'Retry-After', '1']);
  }
}

/** Made once for each principal: the same object comes with every request of that client. */
const grantedHeadersOf = new WeakMap<Principal, readonly string[]>();

function grantedHeaders(principal: Principal): readonly string[] {
  const known = grantedHeadersOf.get(principal);
  if (known) return known;
  const headers = [
    // the marker without which nginx lets nothing through: a 2xx from anybody else does not have it
    'X-Auth-Decision',
    'granted',
    'X-Client-Id',
    encodeHeaderValue(principal.clientId),
    'X-Client-Name',
    encodeHeaderValue(principal.clientName),
    'X-Auth-Method',
    principal.method,
  ];
  grantedHeadersOf.set(principal, headers);
  return headers;
}

function answer(response: ServerResponse, status: number, headers: readonly string[]): void {
  const length = status === 204 ? [] : ['Content-Length', '0'];
  response.writeHead(status, [...headers, 'Cache-Control', 'no-store', ...length]);
  response.end();
}
