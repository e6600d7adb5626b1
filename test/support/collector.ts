import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import protobuf from 'protobufjs';

/** One span as a collector has received it. */
export interface Span {
  readonly name: string;
  /** 1 internal, 2 server, 3 client. */
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a span without a parent. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** 2 is an error. */
  readonly status: number;
  readonly resource: Readonly<Record<string, unknown>>;
}

/** An OpenTelemetry collector that decodes what it gets, over OTLP with protobuf or JSON. */
export interface Collector {
  readonly url: string;
  readonly spans: Span[];
  /** The bodies as they came. */
  readonly bodies: Buffer[];
  readonly contentTypes: Set<string>;
  /** Answers in place of taking spans. */
  readonly behave: (handler: RequestListener | undefined) => void;
  readonly close: () => Promise<void>;
}

// of opentelemetry-proto 1.x, what is looked at here; whatever else comes is skipped
const { root } = protobuf.parse(`
syntax = "proto3";
message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeSpans { repeated Span spans = 2; }
message Span {
  bytes trace_id = 1;
  bytes span_id = 2;
  string trace_state = 3;
  bytes parent_span_id = 4;
  string name = 5;
  int32 kind = 6;
  repeated KeyValue attributes = 9;
  Status status = 15;
}
message Status { string message = 2; int32 code = 3; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue {
  oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; }
}
`);
const requestType = root.lookupType('ExportTraceServiceRequest');

type KeyValues = readonly { key: string; value: Record<string, unknown> }[];

interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes?: KeyValues };
    readonly scopeSpans: readonly { readonly spans: readonly WireSpan[] }[];
  }[];
}

interface WireSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string | Buffer;
  readonly spanId: string | Buffer;
  readonly parentSpanId?: string | Buffer;
  readonly traceState?: string;
  readonly attributes?: KeyValues;
  readonly status?: { readonly code?: number };
}

export async function startCollector(): Promise<Collector> {
  const spans: Span[] = [];
  const bodies: Buffer[] = [];
  const contentTypes = new Set<string>();
  let behaviour: RequestListener | undefined;
  const take = async (request: IncomingMessage) => {
    const body = await readBody(request);
    const contentType = request.headers['content-type'] ?? '';
    if (request.method !== 'POST' || request.url !== '/v1/traces') throw new Error('this is no export of traces');
    bodies.push(body);
    contentTypes.add(contentType);
    spans.push(...readSpans(contentType, body));
  };
  const server = createServer((request, response) => {
    if (behaviour) {
      behaviour(request, response);
      return;
    }
    take(request).then(
      () => response.writeHead(200, { 'Content-Type': request.headers['content-type'] }).end(),
      (error: unknown) => response.writeHead(400, (error as Error).message).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    bodies,
    contentTypes,
    behave: (handler) => (behaviour = handler),
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function readSpans(contentType: string, body: Buffer): Span[] {
  const request = (
    contentType === 'application/json'
      ? JSON.parse(body.toString())
      : requestType.toObject(requestType.decode(body), { longs: Number, arrays: true })
  ) as ExportRequest;
  return request.resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        name: span.name,
        kind: span.kind,
        traceId: toHex(span.traceId),
        spanId: toHex(span.spanId),
        parentSpanId: toHex(span.parentSpanId),
        traceState: span.traceState ?? '',
        attributes: toRecord(span.attributes),
        status: span.status?.code ?? 0,
        resource: toRecord(resource.attributes),
      })),
    ),
  );
}

/** JSON has ids in hexadecimal already (OTLP 1.0, JSON Protobuf Encoding). */
function toHex(id: string | Buffer = ''): string {
  return typeof id === 'string' ? id : id.toString('hex');
}

function toRecord(attributes: KeyValues = []): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
