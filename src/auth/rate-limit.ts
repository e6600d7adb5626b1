import RateLimiterMemory from 'rate-limiter-flexible/lib/RateLimiterMemory.js';
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

/**
 * Limits in this process's memory: exact to one request here, while each further process has counters of its own. They
 * begin anew with the process.
 */
export function createRateLimiter(): LimitRate {
  // the library counts; each client has its own number of points, so the comparison is here
  const counters = new RateLimiterMemory({ points: Number.MAX_SAFE_INTEGER, duration: 1 });
  const count = async (key: string, seconds: number) => {
    const { consumedPoints, msBeforeNext } = await counters.consume(key, 1, { customDuration: seconds });
    return { used: consumedPoints, reset: Math.max(1, Math.ceil(msBeforeNext / 1_000)) };
  };

  async function apply(id: number, { name, requests, seconds, burst }: Limit) {
    const { used, reset } = await count(`${id} ${name} ${seconds}`, seconds);
    let isExceeded = used > requests;
    if (isExceeded && burst > 0) {
      const extra = await count(`${id} ${name} ${seconds} burst`, burstSpans * seconds);
      isExceeded = extra.used > burst;
    }
    return { name, requests, seconds, isExceeded, remaining: Math.max(0, requests - used), reset };
  }

  return async (granted) => {
    const limits: Awaited<ReturnType<typeof apply>>[] = [];
    for (const limit of granted.limits ?? []) {
      const applied = await apply(granted.principal.id, limit);
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
