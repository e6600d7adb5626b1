import { hash, type KeyObject } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { asLine, findClaim, meets, scopesOf, type Claims } from './claims.ts';
import type { DenialReason } from './decision.ts';
import { encodeHeaderValue, type HeaderValue } from './header-value.ts';
import type { IssuerPolicy, TokenPolicy } from './policy.ts';
import { findFault } from './registered-claims.ts';
import { isSignedBy, type IsSignedBy } from './signature.ts';
import { parseStrictObject } from './strict-json.ts';
import { createTurns } from './turns.ts';

/** Keys of one issuer, as verification needs them. */
export interface Keys {
  /**
   * Public keys that a token with this algorithm and key id may have been signed with; with `refusedBy`, only such as
   * are newer than that version, which did not verify the token. At once unless the issuer must be asked; never rejects.
   */
  readonly lookUp: (alg: string, kid: string | undefined, refusedBy?: number) => KeyLookup | Promise<KeyLookup>;
  /** Changes when the keys do; undefined while there are none to rely on. */
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
  readonly clientName: HeaderValue | undefined;
  /** The token is good, but lacks what this location requires. */
  readonly lacks: DenialReason | undefined;
  /** Its `exp`, in milliseconds since the epoch. */
  readonly expiresAt: number;
}

export interface RejectedToken {
  readonly outcome: 'rejected';
  readonly reason: DenialReason;
  readonly kid: string | undefined;
}

export interface UnavailableToken {
  readonly outcome: 'unavailable';
  readonly cause: string;
}

export type TokenOutcome = VerifiedToken | RejectedToken | UnavailableToken;

export interface TokenVerifierOptions {
  readonly findKeys: (issuer: IssuerPolicy) => Keys;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Bytes, about, that verified tokens may take. */
  readonly capacity?: number;
  /** node:crypto's; a test counts its calls. */
  readonly isSignedBy?: IsSignedBy;
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
  /** Milliseconds since the epoch. A clock that has been put back before this has the token judged anew. */
  readonly since: number;
  readonly until: number;
}

interface UnderWay {
  readonly outcome: Promise<TokenOutcome>;
  /** Of the keys when it began. */
  readonly version: number | undefined;
}

const maxLength = 16 * 1024;
/** Milliseconds for which a verified token is remembered, at most until its `exp`. */
const rememberFor = 60_000;
/** Signatures that may wait to be verified: some 15 ms of work, and some 60 MB if each token is as large as may be. */
const maxWaiting = 250;

export function createTokenVerifier(options: TokenVerifierOptions): VerifyToken {
  const { findKeys, now, capacity = 32 * 1024 * 1024, counts } = options;
  const findSigner = createSignerSearch(options.isSignedBy ?? isSignedBy);
  const underWay = new Map<string, UnderWay>();
  const remembered = createTokenMemory(capacity);

  async function verify(policy: TokenPolicy, token: ReceivedToken, key: string, keys: Keys): Promise<TokenOutcome> {
    const signer = await findSigner(token, keys);
    if (signer.outcome !== 'found') return signer;
    const since = now();
    const verified = judge(policy, token, signer.issuer, since);
    if (verified.outcome === 'rejected') return verified;
    const until = Math.min(verified.expiresAt, since + rememberFor);
    remembered.set(key, { verified, version: signer.version, since, until });
    return verified;
  }

  /** The same token at the same time is verified once. */
  function share(key: string, version: number | undefined, outcome: Promise<TokenOutcome>): Promise<TokenOutcome> {
    const entry = { outcome, version };
    underWay.set(key, entry);
    return outcome.finally(() => {
      if (underWay.get(key) === entry) underWay.delete(key);
    });
  }

  return (policy, token) => {
    if (token.length > maxLength) return { outcome: 'rejected', reason: 'token_too_large', kid: undefined };
    const keys = findKeys(policy.issuer);
    const version = keys.version();
    // everything that decided is in the key: the whole token and the whole policy
    const key = hash('sha256', `${policy.id}.${token}`, 'base64url');
    const known = remembered.get(key);
    const at = now();
    if (known && known.since <= at && at < known.until && known.version === version) {
      if (counts) counts.hits++;
      return known.verified;
    }
    const begun = underWay.get(key);
    if (begun && begun.version === version) return begun.outcome;
    const received = readToken(token, policy);
    const outcome = 'outcome' in received ? received : share(key, version, verify(policy, received, key, keys));
    return counts ? count(outcome, counts) : outcome;
  };
}

/**
 * Verified tokens. Those that count no more go when others come, before there is no room.
 *
 * @param capacity bytes, about
 */
export function createTokenMemory(capacity: number) {
  const tokens = new LRUCache<string, Remembered>({
    maxSize: capacity,
    sizeCalculation: ({ verified: { clientId, clientName = '' } }) => 512 + 2 * (clientId.length + clientName.length),
  });
  return {
    get: (key: string) => tokens.get(key),
    set(key: string, token: Remembered): void {
      // two for one: what has gathered while many came at once goes too
      for (let count = 0; count < 2; count++) {
        const { value: oldest } = tokens.rvalues().next();
        if (!oldest || token.since < oldest.until) break;
        tokens.pop();
      }
      tokens.set(key, token);
    },
    count: () => tokens.size,
  };
}

