import { hash, type KeyObject } from 'node:crypto';
import { errors, jwtVerify, type JWTPayload } from 'jose';
import { LRUCache } from 'lru-cache';
import { asLine, findClaim, meets, scopesOf, type Claims } from './claims.ts';
import type { DenialReason } from './decision.ts';
import type { IssuerPolicy, TokenPolicy } from './policy.ts';
import { parseStrictObject } from './strict-json.ts';

/** Keys of one issuer, as verification needs them. */
export interface Keys {
  /**
   * Public keys that a token with this algorithm and key id may have been signed with; with `refusedBy`, only such as
   * are newer than that version, which did not verify the token. Never rejects.
   */
  readonly lookUp: (alg: string, kid: string | undefined, refusedBy?: number) => Promise<KeyLookup>;
  /** Changes whenever the keys do; undefined while there are none to rely on. */
  readonly version: () => number | undefined;
}

interface KeysFound {
  readonly outcome: 'found';
  readonly issuer: string;
  readonly version: number;
  readonly keys: readonly KeyObject[];
}

export type KeyLookup =
  | KeysFound
  /** The issuer has been asked lately and has no such key. */
  | { readonly outcome: 'unknown' }
  | { readonly outcome: 'unavailable'; readonly cause: string };

/** What a token says of its holder, once it is certain that the issuer said it. */
export interface VerifiedToken {
  readonly outcome: 'verified';
  readonly kid: string | undefined;
  readonly clientId: string;
  readonly clientName: string | undefined;
  /** The token is good, but lacks what this location requires. */
  readonly lacks: DenialReason | undefined;
}

export interface RejectedToken {
  readonly outcome: 'rejected';
  readonly reason: DenialReason;
  readonly kid: string | undefined;
}

export type TokenOutcome = VerifiedToken | RejectedToken | { readonly outcome: 'unavailable'; readonly cause: string };

export interface TokenVerifierOptions {
  readonly findKeys: (issuer: IssuerPolicy) => Keys;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Bytes, about, that verified tokens may take. */
  readonly capacity?: number;
  /** Counted up with every token. */
  readonly counts?: TokenCounts;
}

/** Tokens that were remembered or not, and what came of verifying those that were not. */
export interface TokenCounts extends Record<TokenOutcome['outcome'], number> {
  hits: number;
  misses: number;
}

/** Verifies an access token under a policy; at once when the same token was verified a moment ago. Never rejects. */
export type VerifyToken = (policy: TokenPolicy, token: string) => TokenOutcome | Promise<TokenOutcome>;

interface Remembered {
  readonly verified: VerifiedToken;
  readonly version: number;
  /** Milliseconds since the epoch. */
  readonly until: number;
}

const maxLength = 16 * 1024;
/** Milliseconds for which a verified token is remembered, at most until its `exp`. */
const rememberFor = 60_000;

export function createTokenVerifier(options: TokenVerifierOptions): VerifyToken {
  const { findKeys, now, capacity = 32 * 1024 * 1024, counts } = options;
  const remembered = new LRUCache<string, Remembered>({
    maxSize: capacity,
    sizeCalculation: ({ verified: { clientId, clientName = '' } }) => 512 + 2 * (clientId.length + clientName.length),
  });

  async function verify(policy: TokenPolicy, token: string, key: string, keys: Keys): Promise<TokenOutcome> {
    const header = readHeader(token, policy);
    if ('outcome' in header) return header;
    const signed = await findSigned(policy, token, header, keys);
    if ('outcome' in signed) return signed;
    const verified = judge(policy, signed.payload, header.kid, now());
    if (verified.outcome === 'rejected') return verified;
    const until = Math.min((signed.payload.exp ?? 0) * 1_000, now() + rememberFor);
    remembered.set(key, { verified, version: signed.version, until });
    return verified;
  }

  /** The claims, when one of the issuer's keys has signed them. */
  async function findSigned(
    policy: TokenPolicy,
    token: string,
    { alg, kid }: Header,
    keys: Keys,
  ): Promise<{ readonly payload: JWTPayload; readonly version: number } | Exclude<TokenOutcome, VerifiedToken>> {
    const reject = (reason: DenialReason): RejectedToken => ({ outcome: 'rejected', reason, kid });
    const verifyWith = (found: KeysFound) => verifySignature(policy, token, found.issuer, found.keys, now());
    let lookup = await keys.lookUp(alg, kid);
    if (lookup.outcome === 'unavailable') return lookup;
    if (lookup.outcome === 'unknown') return reject('unknown_signing_key');
    let payload = await verifyWith(lookup);
    if (payload === 'bad_signature') {
      // an issuer may have new keys under the old id, or without one: ask once more
      const newer = await keys.lookUp(alg, kid, lookup.version);
      // without an id, a key that cannot be asked for may have signed it
      if (newer.outcome === 'unavailable' && kid === undefined) return newer;
      if (newer.outcome === 'found') {
        lookup = newer;
        payload = await verifyWith(newer);
      }
    }
    return typeof payload === 'string' ? reject(payload) : { payload, version: lookup.version };
  }

  return (policy, token) => {
    if (token.length > maxLength) return { outcome: 'rejected', reason: 'token_too_large', kid: undefined };
    const keys = findKeys(policy.issuer);
    // everything that decided is in the key: the whole token and the whole policy
    const key = hash('sha256', `${policy.id}.${token}`, 'base64url');
    const known = remembered.get(key);
    if (known && known.until > now() && known.version === keys.version()) {
      if (counts) counts.hits++;
      return known.verified;
    }
    const outcome = verify(policy, token, key, keys);
    return counts ? count(outcome, counts) : outcome;
  };
}

async function count(verifying: Promise<TokenOutcome>, counts: TokenCounts): Promise<TokenOutcome> {
  counts.misses++;
  const outcome = await verifying;
  counts[outcome.outcome]++;
  return outcome;
}

