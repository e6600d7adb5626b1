import type { Claims } from './claims.ts';
import type { DenialReason } from './decision.ts';
import type { TokenPolicy } from './policy.ts';

/**
 * What is wrong with the registered claims of a token (RFC 7519 4.1) that this issuer has signed.
 *
 * @param now milliseconds since the epoch
 */
export function findFault(policy: TokenPolicy, claims: Claims, issuer: string, now: number): DenialReason | undefined {
  return findMissing(policy, claims) ?? findWrongParty(policy, claims, issuer) ?? findWrongTime(policy, claims, now);
}

function findMissing({ audiences }: TokenPolicy, claims: Claims): DenialReason | undefined {
  if (!Object.hasOwn(claims, 'iss')) return 'wrong_issuer';
  if (audiences && !Object.hasOwn(claims, 'aud')) return 'wrong_audience';
  return Object.hasOwn(claims, 'exp') ? undefined : 'invalid_claim';
}

function findWrongParty({ audiences }: TokenPolicy, { iss, aud }: Claims, issuer: string): DenialReason | undefined {
  if (iss !== issuer) return 'wrong_issuer';
  const named: unknown[] = Array.isArray(aud) ? aud : [aud];
  return !audiences || audiences.some((audience) => named.includes(audience)) ? undefined : 'wrong_audience';
}

function findWrongTime(policy: TokenPolicy, claims: Claims, now: number): DenialReason | undefined {
  const { clockTolerance, maxLifetime } = policy;
  const { exp, nbf = -Infinity, iat } = claims;
  const seconds = now / 1_000;
  const wholeSeconds = Math.floor(seconds);
  if (typeof nbf !== 'number' || (iat !== undefined && typeof iat !== 'number')) return 'invalid_claim';
  if (nbf > wholeSeconds + clockTolerance) return 'token_not_yet_valid';
  if (typeof exp !== 'number') return 'invalid_claim';
  if (exp <= wholeSeconds - clockTolerance) return 'token_expired';
  // 1e999 is JSON, and becomes Infinity
  if (![exp, iat ?? 0, claims['nbf'] ?? 0].every(Number.isFinite)) return 'invalid_claim';
  if (iat !== undefined && iat > seconds + clockTolerance) return 'token_not_yet_valid';
  return exp - (iat ?? seconds) > maxLifetime + clockTolerance ? 'lifetime_too_long' : undefined;
}
