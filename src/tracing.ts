import { AsyncLocalStorage } from 'node:async_hooks';
import {
  diag,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Span,
  type SpanOptions,
} from '@opentelemetry/api';
import { setGlobalErrorHandler, W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  detectResources,
  envDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
} from '@opentelemetry/resources';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  ConsoleSpanExporter,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-base';
import type { VerifyToken } from './auth/access-token.ts';
import type { Authenticate, FindClient } from './auth/authenticator.ts';
import { methodOf } from './auth/decision-counts.ts';
import type { Decision } from './auth/decision.ts';
import { detached } from './auth/detached.ts';
import type { AnswerDecision } from './http/decision-server.ts';
import type { TraceCall } from './http/management-app.ts';
import { redact } from './redact.ts';
import type { FetchDocument } from './oidc/fetch-document.ts';
import type { TraceConfig } from './trace-settings.ts';

/** The parts of the gateway, each with a span around it. Nothing of this file is loaded when no traces are wanted. */
export interface Tracing {
  /** What each line of the log about a request has besides. */
  readonly logFields: () => object;
  readonly answers: (answer: AnswerDecision) => AnswerDecision;
  /** What was decided, on the span of `answers`. */
  readonly decisions: (authenticate: Authenticate) => Authenticate;
  readonly lookups: (find: FindClient) => FindClient;
  readonly verifications: (verify: VerifyToken) => VerifyToken;
  readonly fetches: (fetch: FetchDocument) => FetchDocument;
  readonly calls: TraceCall;
  /** Sends what there is, for 2 s at most. */
  readonly close: () => Promise<void>;
}

export interface TracingOptions {
  readonly config: TraceConfig;
  readonly version: string;
  /** Called at most once a minute. */
  readonly onLost: (why: string) => void;
}

/** Milliseconds. */
const flushPatience = 2_000;
const betweenComplaints = 60_000;
const longestComplaint = 300;

/** The span whose work is under way. */
const current = new AsyncLocalStorage<Context>();
const propagator = new W3CTraceContextPropagator();
const tracedHeaders = {
  keys: () => propagator.fields(),
  get: (carrier: TraceHeaders, name: string) => {
    const value = name === 'traceparent' ? carrier.traceparent : carrier.tracestate;
    // it is exported as it came, and what is exported waits
    return value && redact(detached(value));
  },
};

interface TraceHeaders {
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
}

