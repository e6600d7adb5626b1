import { randomUUID } from 'node:crypto';
import Router, { type RouterContext } from '@koa/router';
import Koa, { type Middleware, type Next, type ParameterizedContext } from 'koa';
import type { Authenticate } from '../auth/authenticator.ts';
import { denialDetails, publicReasons, type Principal } from '../auth/decision.ts';
import { challengeOf, scopeChallengeOf, tokenErrorOf } from '../auth/challenge.ts';
import type { CompilePolicy, Policy } from '../auth/policy.ts';
import type { Actor, AuditEvent } from '../clients/api-client.ts';
import { OutcomeUnknown, StoreUnavailable, type ClientStore } from '../clients/client-store.ts';
import type { Logger } from '../log.ts';
import { presentProblem, Problem } from '../problem.ts';
import { redact } from '../redact.ts';
import { createLeakRoute } from './credential-routes.ts';
import type { FindDenial } from './decision-routes.ts';
import { createReferenceRoute } from './document-routes.ts';
import type { ManagementCounts } from './management-counts.ts';
import { useManagementApi, type ManagementApiOptions } from './management-api.ts';
import { createProblemPages } from './problem-pages.ts';
import { createRefusalBound } from './refusal-events.ts';
import type { ReportDenial } from './report-denial.ts';
import { replacementHeaders } from './replacement-headers.ts';
import { readGatewayHeaders, readPolicy } from './request-headers.ts';

export interface ManagementState {
  requestId: string;
  /** Milliseconds on the clock of `performance`. */
  receivedAt: number;
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

/** What is to be said of the changes that other gateways make; undefined while they are followed. */
export type DescribeFeed = () => string | undefined;

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
  /** Whether the caller's address is what `X-Client-Address` says, because nobody but nginx can write it. */
  readonly isBehindNginx: boolean;
  readonly compilePolicy: CompilePolicy;
  readonly api: ManagementApiOptions;
  readonly readinessChecks: Readonly<Record<string, ReadinessCheck>>;
  readonly describeIssuers: DescribeIssuers;
  readonly describeFeed: DescribeFeed;
  readonly readMetrics: ReadMetrics;
  readonly reportDenial: ReportDenial;
  readonly traceCall?: TraceCall | undefined;
  readonly countCall: ManagementCounts['count'];
  readonly log: Logger;
}

/**
 * The management listener: health, metrics, and the management API for administrators. It authenticates by itself and believes
 * no identity header, so it is as safe without nginx in front as with it.
 */
export function createManagementApp(options: ManagementAppOptions): Koa<ManagementState> {
  const { authenticate, isBehindNginx, compilePolicy, api, reportDenial, traceCall, countCall, log } = options;
  const { readinessChecks, describeIssuers, describeFeed, readMetrics } = options;
  const policyOf = (rawHeaders: readonly string[]) =>
    compilePolicy(readPolicy(readGatewayHeaders(rawHeaders).policyLines));
  const health = new Router<ManagementState>();
  health.get('/livez', live);
  health.get(
    '/readyz',
    ready(readinessChecks, (rawHeaders) => describeIssuers(policyOf(rawHeaders)), describeFeed),
  );
  health.get('/metrics', metrics(readMetrics));
  health.get('/denials/:requestId', denial(api.findDenial));

  const app = createApp(isBehindNginx, log, countCall, traceCall);
  app.use(health.routes());
  app.use(createProblemPages().routes());
  app.use(createReferenceRoute().routes());
  app.use(createLeakRoute(api.keys, log).routes());
  app.use(authenticateCaller(authenticate, policyOf, reportDenial));
  app.use(audit(api.store, api.now, log));
  app.use(requireAdmin);
  useManagementApi(app, api, policyOf);
  return app;
}

export interface OperatorAppOptions {
  /** Who it is, for the audit trail: whoever may open the database needs no credential. */
  readonly operator: string;
  readonly api: ManagementApiOptions;
  readonly compilePolicy: CompilePolicy;
  readonly log: Logger;
}

