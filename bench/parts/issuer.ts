import { generateKeyPairSync, sign, type KeyObject, type SignKeyObjectInput } from 'node:crypto';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import type { Bench } from '../bench.ts';
import type { KeySetFetches } from '../result.ts';

export type Algorithm = 'RS256' | 'ES256';

/** An OpenID Provider as far as a resource server sees it: discovery, keys, and signed access tokens. */
export interface Issuer {
  /** The issuer of this name; each gateway has one of its own, so that its questions can be counted. */
  readonly url: (name: string) => string;
  readonly token: (name: string, algorithm: Algorithm) => Promise<string>;
  readonly tokens: (name: string, algorithm: Algorithm, count: number) => Promise<string[]>;
  /** Says that a gateway of so many processes uses the issuer of this name. */
  readonly onStarted: (name: string, processes: number) => void;
  /** Begins to count: the preparations show forged tokens, and each may cost a fetch. */
  readonly countFetches: () => void;
  /** How often each of those gateways has fetched the key set since. */
  readonly keySetFetches: () => KeySetFetches[];
  readonly rsaPublicPem: string;
}

export const audience = 'urn:bench:api';
/** Seconds; longer than any run. */
const lifetime = 7_200;

// in the thread pool, so on both processors
const signAsync = promisify<string, Buffer, SignKeyObjectInput, Buffer>(sign);

export function issuer(bench: Bench): Promise<Issuer> {
  return bench.shared('issuer', () => startIssuer(bench));
}

async function startIssuer(bench: Bench): Promise<Issuer> {
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  };
  const jwks = Object.entries(pairs).map(([alg, { publicKey }]) => ({
    ...publicKey.export({ format: 'jwk' }),
    alg,
    use: 'sig',
    kid: alg,
  }));
  const fetches = new Map<string, number>();
  const gateways = new Map<string, number>();
  let countedSince = Date.now();
  const server = createServer((request, response) => {
    const [, name = '', ...rest] = (request.url ?? '').split('/');
    const isKeySet = rest.join('/') === 'jwks';
    if (isKeySet) fetches.set(name, (fetches.get(name) ?? 0) + 1);
    const document = isKeySet ? { keys: jwks } : { issuer: url(name), jwks_uri: `${url(name)}/jwks` };
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(document));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  bench.atEnd(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = (name: string) => `http://127.0.0.1:${port}/${name}`;

  let serial = 0;
  const token = (name: string, algorithm: Algorithm): Promise<string> => {
    const now = Math.floor(Date.now() / 1_000);
    serial += 1;
    return signToken(algorithm, pairs[algorithm].privateKey, {
      iss: url(name),
      sub: 'bench-1',
      aud: audience,
      iat: now,
      exp: now + lifetime,
      jti: String(serial),
    });
  };
  return {
    url,
    token,
    async tokens(name, algorithm, count) {
      const signed: string[] = [];
      while (signed.length < count) {
        bench.signal.throwIfAborted();
        const some = Array.from({ length: Math.min(1_000, count - signed.length) }, () => token(name, algorithm));
        signed.push(...(await Promise.all(some)));
      }
      return signed;
    },
    onStarted: (name, processes) => gateways.set(name, processes),
    countFetches: () => {
      fetches.clear();
      countedSince = Date.now();
    },
    keySetFetches: () =>
      Array.from(gateways, ([name, processes]) => ({
        name,
        processes,
        fetches: fetches.get(name) ?? 0,
        counted_seconds: Math.round((Date.now() - countedSince) / 1_000),
      })),
    rsaPublicPem: pairs.RS256.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

async function signToken(algorithm: Algorithm, key: KeyObject, claims: object): Promise<string> {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const input = `${encode({ alg: algorithm, typ: 'at+jwt', kid: algorithm })}.${encode(claims)}`;
  const signature = await signAsync('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}
