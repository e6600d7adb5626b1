import { LRUCache } from 'lru-cache';
import type { IssuerPolicy } from '../auth/policy.ts';
import { createIssuer, type Issuer, type IssuerTimes } from './issuer.ts';

export interface IssuersOptions {
  readonly monotonicNow: () => number;
  readonly onFailure: (discovery: string, message: string) => void;
  readonly onLoaded: (discovery: string, issuer: string, keys: number) => void;
  readonly times?: Partial<IssuerTimes>;
}

/** One Issuer for each distinct way to speak to one, shared by all policies that say the same. */
export type FindIssuer = (policy: IssuerPolicy) => Issuer;

export function createIssuers({ monotonicNow, onFailure, onLoaded, times }: IssuersOptions): FindIssuer {
  const issuers = new LRUCache<string, Issuer>({ max: 64 });
  return (policy) => {
    const known = issuers.get(policy.key);
    if (known) return known;
    const issuer = createIssuer({
      policy,
      monotonicNow,
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
  };
}
