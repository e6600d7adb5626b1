import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { WebSocketServer } from 'ws';

/** One request as the application saw it. */
export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  /** Names in lower case; every value of a name that came several times. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly bodyBytes: number;
  readonly bodyDigest: string;
}

/** A real application for the proxy to protect: it tells what it received, streams, echoes and misbehaves on request. */
export interface Application {
  readonly port: number;
  readonly seen: SeenRequest[];
  /** Requests that have begun and are not answered. */
  readonly openRequests: () => number;
  readonly close: () => Promise<void>;
}

export async function startApplication(): Promise<Application> {
  const seen: SeenRequest[] = [];
  let open = 0;
  const server = createServer({ maxHeaderSize: 128 * 1024 }, (request, response) => {
    open++;
    response.once('close', () => open--);
    // a client that breaks off
    serve(request, response, seen).catch(() => response.destroy());
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket, request) => {
    seen.push({ ...describe(request), bodyBytes: 0, bodyDigest: '' });
    socket.on('message', (data, isBinary) => {
      socket.send(data, { binary: isBinary });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as { port: number }).port,
    seen,
    openRequests: () => open,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets.clients) socket.terminate();
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

async function serve(request: IncomingMessage, response: ServerResponse, seen: SeenRequest[]): Promise<void> {
  const digest = createHash('sha256');
  let bodyBytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    digest.update(chunk);
    bodyBytes += chunk.length;
  }
  const record = { ...describe(request), bodyBytes, bodyDigest: digest.digest('hex') };
  seen.push(record);
  const { pathname, searchParams } = new URL(
    URL.canParse(record.url, 'http://application') ? record.url : '/',
    'http://application',
  );
  if (pathname === '/events') {
    serveEvents(response);
  } else if (pathname === '/status') {
    response
      .writeHead(Number(searchParams.get('code') ?? 200), { 'Content-Type': 'text/plain' })
      .end('from the application');
  } else if (pathname === '/redirect-inside') {
    response.writeHead(200, { 'X-Accel-Redirect': '/_apigw/decision' }).end('from the application');
  } else {
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(record));
  }
}

/** One event now, the next when the client has gone on asking; never an end. */
function serveEvents(response: ServerResponse): void {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
  response.write('data: first\n\n');
}

function describe({
  method = '',
  url = '',
  rawHeaders,
}: IncomingMessage): Omit<SeenRequest, 'bodyBytes' | 'bodyDigest'> {
  const headers: Record<string, string[]> = {};
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase();
    (headers[name] ??= []).push(rawHeaders[index + 1] ?? '');
  }
  return { method, url, headers };
}
