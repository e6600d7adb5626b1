import { denialDetails, tokenDetails, type DenialReason } from './decision.ts';
import type { Policy } from './policy.ts';

/**
 * The `WWW-Authenticate` line of a 401: every accepted scheme, and an error only when an access token was sent (RFC 6750
 * 3). The Bearer challenge is the last of the line, so the parameters belong to it.
 */
export function challengeOf({ challenge }: Policy, reason: DenialReason): string {
  const error = tokenErrorOf(reason);
  return error === undefined ? challenge : `${challenge}, error="invalid_token", error_description="${error}"`;
}

/** The challenge of a 403 for a token with too few scopes (RFC 6750 3.1), or undefined. */
export function scopeChallengeOf({ tokens }: Policy, reason: DenialReason): string | undefined {
  if (reason !== 'insufficient_scope') return undefined;
  const scope = (tokens?.requiredScopes ?? []).join(' ').replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]/g, '');
  return `Bearer realm="apigw", error="insufficient_scope", scope="${scope}"`;
}

/** The value of `X-jwt-error`, or undefined when it was no access token that was refused. */
export function tokenErrorOf(reason: DenialReason): string | undefined {
  return reason in tokenDetails ? denialDetails[reason] : undefined;
}