/** The management API for the one person who runs the command line, on the same database. */
export function createOperatorApp({ operator, api, compilePolicy, log }: OperatorAppOptions): Koa<ManagementState> {
  const app = createApp(false, log, () => undefined);
  app.use(async (context, next) => {
    context.state.areTokensAccepted = false;
    context.state.clientAddress = '';
    context.state.actor = { clientId: null, requestId: context.state.requestId, name: operator };
    await next();
  });
  // changes leave their events; who reads has the file before him
  useManagementApi(app, api, (rawHeaders) => compilePolicy(readPolicy(readGatewayHeaders(rawHeaders).policyLines)));
  return app;
}

function createApp(
  isBehindNginx: boolean,
  log: Logger,
  countCall: ManagementCounts['count'],
  traceCall?: TraceCall,
): Koa<ManagementState> {
  const app = new Koa<ManagementState>();
  app.on('error', (error: Error) => {
    log.debug({ err: error }, 'a management connection broke');
  });
  app.use(identifyRequest(isBehindNginx));
  if (traceCall) app.use(traceCalls(traceCall));
  app.use(answerProblems(log, countCall));
  return app;
}

function identifyRequest(isBehindNginx: boolean): Middleware<ManagementState> {
  return async (context, next) => {
    const { requestId, clientAddress } = readGatewayHeaders(context.req.rawHeaders);
    context.state.requestId = requestId || randomUUID();
    context.state.receivedAt = performance.now();
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
function answerProblems(log: Logger, countCall: ManagementCounts['count']): Middleware<ManagementState> {
  return async (context, next) => {
    let reason = '';
    try {
      await next();
    } catch (error) {
      const problem = toProblem(error);
      reason = problem.loggedReason;
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
    countCall(context.method, context.status, reason);
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
  if (error instanceof OutcomeUnknown) {
    return new Problem(
      503,
      'store_unavailable',
      'The database has stopped to answer while the change was being kept. Look whether it is there before you repeat it.',
      { headers: { 'Retry-After': '1' } },
    );
  }
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
  describeFeed: DescribeFeed,
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
    const changes = describeFeed();
    context.body = {
      status: isReady ? 'ready' : 'not ready',
      checks: Object.fromEntries(results),
      // decisions are still right: what is not remembered is asked for
      ...(changes !== undefined && { changes }),
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

/** The same; for the command line on this machine, which knows no credential. */
function denial(find: FindDenial): Middleware<ManagementState, RouterContext> {
  return async (context) => {
    context.state.isProbe = true;
    const found = await find(context.params['requestId'] ?? '');
    if (!found) throw new Problem(404, 'unknown_decision', 'The gateway remembers no refusal with this request id.');
    context.body = found;
  };
}

function authenticateCaller(
  authenticate: Authenticate,
  policyOf: (rawHeaders: readonly string[]) => Policy,
  reportDenial: ReportDenial,
): Middleware<ManagementState> {
  return async (context, next) => {
    const policy = policyOf(context.req.rawHeaders);
    const { authorization } = readGatewayHeaders(context.req.rawHeaders);
    const { requestId, clientAddress } = context.state;
    const decision = await authenticate(policy, { authorization, clientAddress });
    if (decision.outcome === 'granted') {
      const { principal } = decision;
      context.state.principal = principal;
      context.state.areTokensAccepted = policy.tokens !== undefined;
      context.state.actor = { clientId: principal.id, requestId, ...(clientAddress && { address: clientAddress }) };
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
    reportDenial(decision, policy, { authorization, clientAddress, requestId });
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
  const record = (event: Omit<AuditEvent, 'at' | 'action' | 'clientId'>) =>
    store.recordEvent({ at: now(), action: 'management.call', clientId: null, ...event }).catch((error: unknown) => {
      log.error({ err: error, request_id: event.actor.requestId }, 'the audit event could not be stored');
    });
  const keepRefusal = createRefusalBound((clientId, leftOut) => {
    const actor = { clientId, requestId: null };
    void record({ actor, outcome: 'admin_required', details: { left_out: leftOut } });
  });
  return async (context, next) => {
    let outcome = 'done';
    try {
      await next();
    } catch (error) {
      outcome = toProblem(error).loggedReason;
      throw error;
    } finally {
      const { actor, principal, isAudited = false } = context.state;
      const isKept = principal?.isAdmin === true || keepRefusal(principal?.id ?? 0);
      // what the database could not answer changed nothing, and it would be waited for once more
      if (!isAudited && outcome !== 'store_unavailable' && isKept)
        await record({ actor, outcome, details: { method: context.method, path: redact(context.path).slice(0, 256) } });
    }
  };
}
