import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type * as OpenIdClient from 'openid-client';
import type { KeyLookup, Keys } from '../auth/access-token.ts';
import type { IssuerPolicy } from '../auth/policy.ts';
import { fetchDocument, FetchError, type FetchDocument, type Transport } from './fetch-document.ts';
import { parseKeySet, type VerificationKey } from './key-set.ts';

/** An issuer's state, in words that may be shown. */
export interface IssuerStatus {
  readonly discovery: string;
  readonly issuer: string | null;
  readonly reachable: boolean;
  readonly keys: number;
  /** Seconds since its keys were fetched. */
  readonly age: number | null;
  readonly last_error: string | null;
}

export interface Issuer extends Keys {
  /** Starts to fetch when nothing has been fetched yet. */
  readonly warmUp: () => void;
  readonly status: () => IssuerStatus;
}

export interface IssuerOptions {
  readonly policy: IssuerPolicy;
  /** Milliseconds on a clock that only goes forward. */
  readonly monotonicNow: () => number;
  /** A number that no keys have had. */
  readonly nextVersion: () => number;
  readonly onFailure: (message: string) => void;
  readonly onLoaded: (issuer: string, keys: number) => void;
  /** Called when there are other keys than before, or the first; must return at once and not throw. */
  readonly onKeysChanged?: () => void;
  readonly times?: Partial<IssuerTimes>;
  readonly fetchDocument?: FetchDocument;
}

/** All in milliseconds. */
export interface IssuerTimes {
  /** For discovery and key set together; below nginx's 4 s. */
  readonly fetchTimeout: number;
  /** Age from which keys are fetched anew, in the background. */
  readonly refreshAfter: number;
  /** Age from which keys are used no more before the issuer has been asked, as after a night without a token. */
  readonly refreshBefore: number;
  /** Age up to which keys are used while the issuer cannot be asked. */
  readonly staleLimit: number;
  /** Least time between two fetches because of an unknown key id or a bad signature. */
  readonly coolDown: number;
  readonly firstPause: number;
  readonly longestPause: number;
}

const minute = 60_000;
export const defaultTimes: IssuerTimes = {
  fetchTimeout: 3_000,
  refreshAfter: 5 * minute,
  refreshBefore: 10 * minute,
  staleLimit: 60 * minute,
  coolDown: 10_000,
  firstPause: 1_000,
  longestPause: 30_000,
};

interface Loaded {
  readonly issuer: string;
  readonly keys: readonly VerificationKey[];
  /** Same text for the same issuer and keys. */
  readonly content: string;
  readonly at: number;
  readonly version: number;
}

/** Candidates for one token are few: what a hostile key set adds costs no more than this many verifications. */
const maxCandidates = 10;
const longestMessage = 500;

/**
 * One issuer's metadata and keys: fetched once at a time, kept, fetched anew in the background, and used for a bounded
 * time when the issuer is away.
 */
export function createIssuer(options: IssuerOptions): Issuer {
  const { policy, monotonicNow, nextVersion, onFailure, onLoaded, onKeysChanged } = options;
  const times = { ...defaultTimes, ...options.times };
  const fetch = options.fetchDocument ?? fetchDocument;
  const { refreshAfter, refreshBefore, staleLimit, coolDown, firstPause, longestPause } = times;
  let loaded: Loaded | undefined;
  let underWay: Promise<void> | undefined;
  let lastError: string | undefined;
  let pause = 0;
  let nextAttemptAt = -Infinity;

  /** One fetch at a time; none while a pause after a failure lasts. */
  function load(): Promise<void> {
    if (underWay) return underWay;
    if (monotonicNow() < nextAttemptAt) return Promise.resolve();
    underWay = fetchAll()
      .then(
        ({ issuer, keys }) => {
          if (lastError !== undefined || loaded?.keys.length !== keys.length) onLoaded(issuer, keys.length);
          keep(issuer, keys);
          lastError = undefined;
          pause = 0;
        },
        (error: unknown) => {
          // an issuer's own words may be in it
          const message = (error as Error).message.slice(0, longestMessage);
          if (message !== lastError) onFailure(message);
          lastError = message;
          pause = Math.min(Math.max(pause * 2, firstPause), longestPause);
          nextAttemptAt = monotonicNow() + pause;
        },
      )
      .finally(() => {
        underWay = undefined;
      });
    return underWay;
  }

  /** The same keys keep their version: what they have verified stays verified, and what they refused stays refused. */
  function keep(issuer: string, keys: readonly VerificationKey[]): void {
    const content = describe(issuer, keys);
    const at = monotonicNow();
    if (loaded?.content === content) {
      loaded = { ...loaded, at };
    } else {
      loaded = { issuer, keys, content, at, version: nextVersion() };
      onKeysChanged?.();
    }
  }

  async function fetchAll(): Promise<{ issuer: string; keys: VerificationKey[] }> {
    const signal = AbortSignal.timeout(times.fetchTimeout);
    const transport = await readTransport(policy, signal);
    const metadata = await discover(policy, (url) => fetch(url, transport, signal));
    const jwksUri = parseUrl(metadata.jwks_uri, policy);
    const response = await fetch(jwksUri, transport, signal);
    const document: unknown = await response.json().catch(() => {
      throw new FetchError(`${jwksUri.href} is not JSON.`);
    });
    return { issuer: metadata.issuer, keys: parseKeySet(document) };
  }

  const age = (): number => (loaded ? monotonicNow() - loaded.at : Infinity);

  function found(alg: string, kid: string | undefined, refusedBy: number | undefined): KeyLookup | undefined {
    if (!loaded || loaded.version === refusedBy || age() > staleLimit) return undefined;
    const { issuer, version, keys } = loaded;
    const matching = keys.filter((key) => key.algorithms.includes(alg) && (kid === undefined || key.kid === kid));
    if (matching.length === 0) return undefined;
    return { outcome: 'found', issuer, version, keys: matching.slice(0, maxCandidates).map(({ key }) => key) };
  }

  function lookUp(alg: string, kid: string | undefined, refusedBy?: number): KeyLookup | Promise<KeyLookup> {
    if (age() > refreshAfter) {
      const refresh = load();
      if (age() > staleLimit || (age() > refreshBefore && lastError === undefined))
        return refresh.then(() => lookUpFresh(alg, kid, refusedBy));
    }
    return lookUpFresh(alg, kid, refusedBy);
  }

  function lookUpFresh(alg: string, kid: string | undefined, refusedBy?: number): KeyLookup | Promise<KeyLookup> {
    const known = found(alg, kid, refusedBy);
    if (known) return known;
    return age() > coolDown ? load().then(() => foundOrNot(alg, kid, refusedBy)) : foundOrNot(alg, kid, refusedBy);
  }

  function foundOrNot(alg: string, kid: string | undefined, refusedBy?: number): KeyLookup {
    const known = found(alg, kid, refusedBy);
    if (known) return known;
    // whoever cannot ask the issuer cannot know that it has no such key
    if (!loaded || lastError !== undefined || age() > staleLimit) {
      return { outcome: 'unavailable', cause: lastError ?? 'The issuer has not been asked yet.' };
    }
    return { outcome: 'unknown' };
  }

  return {
    lookUp,
    version: () => (age() <= staleLimit ? loaded?.version : undefined),
    warmUp: () => {
      if (!loaded) void load();
    },
    status: () => {
      // so that it comes to life again without a token
      if (lastError !== undefined || age() > refreshAfter) void load();
      return {
        discovery: policy.discovery,
        issuer: loaded?.issuer ?? null,
        reachable: loaded !== undefined && lastError === undefined,
        keys: loaded?.keys.length ?? 0,
        age: loaded ? Math.floor(age() / 1_000) : null,
        last_error: lastError ?? null,
      };
    },
  };
}

