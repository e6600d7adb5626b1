import type { Presented } from './authenticator.ts';
import { findClaim, scopesOf, type Claims } from './claims.ts';
import { parseCredential } from './credential.ts';
import type { DenialReason } from './decision.ts';
import type { Policy, TokenPolicy } from './policy.ts';
import { parseStrictObject } from './strict-json.ts';

/** What was compared, and did not fit. Text for the operator's eyes, at most 200 characters each; never a secret. */
export interface Finding {
  readonly expected: string;
  readonly seen: string;
}

const maxLength = 200;
/** A longer word before the space may be a secret that was pasted without its scheme. */
const maxScheme = 20;

/**
 * Why a credential was refused, in values: read once more from what was presented, since a decision that is not asked
 * about need not collect them. Undefined where the reason says it all. For claims of a token only where its signature has
 * been verified before they were looked at, or where they are the reason that nobody has verified it.
 *
 * @param now milliseconds since the epoch, of the decision
 */
export function findingOf(
  reason: DenialReason,
  policy: Policy,
  presented: Presented,
  now: number,
): Finding | undefined {
  const pair = compare(reason, policy, presented, now);
  return pair && { expected: shorten(pair[0]), seen: shorten(pair[1]) };
}

type Pair = readonly [expected: unknown, seen: unknown];

function compare(
  reason: DenialReason,
  policy: Policy,
  { authorization = '', clientAddress }: Presented,
  now: number,
): Pair | undefined {
  const credential = parseCredential(authorization);
  switch (reason) {
    case 'unsupported_scheme':
      return [acceptedSchemes(policy), authorization.slice(0, authorization.indexOf(' ')).slice(0, maxScheme)];
    case 'method_disabled':
      return [acceptedSchemes(policy), credential.scheme];
    case 'address_not_allowed':
      return ["one of the client's allowed_cidrs", clientAddress || 'no address'];
    case 'client_scope_required':
      return [list(policy.requiredScopes), 'the scopes of the API client'];
    case 'client_not_allowed':
      return [`one of ${list([...(policy.allowedClients ?? [])])}`, 'another API client'];
    case 'policy_invalid':
      return ['settings without a mistake', policy.problems.join(' ')];
    default:
      if (credential.scheme !== 'bearer' || !policy.tokens) return undefined;
      return compareToken(reason, policy.tokens, credential.token, now);
  }
}

function compareToken(reason: DenialReason, policy: TokenPolicy, token: string, now: number): Pair | undefined {
  if (reason === 'token_too_large') return ['at most 16384 characters', token.length];
  const [head, claims] = token.split('.').map((part) => parseStrictObject(Buffer.from(part, 'base64url')));
  if (!head || !claims) return undefined;
  const { exp, iat, nbf } = claims;
  const clock = `${toTime(now / 1_000)}, the gateway's clock`;
  switch (reason) {
    case 'algorithm_not_allowed':
      return [list(policy.algorithms), head['alg']];
    case 'unsupported_token':
      return ['none of crit, b64, zip, enc, cty, cnf', list([...Object.keys(head), ...Object.keys(claims)])];
    case 'not_an_access_token':
      return ['an access token', `typ ${text(head['typ'])}, with ${list(Object.keys(claims))}`];
    case 'unknown_signing_key':
    case 'bad_signature':
      return [`a key of ${policy.issuer.discovery}`, `kid ${text(head['kid'])}, alg ${text(head['alg'])}`];
    case 'wrong_issuer':
      return [policy.issuer.issuer ?? policy.issuer.name, claims['iss']];
    case 'wrong_audience':
      return [list(policy.audiences ?? []), claims['aud']];
    case 'token_expired':
      return [`exp after ${clock}`, toTime(exp)];
    case 'token_not_yet_valid':
      return [`nbf and iat before ${clock}`, `nbf ${toTime(nbf)}, iat ${toTime(iat)}`];
    case 'lifetime_too_long':
      return [`at most ${policy.maxLifetime} s`, `iat ${toTime(iat)}, exp ${toTime(exp)}`];
    case 'invalid_claim':
      return ['exp, and numbers for exp, nbf, iat', `exp ${text(exp)}, nbf ${text(nbf)}, iat ${text(iat)}`];
    case 'no_client_id_claim':
      return [`the claim ${policy.clientIdClaim.join('.')}`, `claims ${list(Object.keys(claims))}`];
    case 'unknown_client':
      return [
        'the api_client_id of an API client',
        policy.clientIdPrefix + text(findClaim(claims, policy.clientIdClaim)),
      ];
    case 'claim_required':
      return compareClaims(policy, claims);
    case 'insufficient_scope':
      return [list(policy.requiredScopes), list(scopesOf(claims))];
    default:
      return undefined;
  }
}

function compareClaims({ requiredClaims }: TokenPolicy, claims: Claims): Pair {
  const [wanted, found] = [
    requiredClaims.map(({ path, value }) => `${path.join('.')}=${value}`),
    requiredClaims.map(({ path }) => `${path.join('.')}=${text(findClaim(claims, path))}`),
  ];
  return [list(wanted), list(found)];
}

function acceptedSchemes({ apiKeysEnabled, openIdConnectEnabled }: Policy): string {
  return list([...(apiKeysEnabled ? ['apk'] : []), ...(openIdConnectEnabled ? ['bearer'] : [])]);
}

function list(values: readonly unknown[]): string {
  return values.map(text).join(', ') || '(none)';
}

function text(value: unknown): string {
  if (value === undefined) return '(absent)';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Of a NumericDate (RFC 7519 2), seconds. */
function toTime(seconds: unknown): string {
  const date = new Date(typeof seconds === 'number' ? seconds * 1_000 : NaN);
  return Number.isNaN(date.getTime()) ? text(seconds) : date.toISOString();
}

function shorten(value: unknown): string {
  const whole = text(value);
  return whole.length > maxLength ? `${whole.slice(0, maxLength - 3)}...` : whole;
}
