import { execFileSync } from 'node:child_process';
import { createSign, generateKeyPairSync, sign as signBytes, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { join } from 'node:path';
import { makeTempDir } from './stack.ts';

/** An issuer of our own, for what a real provider cannot be made to do. */
export interface HostileIssuer {
  readonly url: string;
  readonly caFile: string;
  /** Answers in place of the usual documents, by path. */
  readonly behave: (path: '/.well-known/openid-configuration' | '/jwks', handler: RequestListener | undefined) => void;
  readonly keys: { jwks: Record<string, unknown>[] };
  /** Requests so far, by path. */
  readonly asked: Map<string, number>;
  readonly rsa: KeyObject;
  readonly rsaPublicPem: string;
  readonly ec: KeyObject;
  readonly close: () => Promise<void>;
}

export async function startHostileIssuer({ tls = false } = {}): Promise<HostileIssuer> {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
  const keys = {
    jwks: [
      { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'rsa', use: 'sig' },
      { ...ec.publicKey.export({ format: 'jwk' }), kid: 'ec', use: 'sig' },
      { ...weak.publicKey.export({ format: 'jwk' }), kid: 'weak', use: 'sig' },
      { kty: 'oct', k: Buffer.from('secret').toString('base64url'), kid: 'oct', use: 'sig', alg: 'HS256' },
    ] as Record<string, unknown>[],
  };
  weakKeys.set(rsa.privateKey, weak.privateKey);
  const behaviours = new Map<string, RequestListener>();
  const asked = new Map<string, number>();
  const dir = makeTempDir();
  const caFile = join(dir, 'ca.pem');
  const handler: RequestListener = (request, response) => {
    const path = request.url ?? '';
    asked.set(path, (asked.get(path) ?? 0) + 1);
    const behaviour = behaviours.get(path);
    if (behaviour) {
      behaviour(request, response);
      return;
    }
    const body = path === '/jwks' ? { keys: keys.jwks } : { issuer: url, jwks_uri: `${url}/jwks` };
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  };
  const server = tls ? createHttpsServer(makeCertificate(dir, caFile), handler) : createHttpServer(handler);
  server.on('clientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const url = `${tls ? 'https' : 'http'}://localhost:${port}`;
  return {
    url,
    caFile,
    keys,
    asked,
    rsa: rsa.privateKey,
    rsaPublicPem: rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    ec: ec.privateKey,
    behave: (path, behaviour) => {
      if (behaviour) behaviours.set(path, behaviour);
      else behaviours.delete(path);
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

export const weakKeys = new WeakMap<KeyObject, KeyObject>();

function makeCertificate(dir: string, caFile: string): { key: string; cert: string } {
  const keyFile = join(dir, 'key.pem');
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=localhost',
      '-addext',
      'subjectAltName=DNS:localhost',
      '-keyout',
      keyFile,
      '-out',
      caFile,
    ],
    { stdio: 'ignore' },
  );
  return { key: readFileSync(keyFile, 'utf8'), cert: readFileSync(caFile, 'utf8') };
}

const encode = (value: unknown) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** A JWT of any shape: members as an object or as raw JSON text, signed as `alg` says unless a signature is given. */
export function makeToken(header: unknown, payload: unknown, key: KeyObject | Buffer): string {
  const input = `${encode(header)}.${encode(payload)}`;
  return `${input}.${signRaw(input, key).toString('base64url')}`;
}

function signRaw(input: string, key: KeyObject | Buffer): Buffer {
  if (Buffer.isBuffer(key)) return key;
  if (key.asymmetricKeyType === 'ec')
    return signBytes('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' });
  return createSign('RSA-SHA256').update(input).sign(key);
}
