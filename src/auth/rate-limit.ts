import { LRUCache } from 'lru-cache';
import { secondsIn } from '../duration.ts';
import type { Authenticate } from './authenticator.ts';
import { rateLimited, type Decision, type Granted } from './decision.ts';

/** At most so many requests in each span of time, which begins with the first request after the one before. */
export interface Limit {
  readonly name: 'rate' | 'quota';
  readonly requests: number;
  readonly seconds: number;
  /** So many requests more in ten such spans. */
  readonly burst: number;
}

/** What the client may learn of its limits (draft-ietf-httpapi-ratelimit-headers): two lists of structured fields. */
export interface LimitState {
  readonly policy: string;
  readonly state: string;
}

const ratePattern = /^([1-9][0-9]{0,8})\/([smhd])$/;
const burstSpans = 10;

/** "100/s", also with m, h or d: requests and seconds. Undefined for anything else. */
export function parseRate(text: string): { readonly requests: number; readonly seconds: number } | undefined {
  const [, requests, unit] = ratePattern.exec(text) ?? [];
  if (requests === undefined) return undefined;
  return { requests: Number(requests), seconds: secondsIn[unit as keyof typeof secondsIn] };
}

/** Counts a request of a client. Undefined limits are no limits. */
export type LimitRate = (granted: Granted) => Promise<Decision>;

interface Counter {
  used: number;
  readonly endsAt: number;
}

/**
 * Limits in this process's memory: exact to one request here, while each further process has counters of its own. They
 * begin anew with the process. The clock counts milliseconds and only goes forward: one that people set would give a
 * client its span anew, or tell it to wait for an hour.
 */
export function createRateLimiter(monotonicNow: () => number): LimitRate {
  // as many as there are clients with limits; each goes with its span
  const counters = new LRUCache<string, Counter>({
    ttl: 1_000,
    ttlAutopurge: true,
    perf: { now: monotonicNow },
    ttlResolution: 0,
  });
  const count = (key: string, seconds: number) => {
    const at = monotonicNow();
    const span = seconds * 1_000;
    let counter = counters.get(key);
    if (!counter || counter.endsAt <= at) {
      counter = { used: 0, endsAt: at + span };
      counters.set(key, counter, { ttl: span });
    }
    counter.used++;
    return { used: counter.used, reset: Math.max(1, Math.ceil((counter.endsAt - at) / 1_000)) };
  };

  function apply(id: number, { name, requests, seconds, burst }: Limit) {
    const { used, reset } = count(`${id} ${name} ${seconds}`, seconds);
    let isExceeded = used > requests;
    if (isExceeded && burst > 0) {
      const extra = count(`${id} ${name} ${seconds} burst`, burstSpans * seconds);
      isExceeded = extra.used > burst;
    }
    return { name, requests, seconds, isExceeded, remaining: Math.max(0, requests - used), reset };
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- so that a fault is a rejection
  return async (granted) => {
    const limits: ReturnType<typeof apply>[] = [];
    for (const limit of granted.limits ?? []) {
      const applied = apply(granted.principal.id, limit);
      limits.push(applied);
      // what the rate refuses is no use of the quota
      if (applied.isExceeded) break;
    }
    const limitState: LimitState = {
      policy: limits.map(({ name, requests, seconds }) => `"${name}";q=${requests};w=${seconds}`).join(', '),
      state: limits.map(({ name, remaining, reset }) => `"${name}";r=${remaining};t=${reset}`).join(', '),
    };
    const exceeded = limits.filter(({ isExceeded }) => isExceeded);
    if (exceeded.length === 0) return { ...granted, limitState };
    return rateLimited(granted, limitState, Math.max(...exceeded.map(({ reset }) => reset)));
  };
}

/**
 * Counts every grant to a client that has limits. A limit that cannot be evaluated limits nobody: whoever is granted here
 * has shown a good credential.
 */
export function limitDecisions(
  authenticate: Authenticate,
  limitRate: LimitRate,
  onFault: (error: unknown) => void,
): Authenticate {
  const limit = (decision: Decision): Decision | Promise<Decision> => {
    if (decision.outcome !== 'granted' || !decision.limits) return decision;
    return limitRate(decision).catch((error: unknown) => {
      onFault(error);
      return decision;
    });
  };
  return (policy, request) => {
    const decision = authenticate(policy, request);
    return decision instanceof Promise ? decision.then(limit) : limit(decision);
  };
}
