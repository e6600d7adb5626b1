import { LRUCache } from 'lru-cache';
import type { IssuerPolicy } from '../auth/policy.ts';
import type { FetchDocument } from './fetch-document.ts';
import { createIssuer, type Issuer, type IssuerStatus, type IssuerTimes } from './issuer.ts';

export interface IssuersOptions {
  readonly monotonicNow: () => number;
  readonly onFailure: (discovery: string, message: string) => void;
  readonly onLoaded: (discovery: string, issuer: string, keys: number) => void;
  /** Called when an issuer has other keys than before, or its first; must return at once and not throw. */
  readonly onKeysChanged?: (discovery: string) => void;
  readonly times?: Partial<IssuerTimes>;
  readonly fetchDocument?: FetchDocument | undefined;
}

/** One Issuer for each distinct way to speak to one, shared by all policies that say the same. */
export interface Issuers {
  readonly find: (policy: IssuerPolicy) => Issuer;
  readonly statuses: () => IssuerStatus[];
}

/** As many as there are policies. */
const capacity = 256;

export function createIssuers(options: IssuersOptions): Issuers {
  const { monotonicNow, onFailure, onLoaded, onKeysChanged, times, fetchDocument } = options;
  const issuers = new LRUCache<string, Issuer>({ max: capacity });
  // counted for all of them together: an issuer that was forgotten does not begin again at one
  let version = 0;
  return {
    find(policy) {
      const known = issuers.get(policy.key);
      if (known) return known;
      const issuer = createIssuer({
        policy,
        monotonicNow,
        nextVersion: () => ++version,
        onFailure: (message) => {
          onFailure(policy.discovery, message);
        },
        onLoaded: (name, keys) => {
          onLoaded(policy.discovery, name, keys);
        },
        onKeysChanged: () => {
          onKeysChanged?.(policy.discovery);
        },
        ...(times && { times }),
        ...(fetchDocument && { fetchDocument }),
      });
      issuers.set(policy.key, issuer);
      return issuer;
    },
    statuses: () => Array.from(issuers.values(), (issuer) => issuer.status()),
  };
}
