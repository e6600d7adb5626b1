import { generateKeyPairSync } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { Provider, type JWK } from 'oidc-provider';

/** A real OpenID Provider that gives JWT access tokens by client credentials, one audience for each algorithm. */
export interface RealProvider {
  readonly url: string;
  readonly token: (algorithm: Algorithm, client?: string, scope?: string) => Promise<string>;
  /** An access token of the provider's own format. */
  readonly opaqueToken: () => Promise<string>;
  /** Replaces the signing keys, as a rotation does. */
  readonly rotate: () => Promise<void>;
  readonly stop: () => Promise<void>;
  readonly start: () => Promise<void>;
}

export type Algorithm = 'RS256' | 'ES256' | 'EdDSA';
/** The settings of default.conf with which this provider's tokens are accepted. */
export const acceptTokensOf = (provider: RealProvider, algorithm: Algorithm) => ({
  open_id_connect_enabled: 'on',
  oidc_discovery: provider.url,
  oidc_audience: audienceOf(algorithm),
});
export const audienceOf = (algorithm: Algorithm) => `urn:api:${algorithm}`;

export async function startProvider(port: number, clients: readonly string[]): Promise<RealProvider> {
  const url = `http://127.0.0.1:${port}`;
  let server: Server;
  let keys = makeKeys('first');

  async function start(): Promise<void> {
    const provider = new Provider(url, {
      clients: clients.map((id) => ({
        client_id: id,
        client_secret: 'test-client-password',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      })),
      jwks: { keys },
      scopes: ['orders.read'],
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_, resource) => ({
            scope: 'orders.read',
            audience: resource,
            accessTokenTTL: 600,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: resource.replace('urn:api:', '') as Algorithm } },
          }),
        },
      },
    });
    const handler = provider.callback();
    server = createServer((request, response) => void handler(request, response));
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  }

  async function stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      server.close(() => {
        resolve();
      });
      server.closeAllConnections();
    });
  }

  async function request(client: string, parameters: Record<string, string>): Promise<string> {
    const response = await fetch(`${url}/token`, {
      method: 'POST',
      // the server may be stopped and started before the next one
      headers: {
        Connection: 'close',
        Authorization: `Basic ${Buffer.from(`${client}:test-client-password`).toString('base64')}`,
      },
      body: new URLSearchParams({ grant_type: 'client_credentials', ...parameters }),
    });
    const body = (await response.json()) as { access_token?: string };
    if (body.access_token === undefined) throw new Error(`no token: ${JSON.stringify(body)}`);
    return body.access_token;
  }

  await start();
  return {
    url,
    start,
    stop,
    token: (algorithm, client = 'abc123', scope = '') =>
      request(client, { resource: audienceOf(algorithm), ...(scope && { scope }) }),
    opaqueToken: () => request('abc123', {}),
    async rotate() {
      await stop();
      keys = makeKeys('second');
      await start();
    },
  };
}

function makeKeys(generation: string): JWK[] {
  const pairs = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: generateKeyPairSync('ed25519'),
  };
  return Object.entries(pairs).map(([alg, { privateKey }]) => ({
    ...(privateKey.export({ format: 'jwk' }) as JWK),
    alg,
    use: 'sig',
    kid: `${generation}-${alg}`,
  }));
}