interface Header {
  readonly alg: string;
  readonly kid: string | undefined;
}

/** Everything that can be refused before a key is looked for. */
function readHeader(token: string, { algorithms }: TokenPolicy): Header | RejectedToken {
  let kid: string | undefined;
  const reject = (reason: DenialReason): RejectedToken => ({ outcome: 'rejected', reason, kid });
  const parts = token.split('.');
  if (parts.length === 5) return reject('encrypted_token');
  if (parts.length !== 3) return reject('opaque_token');
  const [header, payload, signature] = parts.map(decodeCanonical);
  if (!header || !payload || !signature) return reject('malformed_token');
  const members = parseStrictObject(header);
  if (!members || !parseStrictObject(payload)) return reject('malformed_token');
  if (Object.hasOwn(members, 'kid')) {
    if (typeof members['kid'] !== 'string' || !/^.{1,256}$/su.test(members['kid'])) return reject('malformed_token');
    kid = members['kid'];
  }
  const { alg, typ } = members;
  if (typeof alg !== 'string' || !algorithms.includes(alg)) return reject('algorithm_not_allowed');
  // RFC 7515 4.1.11: what we do not understand must not be ignored; encodings and nesting have no place in an access token
  const isUnsupported = ['crit', 'b64', 'zip', 'enc', 'cty'].some((name) => Object.hasOwn(members, name));
  if (isUnsupported) return reject('unsupported_token');
  return typ === undefined || isAccessTokenType(typ) ? { alg, kid } : reject('not_an_access_token');
}

/** RFC 9068 2.1, RFC 7515 4.1.9. */
function isAccessTokenType(typ: unknown): boolean {
  return typeof typ === 'string' && /^(?:application\/)?(?:jwt|at\+jwt)$/i.test(typ);
}

/** RFC 7515 2: base64url without padding, in the one form that encodes these bytes. */
function decodeCanonical(part: string): Buffer | undefined {
  const bytes = Buffer.from(part, 'base64url');
  return bytes.length > 0 && bytes.toString('base64url') === part ? bytes : undefined;
}

/** The payload when one of the keys has signed it and its registered claims hold (RFC 7519 4.1). */
async function verifySignature(
  { algorithms, audiences, clockTolerance }: TokenPolicy,
  token: string,
  issuer: string,
  keys: readonly KeyObject[],
  now: number,
): Promise<JWTPayload | DenialReason> {
  const options = {
    algorithms: [...algorithms],
    issuer,
    ...(audiences && { audience: [...audiences] }),
    requiredClaims: ['exp', ...(audiences ? ['aud'] : [])],
    clockTolerance,
    currentDate: new Date(now),
  };
  for (const key of keys) {
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) return toReason(error);
    }
  }
  return 'bad_signature';
}

function toReason(error: unknown): DenialReason {
  if (error instanceof errors.JWTExpired) return 'token_expired';
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'aud') return 'wrong_audience';
    if (error.claim === 'iss') return 'wrong_issuer';
    if (error.claim === 'nbf' && error.reason === 'check_failed') return 'token_not_yet_valid';
    return 'invalid_claim';
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return 'algorithm_not_allowed';
  return 'malformed_token';
}

/** The claims that the policy names and those that give a token of another kind away. */
function judge(
  policy: TokenPolicy,
  claims: JWTPayload,
  kid: string | undefined,
  now: number,
): VerifiedToken | RejectedToken {
  const reject = (reason: DenialReason): RejectedToken => ({ outcome: 'rejected', reason, kid });
  const { exp, iat, nbf } = claims;
  if (![exp, iat ?? 0, nbf ?? 0].every((time) => Number.isFinite(time))) return reject('invalid_claim');
  const seconds = now / 1_000;
  if (iat !== undefined && iat > seconds + policy.clockTolerance) return reject('token_not_yet_valid');
  const lifetime = (exp ?? Infinity) - (iat ?? seconds);
  if (lifetime > policy.maxLifetime + policy.clockTolerance) return reject('lifetime_too_long');
  if (isOtherToken(claims)) return reject('not_an_access_token');
  // RFC 7800: it is good only together with a proof of possession, which nobody has checked
  if (Object.hasOwn(claims, 'cnf')) return reject('unsupported_token');
  const named = asLine(findClaim(claims, policy.clientIdClaim));
  if (named === undefined) return reject('no_client_id_claim');
  const clientId = policy.clientIdPrefix + named;
  const clientName = asLine(findClaim(claims, policy.clientNameClaim));
  return { outcome: 'verified', kid, clientId, clientName, lacks: findLack(policy, claims) };
}

/** ID tokens (OpenID Connect Core 2, 3.3.2.11), logout tokens (Back-Channel Logout 2.4), and how issuers mark theirs. */
function isOtherToken(claims: Claims): boolean {
  const { typ, token_use: use } = claims;
  // older versions of Keycloak put a nonce into access tokens, which they call Bearer
  if (typ === 'Bearer' || use === 'access') return Object.hasOwn(claims, 'events');
  return (
    ['nonce', 'at_hash', 'c_hash', 's_hash', 'events'].some((name) => Object.hasOwn(claims, name)) ||
    (typeof typ === 'string' && /^(?:id|refresh|offline|logout)$/i.test(typ)) ||
    (use !== undefined && use !== 'access')
  );
}

function findLack({ requiredClaims, requiredScopes }: TokenPolicy, claims: Claims): DenialReason | undefined {
  if (!requiredClaims.every((rule) => meets(claims, rule))) return 'claim_required';
  const scopes = scopesOf(claims);
  return requiredScopes.every((scope) => scopes.includes(scope)) ? undefined : 'insufficient_scope';
}
