import { randomUUID } from 'node:crypto';
import Router, { type RouterContext } from '@koa/router';
import Koa, { type Middleware, type Next, type ParameterizedContext } from 'koa';
import type { Authenticate } from '../auth/authenticator.ts';
import { denialDetails, publicReasons, type Principal } from '../auth/decision.ts';
import { challengeOf, scopeChallengeOf, tokenErrorOf } from '../auth/challenge.ts';
import type { CompilePolicy, Policy } from '../auth/policy.ts';
import type { Actor } from '../clients/api-client.ts';
import type { ApiClients } from '../clients/api-clients.ts';
import type { ApiKeys } from '../clients/api-keys.ts';
import { StoreUnavailable, type ClientStore } from '../clients/client-store.ts';
import { redact, type Logger } from '../log.ts';
import { presentProblem, Problem } from '../problem.ts';
import { createApiClientRoutes } from './api-client-routes.ts';
import { createIntrospectionRoute, createLeakRoute } from './credential-routes.ts';
import { logDenial } from './log-denial.ts';
import { replacementHeaders } from './replacement-headers.ts';
import { readGatewayHeaders, readPolicy } from './request-headers.ts';

export interface ManagementState {
  requestId: string;
  /** Empty when it is not known. */
  clientAddress: string;
  principal?: Principal;
  actor: Actor;
  /** By the policy that this request came with. */
  areTokensAccepted: boolean;
  isProbe?: boolean;
  /** Whether the change and its audit event are already stored together. */
  isAudited?: boolean;
}

type Context = ParameterizedContext<ManagementState>;

/** One named check of readiness: resolves when all is well, rejects with an error whose message may be shown. */
export type ReadinessCheck = () => Promise<void>;

/** The states of all issuers, and what is wrong with this policy, to be shown. */
export type DescribeIssuers = (policy: Policy) => object | undefined;

/** The metrics as text, or null while they are not all to be had. */
export type ReadMetrics = () => Promise<{ readonly contentType: string; readonly text: string } | null>;

/** Puts a span around a call. */
export type TraceCall = (
  call: {
    readonly method: string;
    readonly requestId: string;
    readonly traceparent: string | undefined;
    readonly tracestate: string | undefined;
  },
  handle: () => Promise<void>,
  /** What is known of it at its end; the route is that of the router, without the values of its parameters. */
  describe: () => {
    readonly status: number;
    readonly route: string | undefined;
    readonly clientId: string | undefined;
  },
) => Promise<void>;

export interface ManagementAppOptions {
  readonly authenticate: Authenticate;
  /** The same, but leaves no trace of a use. */
  readonly examine: Authenticate;
  /** Whether the caller's address is what `X-Client-Address` says, because nobody but nginx can write it. */
  readonly isBehindNginx: boolean;
  readonly compilePolicy: CompilePolicy;
  readonly clients: ApiClients;
  readonly keys: ApiKeys;
  readonly store: Pick<ClientStore, 'recordEvent'>;
  readonly readinessChecks: Readonly<Record<string, ReadinessCheck>>;
  readonly describeIssuers: DescribeIssuers;
  readonly readMetrics: ReadMetrics;
  readonly traceCall?: TraceCall | undefined;
  readonly now: () => number;
  readonly log: Logger;
}

/**
 * The management listener: health, metrics, and the management API for administrators. It authenticates by itself and believes
 * no identity header, so it is as safe without nginx in front as with it.
 */
