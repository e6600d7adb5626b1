import type { X509Certificate } from 'node:crypto';
import { connect as connectTcp } from 'node:net';
import { Agent, request as httpsRequest } from 'node:https';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect as connectTls } from 'node:tls';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body as JSON. */
  readonly json: Record<string, unknown>;
  /** Milliseconds from the request to the end of the answer. */
  readonly duration: number;
}

export interface Ask {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly key?: string | undefined;
  readonly body?: string | Buffer | undefined;
  /** Sent as JSON, with its media type. */
  readonly json?: unknown;
  /** Where it comes from, such as 127.0.0.2; limits by address count each by itself. */
  readonly localAddress?: string;
}

const api = '/v1/management/api-clients';

/** A client of the real proxy. */
export class FrontDoor {
  readonly httpsPort: number;
  readonly httpPort: number;
  readonly url: string;

  constructor(httpsPort: number, httpPort: number) {
    this.httpsPort = httpsPort;
    this.httpPort = httpPort;
    this.url = `https://localhost:${httpsPort}`;
  }

  /** One request on a connection of its own. */
  ask(path: string, { method = 'GET', headers = {}, key, body, json, localAddress }: Ask = {}): Promise<Answer> {
    const startedAt = performance.now();
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        {
          host: '127.0.0.1',
          servername: 'localhost',
          port: this.httpsPort,
          path,
          method,
          agent: new Agent({ keepAlive: false }),
          rejectUnauthorized: false,
          localAddress,
          headers: {
            ...(json !== undefined && { 'Content-Type': 'application/json' }),
            ...(key !== undefined && { Authorization: `apk ${key}` }),
            ...headers,
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            resolve(toAnswer(response.statusCode ?? 0, response.headers, Buffer.concat(chunks), startedAt));
          });
        },
      );
      request.on('error', reject);
      request.end(json === undefined ? body : JSON.stringify(json));
    });
  }

  /** The certificate that it presents. */
  presented(): Promise<X509Certificate> {
    return new Promise((resolve, reject) => {
      const socket = connectTls({ host: '127.0.0.1', port: this.httpsPort, rejectUnauthorized: false }, () => {
        const certificate = socket.getPeerX509Certificate();
        socket.destroy();
        if (certificate) resolve(certificate);
        else reject(new Error('no certificate'));
      });
      socket.on('error', reject);
    });
  }

  /** One request to the management API's collection, or below it. */
  manage(method: string, key: string, path = '', ask: Ask = {}): Promise<Answer> {
    return this.ask(`${api}${path}`, { method, key, ...ask });
  }

  /** The same over plain HTTP. */
  askInClear(path: string, { method = 'GET', headers = {} }: Ask = {}): Promise<Answer> {
    const startedAt = performance.now();
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        { host: '127.0.0.1', port: this.httpPort, path, method, headers, agent: false },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () => {
            resolve(toAnswer(response.statusCode ?? 0, response.headers, Buffer.concat(chunks), startedAt));
          });
        },
      );
      request.on('error', reject);
      request.end();
    });
  }

  /** Writes bytes as they are and returns whatever comes back until the other side closes. */
  sendRaw(bytes: string | Buffer, { tls = true } = {}): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = tls
        ? connectTls({
            host: '127.0.0.1',
            port: this.httpsPort,
            rejectUnauthorized: false,
            ALPNProtocols: ['http/1.1'],
          })
        : connectTcp({ host: '127.0.0.1', port: this.httpPort });
      let received = '';
      socket.once(tls ? 'secureConnect' : 'connect', () => {
        socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
      });
      socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
      socket.on('error', (error: NodeJS.ErrnoException) => {
        if (received === '') reject(error);
      });
      socket.on('close', () => {
        resolve(received);
      });
    });
  }
}

function toAnswer(status: number, headers: IncomingHttpHeaders, bytes: Buffer, startedAt: number): Answer {
  const body = bytes.toString();
  return {
    status,
    headers,
    body,
    duration: performance.now() - startedAt,
    get json() {
      return JSON.parse(body) as Record<string, unknown>;
    },
  };
}