/** Issuers may list the same keys in any order; it matters only when not all of them are tried. */
function describe(issuer: string, keys: readonly VerificationKey[]): string {
  const texts = keys.map(({ kid, algorithms, key }) =>
    JSON.stringify([kid, algorithms, key.export({ format: 'jwk' })]),
  );
  return JSON.stringify([issuer, keys.length > maxCandidates ? texts : texts.sort()]);
}

/** The CA file is read for every fetch, so that a replaced one counts. */
async function readTransport({ caFile, verifyCertificate }: IssuerPolicy, signal: AbortSignal): Promise<Transport> {
  if (caFile === undefined) return { ca: undefined, verifyCertificate };
  const ca = await readFile(caFile, { encoding: 'utf8', signal }).catch((error: unknown) => {
    throw new FetchError(`$oidc_ca_file cannot be read: ${(error as Error).message}.`);
  });
  // without a certificate in it the system's CAs would be trusted
  if (!isCertificate(ca))
    throw new FetchError(`$oidc_ca_file ${caFile} does not begin with a certificate in PEM form.`);
  return { ca, verifyCertificate };
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).subject !== '';
  } catch {
    return false;
  }
}

/** Not with this module, because decisions on API keys do not wait for it. */
export const loadClient = (): Promise<typeof OpenIdClient> => import('openid-client');

async function discover(
  policy: IssuerPolicy,
  fetch: (url: URL) => Promise<Response>,
): Promise<{ issuer: string; jwks_uri: string | undefined }> {
  const url = new URL(policy.discovery);
  const client = await loadClient();
  let metadata;
  try {
    const configuration = await client.discovery(url, 'apigw', undefined, undefined, {
      [client.customFetch]: (target) => fetch(new URL(target)),
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so to stand out; behind OIDC_ALLOW_INSECURE_HTTP
      execute: policy.allowInsecureHttp ? [client.allowInsecureRequests] : [],
    });
    metadata = configuration.serverMetadata();
  } catch (error) {
    throw fetchErrorIn(error) ?? new FetchError(`${url.href} is no discovery document: ${(error as Error).message}.`);
  }
  // the same but for a final slash, which some issuers have in their name and not in the URL of their document
  if (policy.issuer === undefined && metadata.issuer.replace(/\/$/, '') !== policy.name.replace(/\/$/, '')) {
    throw new FetchError(
      `${url.href} says that its issuer is ${metadata.issuer}, not ${policy.name}. Correct $oidc_discovery, or set $oidc_issuer to the issuer that the tokens name.`,
    );
  }
  return { issuer: policy.issuer ?? metadata.issuer, jwks_uri: metadata.jwks_uri };
}

/** The library wraps what our fetch threw. */
function fetchErrorIn(error: unknown): FetchError | undefined {
  if (error instanceof FetchError) return error;
  return error instanceof Error && error.cause !== undefined ? fetchErrorIn(error.cause) : undefined;
}

function parseUrl(text: string | undefined, { discovery: source, allowInsecureHttp }: IssuerPolicy): URL {
  if (text === undefined || !URL.canParse(text)) throw new FetchError(`${source} names no jwks_uri.`);
  const url = new URL(text);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && allowInsecureHttp)) return url;
  throw new FetchError(`${source} names a jwks_uri that is not https: ${url.href}.`);
}