export function createManagementApp(options: ManagementAppOptions): Koa<ManagementState> {
  const { authenticate, examine, isBehindNginx, compilePolicy, clients, keys, store } = options;
  const { readinessChecks, describeIssuers, readMetrics, traceCall, now, log } = options;
  const policyOf = (rawHeaders: readonly string[]) =>
    compilePolicy(readPolicy(readGatewayHeaders(rawHeaders).policyLines));
  const app = new Koa<ManagementState>();
  app.on('error', (error: Error) => {
    log.debug({ err: error }, 'a management connection broke');
  });

  const health = new Router<ManagementState>();
  health.get('/livez', live);
  health.get(
    '/readyz',
    ready(readinessChecks, (rawHeaders) => describeIssuers(policyOf(rawHeaders))),
  );

  health.get('/metrics', metrics(readMetrics));

  const leaks = createLeakRoute(keys, log);
  const introspection = createIntrospectionRoute({ authenticate: examine, clients, policyOf, now });
  const api = createApiClientRoutes({ clients, keys, now });

  app.use(identifyRequest(isBehindNginx));
  if (traceCall) app.use(traceCalls(traceCall));
  app.use(answerProblems(log));
  app.use(health.routes());
  app.use(leaks.routes());
  app.use(authenticateCaller(authenticate, policyOf, log));
  app.use(audit(store, now, log));
  app.use(requireAdmin);
  app.use(refuseUnknown);
  app.use(introspection.allowedMethods());
  app.use(introspection.routes());
  app.use(api.allowedMethods());
  app.use(api.routes());
  return app;
}

function identifyRequest(isBehindNginx: boolean): Middleware<ManagementState> {
  return async (context, next) => {
    const { requestId, clientAddress } = readGatewayHeaders(context.req.rawHeaders);
    context.state.requestId = requestId || randomUUID();
    context.state.clientAddress = isBehindNginx ? clientAddress : (context.req.socket.remoteAddress ?? '');
    context.set('X-Request-Id', context.state.requestId);
    context.set('Cache-Control', 'no-store');
    await next();
  };
}

/** Probes come every few seconds, and are none of the API's calls. */
function traceCalls(trace: TraceCall): Middleware<ManagementState, Pick<RouterContext, '_matchedRoute'>> {
  return (context, next) => {
    if (!context.path.startsWith('/v1/management')) return next();
    const { method, state } = context;
    const headers = { traceparent: context.get('traceparent'), tracestate: context.get('tracestate') };
    return trace({ method, requestId: state.requestId, ...headers }, next, () => {
      const { status, _matchedRoute: route } = context;
      return {
        status,
        route: typeof route === 'string' ? route : undefined,
        clientId: state.principal?.clientId,
      };
    });
  };
}

/** The one place where an error becomes an answer. */
function answerProblems(log: Logger): Middleware<ManagementState> {
  return async (context, next) => {
    try {
      await next();
    } catch (error) {
      const problem = toProblem(error);
      context.status = problem.status;
      context.set({ ...problem.headers, 'X-Auth-Reason': problem.loggedReason });
      context.body = JSON.stringify(presentProblem(problem, context.state.requestId));
      context.type = 'application/problem+json';
      if (problem.status >= 500)
        log.error({ err: error, request_id: context.state.requestId }, 'management call failed');
      // what is left of a refused body is not read
      if (!context.req.complete) context.set('Connection', 'close');
    }
    // probes come every few seconds
    if (context.state.isProbe) return;
    log.info(
      {
        method: context.method,
        path: context.path,
        status: context.status,
        client_id: context.state.principal?.id,
        request_id: context.state.requestId,
      },
      'management call',
    );
  };
}

function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof StoreUnavailable) {
    return new Problem(503, 'store_unavailable', 'The database does not answer at the moment; nothing was changed.', {
      headers: { 'Retry-After': '1' },
    });
  }
  return new Problem(500, 'internal_error', 'The request could not be completed.');
}

const live: Middleware<ManagementState> = (context) => {
  context.state.isProbe = true;
  context.body = { status: 'alive' };
};

function ready(
  checks: Readonly<Record<string, ReadinessCheck>>,
  describe: (rawHeaders: readonly string[]) => object | undefined,
): Middleware<ManagementState> {
  return async (context) => {
    const results = await Promise.all(
      Object.entries(checks).map(async ([name, check]) => {
        try {
          await check();
          return [name, 'ok'] as const;
        } catch (error) {
          return [name, (error as Error).message] as const;
        }
      }),
    );
    context.state.isProbe = true;
    const isReady = results.every(([, result]) => result === 'ok');
    context.status = isReady ? 200 : 503;
    const openIdConnect = describe(context.req.rawHeaders);
    context.body = {
      status: isReady ? 'ready' : 'not ready',
      checks: Object.fromEntries(results),
      ...(openIdConnect && { open_id_connect: openIdConnect }),
    };
  };
}

