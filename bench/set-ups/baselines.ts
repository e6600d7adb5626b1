import type { Bench } from '../bench.ts';
import { always, apiKeyOf } from '../load/credentials.ts';
import { conventionalFront, type FrontOptions } from '../parts/conventional-front.ts';
import { shippedFront } from '../parts/shipped-front.ts';
import { closed, crowded, paced, type SetUp, type Target } from './set-up.ts';

const noAuth: FrontOptions = { name: 'L0', isAsking: false };
const auth: FrontOptions = { name: 'L1', isAsking: true };

/** Requests carry a credential here too, so that they are as long as the others. */
const front = (options: FrontOptions) => async (bench: Bench) =>
  withKey(bench, await conventionalFront(bench, options));

function withKey(bench: Bench, target: Omit<Target, 'credentials'>): Target {
  return { ...target, credentials: always(bench, 'key', apiKeyOf(1)) };
}

const base = { kind: 'baseline', load: closed, isQuick: true } as const;

export const baselines: readonly SetUp[] = [
  {
    ...base,
    name: 'L0',
    about: 'nginx, no authentication',
    comparedWith: ['L1'],
    prepare: front(noAuth),
  },
  {
    ...base,
    name: 'L1',
    about: 'nginx, `auth_request` to an nginx that answers `return 204`',
    comparedWith: [],
    prepare: front(auth),
  },
  {
    ...base,
    name: 'L1-shipped',
    about: 'our configuration of nginx, the same `return 204` in place of our gateway',
    comparedWith: ['L1'],
    prepare: async (bench) => withKey(bench, await shippedFront(bench)),
  },
  {
    ...base,
    name: 'L1-no-keepalive',
    about: 'L1 with a new connection for every question and every request',
    comparedWith: ['L1'],
    isQuick: false,
    prepare: front({ ...auth, name: 'L1-no-keepalive', isKeepingAlive: false }),
  },
  {
    ...base,
    name: 'L1-tls',
    about: 'L1 with TLS',
    comparedWith: [],
    prepare: front({ ...auth, name: 'L1-tls', hasTls: true }),
  },
  {
    ...base,
    name: 'L1-128',
    about: 'L1 with 128 connections',
    comparedWith: [],
    load: crowded,
    prepare: front(auth),
  },
  {
    ...base,
    name: 'L0-paced',
    about: 'L0 at 2,000 requests/s',
    comparedWith: [],
    load: paced,
    prepare: front(noAuth),
  },
  {
    ...base,
    name: 'L1-paced',
    about: 'L1 at 2,000 requests/s',
    comparedWith: ['L0-paced'],
    load: paced,
    prepare: front(auth),
  },
];
