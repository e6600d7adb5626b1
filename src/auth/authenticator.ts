import type { TokenOutcome, VerifyToken } from './access-token.ts';
import { digestSecret, generateSecret, isIntact, isSameDigest, type ApiKeyCredential } from './api-key.ts';
import { parseCredential } from './credential.ts';
import {
  forbidden,
  unauthenticated,
  unavailable,
  type Decision,
  type DenialReason,
  type Granted,
  type Lifetime,
  type Principal,
} from './decision.ts';
import type { Network } from './network.ts';
import type { Policy, TokenPolicy } from './policy.ts';
import type { Limit } from './rate-limit.ts';

/** What is known of one API key. */
export interface KeyRecord extends UseMark {
  readonly id: number;
  /** Of the secret: `digestSecret`. A string, because a Buffer takes three times its memory. */
  readonly digest: string;
  /** Milliseconds since the epoch; null when the key does not expire. */
  readonly expiresAt: number | null;
  /** Since when another key has taken its place. */
  readonly replacedAt: number | null;
  readonly isRevoked: boolean;
  /** Made by `API_KEY_CREATE` and not used yet when it was read. */
  readonly isUnusedBootstrap: boolean;
}

/** An API client with its keys, as a decision needs it. */
export interface ClientRecord extends UseMark {
  readonly principal: Principal;
  readonly isEnabled: boolean;
  /** Milliseconds since the epoch; null when the client does not expire. */
  readonly expiresAt: number | null;
  readonly scopes: readonly string[];
  /** Where it may call from; undefined for anywhere. */
  readonly network: Network | undefined;
  readonly limits: readonly Limit[] | undefined;
  readonly keys: readonly KeyRecord[];
}

/** For whoever keeps the time of the last use: when it was noted last, as a number that is its own business. */
export interface UseMark {
  notedIn: number;
}

/** Finds an API client. Answers at once when it knows, and rejects when it cannot tell. */
export type FindClient = (id: string) => ClientRecord | undefined | Promise<ClientRecord | undefined>;

export interface AuthenticatorOptions {
  /** By its id, in decimal. */
  readonly findClient: FindClient;
  /** By its `api_client_id`. */
  readonly findClientByApiClientId: FindClient;
  readonly verifyToken: VerifyToken;
  /** Whether there are keys that were made by another program, without a checksum. */
  readonly hasImportedKeys: () => boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called for every grant, without a key when it was by an access token; must return at once and not throw. */
  readonly onUsed: (at: number, client: ClientRecord, key: KeyRecord | undefined) => void;
}

/** What a request presents. */
export interface Presented {
  /** The value of the `Authorization` header; undefined when there is none. */
  readonly authorization: string | undefined;
  /** The address that the request comes from, by nginx; empty when that is not known. */
  readonly clientAddress: string;
}

/** Decides on a request under a policy. Never rejects. */
export type Authenticate = (policy: Policy, presented: Presented) => Decision | Promise<Decision>;

// An unknown id is compared with this, so that it takes the steps that a wrong secret takes.
const noKeys: readonly KeyRecord[] = [
  {
    id: 0,
    digest: digestSecret(generateSecret('0')),
    expiresAt: 0,
    replacedAt: null,
    isRevoked: true,
    isUnusedBootstrap: false,
    notedIn: 0,
  },
];