/** The keys among which one has signed the token, or why there are none. */
type FindSigner = (token: ReceivedToken, keys: Keys) => Promise<KeysFound | RejectedToken | UnavailableToken>;

function createSignerSearch(isSignedBy: IsSignedBy): FindSigner {
  const takeTurn = createTurns(maxWaiting);

  /** Each key takes a turn of its own: nothing else waits for longer than one verification. */
  async function tryKeys(token: ReceivedToken, found: KeysFound): Promise<KeysFound | UnavailableToken | undefined> {
    for (const key of found.keys) {
      const turn = takeTurn();
      if (!turn) return { outcome: 'unavailable', cause: `${maxWaiting} access tokens wait to be verified already.` };
      await turn;
      if (isSignedBy(token.alg, key, token.input, token.signature)) return found;
    }
    return undefined;
  }

  return async (token, keys) => {
    const { alg, kid } = token;
    const reject = (reason: DenialReason): RejectedToken => ({ outcome: 'rejected', reason, kid });
    const lookup = await keys.lookUp(alg, kid);
    if (lookup.outcome === 'unavailable') return lookup;
    if (lookup.outcome === 'unknown') return reject('unknown_signing_key');
    const signer = await tryKeys(token, lookup);
    if (signer) return signer;
    // an issuer may have new keys under the old id, or without one: ask once more
    const newer = await keys.lookUp(alg, kid, lookup.version);
    // without an id, a key that cannot be asked for may have signed it
    if (newer.outcome === 'unavailable' && kid === undefined) return newer;
    const newSigner = newer.outcome === 'found' ? await tryKeys(token, newer) : undefined;
    return newSigner ?? reject('bad_signature');
  };
}

function count(
  outcome: TokenOutcome | Promise<TokenOutcome>,
  counts: TokenCounts,
): TokenOutcome | Promise<TokenOutcome> {
  counts.misses++;
  if (outcome instanceof Promise) {
    return outcome.then((settled) => {
      counts[settled.outcome]++;
      return settled;
    });
  }
  counts[outcome.outcome]++;
  return outcome;
}

interface Header {
  readonly alg: string;
  readonly kid: string | undefined;
}

/** A token of which nothing is certain yet but its form. */
interface ReceivedToken extends Header {
  readonly claims: Claims;
  /** What is signed (RFC 7515 5.2). */
  readonly input: Buffer;
  readonly signature: Buffer;
}

/** Everything that can be refused before a key is looked for. */
function readToken(token: string, policy: TokenPolicy): ReceivedToken | RejectedToken {
  const reject = (reason: DenialReason): RejectedToken => ({ outcome: 'rejected', reason, kid: undefined });
  const parts = token.split('.');
  if (parts.length === 5) return reject('encrypted_token');
  if (parts.length !== 3) return reject('opaque_token');
  const [head, payload, signature] = parts.map(decodeCanonical);
  if (!head || !payload || !signature) return reject('malformed_token');
  const members = parseStrictObject(head);
  const claims = parseStrictObject(payload);
  if (!members || !claims) return reject('malformed_token');
  const header = readHeader(members, policy);
  if ('outcome' in header) return header;
  const input = Buffer.from(token.slice(0, token.lastIndexOf('.')), 'latin1');
  return { alg: header.alg, kid: header.kid, claims, input, signature };
}

function readHeader(members: Readonly<Record<string, unknown>>, { algorithms }: TokenPolicy): Header | RejectedToken {
  let kid: string | undefined;
  const reject = (reason: DenialReason): RejectedToken => ({ outcome: 'rejected', reason, kid });
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

/** The claims of a token that its issuer has signed. */
function judge(
  policy: TokenPolicy,
  { claims, kid }: ReceivedToken,
  issuer: string,
  now: number,
): VerifiedToken | RejectedToken {
  const reject = (reason: DenialReason): RejectedToken => ({ outcome: 'rejected', reason, kid });
  const fault = findFault(policy, claims, issuer, now);
  if (fault) return reject(fault);
  if (isOtherToken(claims)) return reject('not_an_access_token');
  // RFC 7800: it is good only together with a proof of possession, which nobody has checked
  if (Object.hasOwn(claims, 'cnf')) return reject('unsupported_token');
  const named = asLine(findClaim(claims, policy.clientIdClaim));
  if (named === undefined) return reject('no_client_id_claim');
  const clientId = policy.clientIdPrefix + named;
  const clientName = asLine(findClaim(claims, policy.clientNameClaim));
  return {
    outcome: 'verified',
    kid,
    clientId,
    clientName: clientName === undefined ? undefined : encodeHeaderValue(clientName),
    lacks: findLack(policy, claims),
    expiresAt: Number(claims['exp']) * 1_000,
  };
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
