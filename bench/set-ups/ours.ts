import type { Bench } from '../bench.ts';
import { always, apiKeyOf, drawn, writeCredentials } from '../load/credentials.ts';
import { runThrough } from '../load/wrk.ts';
import { createUniform, createZipf, type Draw } from '../load/draw.ts';
import { limitedClient } from '../parts/database.ts';
import { gatewayStack, type GatewayStack, type StackOptions } from '../parts/gateway-stack.ts';
import { issuer, type Algorithm } from '../parts/issuer.ts';
import { severalGateways } from '../parts/several-gateways.ts';
import { closed, crowded, paced, type CredentialSource, type SetUp, type Target } from './set-up.ts';

const few: StackOptions = { name: 'few', clients: 10 };
const cached: StackOptions = { name: 'cached', clients: 10_000, isCached: true };
const twoWorkers: StackOptions = { name: 'workers-2', clients: 10, workers: 2 };
const many = ({ options }: Bench): StackOptions => ({ name: 'many', clients: options.manyClients });

/** Clients that our gateway remembers, about. */
const heldInMemory = 100_000;

/** More than any set-up answers in a second. */
const drawsPerSecond = 50_000;

const key = (bench: Bench) => always(bench, 'key', apiKeyOf(1));
const keys = (name: string, createDraw: () => Draw) => (bench: Bench) => {
  const draw = createDraw();
  return drawn(bench, name, drawsPerSecond, (count) => Array.from({ length: count }, () => apiKeyOf(draw())));
};

const sameToken =
  ({ name }: StackOptions) =>
  async (bench: Bench) =>
    always(bench, `${name}.jwt`, `Bearer ${await (await issuer(bench)).token(name, 'RS256')}`);

/** Milliseconds after which our gateway remembers a token no more, and some more. */
const forgottenAfter = 65_000;

/** Tokens that nobody has seen in the last minute. */
const newTokens =
  ({ name }: StackOptions, algorithm: Algorithm) =>
  async (bench: Bench): Promise<CredentialSource> => {
    const { tokens } = await issuer(bench);
    const lists: { readonly file: string; readonly count: number; usedAt: number }[] = [];
    let perSecond = 8_000;
    return {
      isUsedOnce: true,
      // it may have been more, had there been enough of them
      onMeasured: (requestsPerSecond) => (perSecond = Math.max(perSecond, Math.ceil(1.3 * requestsPerSecond))),
      file: async (seconds) => {
        const count = perSecond * seconds;
        let list = lists.find((one) => one.count >= count && Date.now() - one.usedAt > forgottenAfter);
        if (!list) {
          const signed = (await tokens(name, algorithm, count)).map((token) => `Bearer ${token}`);
          list = { file: writeCredentials(bench, `${algorithm}-${lists.length}.jwt`, signed), count, usedAt: 0 };
          lists.push(list);
        }
        // as if at its end, which is later
        list.usedAt = Date.now() + seconds * 1_000;
        return list.file;
      },
    };
  };

const on =
  (
    options: StackOptions | ((bench: Bench) => StackOptions),
    credentials: (bench: Bench) => CredentialSource | Promise<CredentialSource>,
    at: (stack: GatewayStack) => string = ({ url }) => url,
  ) =>
  async (bench: Bench): Promise<Target> => {
    const stack = await gatewayStack(bench, typeof options === 'function' ? options(bench) : options);
    return { ...stack, url: at(stack), credentials: await credentials(bench) };
  };

const base = { kind: 'ours', comparedWith: ['L1'], load: closed, isQuick: true } as const;

const several = (count: number): SetUp => ({
  ...base,
  name: `gateways-${count}`,
  about: `10 API keys, uniformly, with ${count} gateway${count === 1 ? '' : 's'} on one PostgreSQL`,
  comparedWith: count === 1 ? [] : ['gateways-1'],
  isQuick: false,
  prepare: async (bench) => ({
    ...(await severalGateways(bench, count)),
    credentials: keys('uniform-10', () => createUniform(few.clients))(bench),
  }),
});

export const ours: readonly SetUp[] = [
  { ...base, name: 'key', about: 'an API key, always the same', prepare: on(few, key) },
  {
    ...base,
    name: 'key-limited',
    about: 'key, of an API client with a rate_limit that it never reaches',
    comparedWith: ['key', 'L1'],
    prepare: on(few, (bench) => always(bench, 'key-limited', apiKeyOf(limitedClient))),
  },
  { ...base, name: 'jwt', about: 'an access token, always the same', prepare: on(few, sameToken(few)) },
  {
    ...base,
    name: 'jwt-new-rs256',
    about: 'access tokens never seen before, RS256',
    prepare: on(few, newTokens(few, 'RS256')),
  },
  {
    ...base,
    name: 'jwt-new-es256',
    about: 'access tokens never seen before, ES256',
    prepare: on(few, newTokens(few, 'ES256')),
  },
  {
    ...base,
    name: 'key-tls',
    about: 'key, with TLS; compared with L1-tls',
    comparedWith: ['L1-tls'],
    prepare: on(few, key, ({ tlsUrl }) => tlsUrl),
  },
  {
    ...base,
    name: 'key-128',
    about: 'key with 128 connections; compared with L1-128',
    comparedWith: ['L1-128'],
    load: crowded,
    prepare: on(few, key),
  },
  {
    ...base,
    name: 'key-paced',
    about: 'key at 2,000 requests/s',
    comparedWith: ['L1-paced', 'L0-paced'],
    load: paced,
    prepare: on(few, key),
  },
  {
    ...base,
    name: 'key-workers-2',
    about: 'key with APIGW_WORKERS=2',
    comparedWith: ['L1', 'key'],
    prepare: on(twoWorkers, key),
  },
  several(1),
  several(2),
  several(3),
  { ...base, name: 'key-cache', about: 'key, with the decision cache of nginx', prepare: on(cached, key) },
  {
    ...base,
    name: 'jwt-cache',
    about: 'jwt, with the decision cache of nginx',
    prepare: on(cached, sameToken(cached)),
  },
  {
    ...base,
    name: 'key-cache-10k-zipf',
    about: '10,000 API keys by Zipf, with the decision cache of nginx',
    isQuick: false,
    prepare: on(
      cached,
      keys('zipf-10k', () => createZipf(cached.clients)),
    ),
  },
  {
    ...base,
    name: 'key-10',
    about: '10 API keys, uniformly',
    prepare: on(
      few,
      keys('uniform-10', () => createUniform(few.clients)),
    ),
  },
  {
    ...base,
    name: 'key-1m-zipf',
    about: '1,000,000 API keys (100,000 with --quick) by Zipf, those that are asked for most in memory',
    comparedWith: ['L1', 'key-10'],
    prepare: async (bench) => {
      const draws = keys('zipf-1m', () => createZipf(bench.options.manyClients));
      const target = await on(many, draws)(bench);
      // a gateway that has run for a while; by the load itself it would take minutes
      const mostAsked = Array.from({ length: heldInMemory }, (_, index) => apiKeyOf(heldInMemory - index));
      const credentials = writeCredentials(bench, 'most-asked', mostAsked);
      await runThrough(bench, { url: target.url, connections: closed.connections, credentials });
      return target;
    },
  },
];
