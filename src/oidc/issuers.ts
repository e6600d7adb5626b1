import { LRUCache } from 'lru-cache';
import type { IssuerPolicy } from '../auth/policy.ts';
import { createIssuer, type Issuer, type IssuerStatus, type IssuerTimes } from './issuer.ts';

export interface IssuersOptions {
  readonly monotonicNow: () => number;
  readonly onFailure: (discovery: string, message: string) => void;
  readonly onLoaded: (discovery: string, issuer: string, keys: number) => void;
  /** Called whenever keys have come, before they are used: a token may not be good any more. */
  readonly onKeysChanged?: () => void;
  readonly times?: Partial<IssuerTimes>;
}

/** One Issuer for each distinct way to speak to one, shared by all policies that say the same. */
export interface Issuers {
  readonly find: (policy: IssuerPolicy) => Issuer;
  readonly statuses: () => IssuerStatus[];
}

/** As many as there are policies. */
const capacity = 256;

export function createIssuers({ monotonicNow, onFailure, onLoaded, onKeysChanged, times }: IssuersOptions): Issuers {
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
        nextVersion: () => {
          onKeysChanged?.();
          return ++version;
        },
        onFailure: (message) => {
          onFailure(policy.discovery, message);
        },
        onLoaded: (name, keys) => {
          onLoaded(policy.discovery, name, keys);
        },
        ...(times && { times }),
      });
      issuers.set(policy.key, issuer);
      return issuer;
    },
    statuses: () => Array.from(issuers.values(), (issuer) => issuer.status()),
  };
}