/** For whoever reaches this listener; nginx has no location that leads here. */
function metrics(read: ReadMetrics): Middleware<ManagementState> {
  return async (context) => {
    context.state.isProbe = true;
    const all = await read();
    if (!all) throw new Problem(503, 'metrics_incomplete', 'A worker has not said its numbers in time.');
    context.body = all.text;
    context.set('Content-Type', all.contentType);
  };
}

function authenticateCaller(
  authenticate: Authenticate,
  policyOf: (rawHeaders: readonly string[]) => Policy,
  log: Logger,
): Middleware<ManagementState> {
  return async (context, next) => {
    const policy = policyOf(context.req.rawHeaders);
    const { authorization } = readGatewayHeaders(context.req.rawHeaders);
    const decision = await authenticate(policy, { authorization, clientAddress: context.state.clientAddress });
    if (decision.outcome === 'granted') {
      const { principal } = decision;
      context.state.principal = principal;
      context.state.areTokensAccepted = policy.tokens !== undefined;
      context.state.actor = { clientId: principal.id, requestId: context.state.requestId };
      // for nginx's access log; nginx hides them from the caller
      context.set({
        'X-Client-Id': principal.clientId,
        'X-Client-Name': principal.clientName,
        'X-Auth-Method': principal.method,
        ...replacementHeaders(decision),
      });
      await next();
      return;
    }
    logDenial(decision, context.state.requestId, log);
    const { reason } = decision;
    const detail = denialDetails[reason];
    const hidden = publicReasons[reason];
    const [shown, logged] = hidden === undefined ? [reason, {}] : [hidden, { loggedReason: reason }];
    switch (decision.outcome) {
      case 'unauthenticated': {
        const error = tokenErrorOf(reason);
        throw new Problem(401, shown, detail, {
          ...logged,
          headers: {
            'WWW-Authenticate': challengeOf(policy, reason),
            ...(error !== undefined && { 'X-jwt-error': error }),
          },
        });
      }
      case 'forbidden': {
        const challenge = scopeChallengeOf(policy, reason);
        throw new Problem(403, shown, detail, {
          ...logged,
          headers: {
            ...(challenge !== undefined && { 'WWW-Authenticate': challenge }),
            ...(decision.lifetime && replacementHeaders(decision.lifetime)),
          },
        });
      }
      case 'unavailable':
        throw new Problem(503, reason, detail, { headers: { 'Retry-After': '1' }, cause: decision.cause });
    }
  };
}

async function requireAdmin(context: Context, next: Next): Promise<void> {
  if (!context.state.principal?.isAdmin) {
    throw new Problem(403, 'admin_required', 'Only an API client with is_admin may use the management API.');
  }
  await next();
}

/** Calls that stored no change leave an event of their own, refused ones with the reason. */
function audit(store: Pick<ClientStore, 'recordEvent'>, now: () => number, log: Logger): Middleware<ManagementState> {
  return async (context, next) => {
    let outcome = 'done';
    try {
      await next();
    } catch (error) {
      outcome = toProblem(error).loggedReason;
      throw error;
    } finally {
      if (!context.state.isAudited) {
        const { actor, requestId } = context.state;
        const details = { method: context.method, path: redact(context.path).slice(0, 256) };
        await store
          .recordEvent({ at: now(), actor, action: 'management.call', clientId: null, outcome, details })
          .catch((error: unknown) => {
            log.error({ err: error, request_id: requestId }, 'the audit event could not be stored');
          });
      }
    }
  };
}

/** The router leaves a status without a body, and for a method that it does not know the `Allow` header. */
async function refuseUnknown(context: Context, next: Next): Promise<void> {
  await next();
  if (context.status === 405 || context.status === 501) {
    const allow = context.response.get('Allow');
    throw new Problem(405, 'method_not_allowed', `The method is not allowed at this path; allowed: ${allow}.`);
  }
  if (context.status === 404) throw new Problem(404, 'not_found', 'There is nothing at this path.');
}