/** Spans are queued, up to a bound, and exported in the background: no decision waits for a collector. */
export async function startTracing({ config, version, onLost }: TracingOptions): Promise<Tracing> {
  const complain = createComplaints(onLost);
  const exporters = await Promise.all(config.exporters.map((name) => createExporter(name, config)));
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'apigw-gateway', 'service.version': version }).merge(
      detectResources({ detectors: [serviceInstanceIdDetector, envDetector] }),
    ),
    spanProcessors: exporters.map((exporter) => new BatchSpanProcessor(exporter)),
  });
  setGlobalErrorHandler((error) => {
    complain(typeof error === 'string' ? error : (error.message ?? 'a fault'));
  });
  const warn = (...words: readonly unknown[]) => {
    complain(words.filter((word) => typeof word === 'string').join(': '));
  };
  const ignore = () => undefined;
  diag.setLogger(
    { error: warn, warn, info: ignore, debug: ignore, verbose: ignore },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const tracer = provider.getTracer('apigw', version);

  function startServerSpan(name: string, headers: TraceHeaders, attributes: Attributes): [Span, Context] {
    const parent = propagator.extract(ROOT_CONTEXT, headers, tracedHeaders);
    const span = tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent);
    return [span, trace.setSpan(parent, span)];
  }

  /** A span for what has begun just now, unless it is done already. */
  function follow<T>(
    result: T | Promise<T>,
    name: string,
    options: SpanOptions,
    describe: (value: T) => Attributes = () => ({}),
  ): T | Promise<T> {
    if (!(result instanceof Promise)) return result;
    const span = tracer.startSpan(name, options, current.getStore() ?? ROOT_CONTEXT);
    return result.then(
      (value) => {
        span.setAttributes(describe(value)).end();
        return value;
      },
      (error: unknown) => {
        // not its message, which may have anything in it
        span.setAttribute('error.type', (error as Error).name).setStatus({ code: SpanStatusCode.ERROR });
        span.end();
        throw error;
      },
    );
  }

  return {
    logFields() {
      const context = current.getStore();
      const span = context && trace.getSpanContext(context);
      return span ? { trace_id: span.traceId } : {};
    },
    answers: (answer) => (request) => {
      const requestId = detached(request.requestId);
      const [span, context] = startServerSpan('decision', request, { 'apigw.request_id': requestId });
      const end = (message: string): string => {
        const status = Number(message.slice('HTTP/1.1 '.length, 'HTTP/1.1 204'.length));
        endServerSpan(span, status);
        return message;
      };
      const message = current.run(context, answer, request);
      return message instanceof Promise ? message.then(end) : end(message);
    },
    decisions: (authenticate) => (policy, presented) => {
      const describe = (decision: Decision): Decision => {
        const context = current.getStore();
        const span = context && trace.getSpan(context);
        if (span?.isRecording()) span.setAttributes(describeDecision(decision, presented.authorization));
        return decision;
      };
      const decision = authenticate(policy, presented);
      return decision instanceof Promise ? decision.then(describe) : describe(decision);
    },
    lookups: (find) => (text) =>
      follow(find(text), 'SELECT api_clients', {
        kind: SpanKind.CLIENT,
        attributes: {
          'db.system.name': 'sqlite',
          'db.operation.name': 'SELECT',
          'db.collection.name': 'api_clients',
        },
      }),
    verifications: (verify) => (policy, token) =>
      follow(verify(policy, token), 'verify access token', {}, ({ outcome }) => ({ 'apigw.verification': outcome })),
    // The issuer gets no traceparent: it is somebody else's, its answer is for all requests, and it would learn which of a
    // client's requests came when.
    fetches: (fetch) => async (url, transport, signal) =>
      follow(
        fetch(url, transport, signal),
        'GET',
        {
          kind: SpanKind.CLIENT,
          attributes: {
            'http.request.method': 'GET',
            'server.address': url.hostname,
            'server.port': Number(url.port) || (url.protocol === 'https:' ? 443 : 80),
            'url.full': redact(url.origin + url.pathname),
          },
        },
        ({ status }) => ({ 'http.response.status_code': status }),
      ),
    async calls({ method, requestId, ...headers }, handle, describe) {
      const [span, context] = startServerSpan(method, headers, {
        'http.request.method': method,
        'apigw.request_id': requestId,
      });
      await current.run(context, handle);
      const { status, route, clientId } = describe();
      if (route !== undefined) span.updateName(`${method} ${route}`).setAttribute('http.route', route);
      if (clientId !== undefined) span.setAttribute('apigw.client_id', redact(clientId));
      endServerSpan(span, status);
    },
    async close() {
      const flushed = provider.shutdown().then(
        () => true,
        (error: unknown) => {
          complain((error as Error).message);
          return true;
        },
      );
      let timer: NodeJS.Timeout | undefined;
      const patience = new Promise<false>((resolve) => (timer = setTimeout(resolve, flushPatience, false)));
      if (!(await Promise.race([flushed, patience]))) complain('the collector has not taken the last ones within 2 s');
      clearTimeout(timer);
    },
  };
}

function endServerSpan(span: Span, status: number): void {
  span.setAttribute('http.response.status_code', status);
  // only when the gateway could not do what it is there for
  if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

function describeDecision(decision: Decision, authorization: string | undefined): Attributes {
  const { outcome } = decision;
  const common = { 'apigw.outcome': outcome, 'apigw.auth_method': methodOf(authorization) };
  if (outcome === 'granted') return { ...common, 'apigw.client_id': redact(decision.principal.clientId) };
  const clientId = outcome === 'forbidden' ? (decision.clientId ?? decision.token?.client_id) : undefined;
  return {
    ...common,
    'apigw.reason': decision.reason,
    ...(clientId !== undefined && { 'apigw.client_id': redact(clientId) }),
  };
}

async function createExporter(
  name: TraceConfig['exporters'][number],
  { protocol }: TraceConfig,
): Promise<SpanExporter> {
  if (name === 'console') return new ConsoleSpanExporter();
  // a package in CommonJS, so it is the default of what import() gives
  const { default: exporter } =
    protocol === 'http/json'
      ? await import('@opentelemetry/exporter-trace-otlp-http')
      : await import('@opentelemetry/exporter-trace-otlp-proto');
  return new exporter.OTLPTraceExporter();
}

function createComplaints(onLost: (why: string) => void): (why: string) => void {
  let silentUntil = -Infinity;
  return (why) => {
    if (performance.now() < silentUntil) return;
    silentUntil = performance.now() + betweenComplaints;
    // about no request in particular
    current.exit(onLost, why.slice(0, longestComplaint));
  };
}