export function createAuthenticator(options: AuthenticatorOptions): Authenticate {
  const { findClient, findClientByApiClientId, verifyToken, hasImportedKeys, now, onUsed } = options;

  function decideOnKey(
    policy: Policy,
    { clientAddress }: Presented,
    credential: ApiKeyCredential,
    client: ClientRecord | undefined,
  ): Decision {
    const digest = digestSecret(credential.secret);
    let match: KeyRecord | undefined;
    for (const key of client?.keys ?? noKeys) {
      if (isSameDigest(key.digest, digest)) match = key;
    }
    if (!client || !match) return unauthenticated('unknown_key');
    if (match.isRevoked) return unauthenticated('key_revoked');
    const at = now();
    if (match.expiresAt !== null && match.expiresAt <= at) return unauthenticated('key_expired');
    const obstacle = findObstacle(policy, client, clientAddress, at);
    if (obstacle) {
      const { clientId } = client.principal;
      return { outcome: 'forbidden', reason: obstacle, clientId, lifetime: lifetimeOf(client, match) };
    }
    onUsed(at, client, match);
    return grant(client, client.principal, lifetimeOf(client, match));
  }

  function authenticateKey(
    policy: Policy,
    presented: Presented,
    credential: ApiKeyCredential,
  ): Decision | Promise<Decision> {
    // before any lookup: whoever makes keys up costs no query
    const isMadeHere = isIntact(credential);
    if (!isMadeHere && !hasImportedKeys()) return unauthenticated('mistyped_key');
    const client = findClient(credential.clientId);
    if (!(client instanceof Promise)) return decideOnKey(policy, presented, credential, client);
    return client.then((found) => decideOnKey(policy, presented, credential, found), storeUnavailable);
  }

  function authenticateToken(policy: Policy, presented: Presented, token: string): Decision | Promise<Decision> {
    if (!policy.openIdConnectEnabled) return unauthenticated('method_disabled');
    const { tokens } = policy;
    if (!tokens) return unavailable('policy_invalid', policy.problems.join(' '));
    const outcome = verifyToken(tokens, token);
    if (!(outcome instanceof Promise)) return decideOnToken(policy, tokens, presented, outcome);
    return outcome.then((settled) => decideOnToken(policy, tokens, presented, settled));
  }

  function decideOnToken(
    policy: Policy,
    tokens: TokenPolicy,
    { clientAddress }: Presented,
    outcome: TokenOutcome,
  ): Decision | Promise<Decision> {
    const issuer = tokens.issuer.name;
    switch (outcome.outcome) {
      case 'rejected':
        return unauthenticated(outcome.reason, { issuer, kid: outcome.kid });
      case 'unavailable':
        return unavailable('issuer_unavailable', outcome.cause);
      case 'verified': {
        const trace = { issuer, kid: outcome.kid, client_id: outcome.clientId };
        if (outcome.lacks) return forbidden(outcome.lacks, trace);
        // looked up for every request: a token outlives neither its client nor the client's rights
        const client = findClientByApiClientId(outcome.clientId);
        const decide = (found: ClientRecord | undefined): Decision => {
          if (!found) return forbidden('unknown_client', trace);
          const at = now();
          const obstacle = findObstacle(policy, found, clientAddress, at);
          if (obstacle) return forbidden(obstacle, trace);
          onUsed(at, found, undefined);
          const clientName = outcome.clientName ?? found.principal.clientName;
          const principal: Principal = { ...found.principal, clientName, method: 'jwt' };
          return grant(found, principal, lifetimeOf(found, { expiresAt: outcome.expiresAt, replacedAt: null }));
        };
        return client instanceof Promise ? client.then(decide, storeUnavailable) : decide(client);
      }
    }
  }

  return (policy, presented) => {
    if (policy.challenge === '') return forbidden('authentication_disabled');
    const credential = parseCredential(presented.authorization);
    switch (credential.scheme) {
      case 'none':
        return unauthenticated('no_credential');
      case 'malformed':
        return unauthenticated('malformed_credential');
      case 'unsupported':
        return unauthenticated('unsupported_scheme');
      case 'bearer':
        return authenticateToken(policy, presented, credential.token);
      case 'apk':
        return policy.apiKeysEnabled
          ? authenticateKey(policy, presented, credential)
          : unauthenticated('method_disabled');
    }
  };
}

/** What stands between a client that has shown a good credential and a grant; the same for every kind of credential. */
function findObstacle(
  { requireAdmin, allowedClients, requiredScopes }: Policy,
  { principal, isEnabled, expiresAt, network, scopes }: ClientRecord,
  clientAddress: string,
  at: number,
): DenialReason | undefined {
  if (!isEnabled) return 'client_disabled';
  if (expiresAt !== null && expiresAt <= at) return 'client_expired';
  if (network && !network.has(clientAddress)) return 'address_not_allowed';
  if (requireAdmin && !principal.isAdmin) return 'admin_required';
  if (allowedClients && !allowedClients.has(principal.clientId)) return 'client_not_allowed';
  if (requiredScopes.some((scope) => !scopes.includes(scope))) return 'client_scope_required';
  return undefined;
}

/** Of a credential, which ends with its client. */
function lifetimeOf(client: ClientRecord, { expiresAt, replacedAt }: Lifetime): Lifetime {
  if (client.expiresAt === null) return { expiresAt, replacedAt };
  return { expiresAt: Math.min(client.expiresAt, expiresAt ?? Infinity), replacedAt };
}

function grant({ network, limits }: ClientRecord, principal: Principal, { expiresAt, replacedAt }: Lifetime): Granted {
  const isReusable = !network && !limits;
  return { outcome: 'granted', principal, expiresAt, isReusable, replacedAt, limits };
}

function storeUnavailable(cause: unknown): Decision {
  return unavailable('store_unavailable', cause);
}
