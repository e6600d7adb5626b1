import type { TokenOutcome, VerifyToken } from './access-token.ts';
import { digestSecret, generateSecret, isIntact, isSameDigest, type ApiKeyCredential } from './api-key.ts';
import { parseCredential } from './credential.ts';
import { forbidden, unauthenticated, unavailable, type Decision, type Principal } from './decision.ts';
import type { Policy, TokenPolicy } from './policy.ts';

/** What is known of one API key. */
export interface KeyRecord {
  readonly id: number;
  /** Of the secret: `digestSecret`. A string, because a Buffer takes three times its memory. */
  readonly digest: string;
  /** Milliseconds since the epoch; null when the key does not expire. */
  readonly expiresAt: number | null;
  /** Made by `API_KEY_CREATE` and not used yet when it was read. */
  readonly isUnusedBootstrap: boolean;
}

/** An API client with its keys, as a decision needs it. */
export interface ClientRecord {
  readonly principal: Principal;
  readonly isEnabled: boolean;
  readonly keys: readonly KeyRecord[];
}

/** Finds an API client. Answers at once when it knows, and rejects when it cannot tell. */
export type FindClient = (id: string) => ClientRecord | undefined | Promise<ClientRecord | undefined>;

export interface AuthenticatorOptions {
  /** By its id, in decimal. */
  readonly findClient: FindClient;
  /** By its `api_client_id`. */
  readonly findClientByApiClientId: FindClient;
  readonly verifyToken: VerifyToken;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called for every grant by key; must return at once and not throw. */
  readonly onKeyUsed: (key: KeyRecord) => void;
}

/** Decides on the value of the `Authorization` header (undefined when there is none) under a policy. Never rejects. */
export type Authenticate = (policy: Policy, authorization: string | undefined) => Decision | Promise<Decision>;

// An unknown id is compared with this, so that it takes the steps that a wrong secret takes.
const noKeys: readonly KeyRecord[] = [
  { id: 0, digest: digestSecret(generateSecret('0')), expiresAt: 0, isUnusedBootstrap: false },
];

export function createAuthenticator(options: AuthenticatorOptions): Authenticate {
  const { findClient, findClientByApiClientId, verifyToken, now, onKeyUsed } = options;

  function decideOnKey(policy: Policy, credential: ApiKeyCredential, client: ClientRecord | undefined): Decision {
    const digest = digestSecret(credential.secret);
    let match: KeyRecord | undefined;
    for (const key of client?.keys ?? noKeys) {
      if (isSameDigest(key.digest, digest)) match = key;
    }
    if (!client || !match) return unauthenticated('unknown_key');
    if (match.expiresAt !== null && match.expiresAt <= now()) return unauthenticated('key_expired');
    if (!client.isEnabled) return forbidden('client_disabled');
    onKeyUsed(match);
    return grant(policy, client.principal, match.expiresAt);
  }

  function authenticateKey(policy: Policy, credential: ApiKeyCredential): Decision | Promise<Decision> {
    // before any lookup: whoever makes keys up costs no query
    if (!isIntact(credential)) return unauthenticated('mistyped_key');
    const client = findClient(credential.clientId);
    if (!(client instanceof Promise)) return decideOnKey(policy, credential, client);
    return client.then((found) => decideOnKey(policy, credential, found), storeUnavailable);
  }

  function authenticateToken(policy: Policy, token: string): Decision | Promise<Decision> {
    if (!policy.openIdConnectEnabled) return unauthenticated('method_disabled');
    const { tokens } = policy;
    if (!tokens) return unavailable('policy_invalid', policy.problems.join(' '));
    const outcome = verifyToken(tokens, token);
    if (!(outcome instanceof Promise)) return decideOnToken(policy, tokens, outcome);
    return outcome.then((settled) => decideOnToken(policy, tokens, settled));
  }

  function decideOnToken(policy: Policy, tokens: TokenPolicy, outcome: TokenOutcome): Decision | Promise<Decision> {
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
          if (!found.isEnabled) return forbidden('client_disabled', trace);
          const clientName = outcome.clientName ?? found.principal.clientName;
          return grant(policy, { ...found.principal, clientName, method: 'jwt' }, outcome.expiresAt);
        };
        return client instanceof Promise ? client.then(decide, storeUnavailable) : decide(client);
      }
    }
  }

  return (policy, authorization) => {
    if (policy.challenge === '') return forbidden('authentication_disabled');
    const credential = parseCredential(authorization);
    switch (credential.scheme) {
      case 'none':
        return unauthenticated('no_credential');
      case 'malformed':
        return unauthenticated('malformed_credential');
      case 'unsupported':
        return unauthenticated('unsupported_scheme');
      case 'bearer':
        return authenticateToken(policy, credential.token);
      case 'apk':
        return policy.apiKeysEnabled ? authenticateKey(policy, credential) : unauthenticated('method_disabled');
    }
  };
}

function grant({ requireAdmin }: Policy, principal: Principal, expiresAt: number | null): Decision {
  return requireAdmin && !principal.isAdmin
    ? forbidden('admin_required')
    : { outcome: 'granted', principal, expiresAt };
}

function storeUnavailable(cause: unknown): Decision {
  return unavailable('store_unavailable', cause);
}
