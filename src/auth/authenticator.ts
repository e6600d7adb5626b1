import { timingSafeEqual } from 'node:crypto';
import { digestSecret, generateSecret, type ApiKeyCredential } from './api-key.ts';
import { parseCredential } from './credential.ts';
import { forbidden, unauthenticated, unavailable, type Decision, type Principal } from './decision.ts';
import type { Policy } from './policy.ts';

/** What is known of one API key. */
export interface KeyRecord {
  readonly id: number;
  /** SHA-256 of the secret, 32 bytes. */
  readonly digest: Buffer;
  /** Milliseconds since the epoch; null when the key does not expire. */
  readonly expiresAt: number | null;
  /** Made by `API_KEY_CREATE` and not used yet when it was read. */
  readonly isUnusedBootstrap: boolean;
}

/** An API client with its keys, as a decision needs it. */
export interface ClientRecord {
  readonly principal: Principal;
  readonly keys: readonly KeyRecord[];
}

/** Finds an API client by its id in decimal. Answers at once when it knows, and rejects when it cannot tell. */
export type FindClient = (id: string) => ClientRecord | undefined | Promise<ClientRecord | undefined>;

export interface AuthenticatorOptions {
  readonly findClient: FindClient;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called for every grant; must return at once and not throw. */
  readonly onKeyUsed: (key: KeyRecord) => void;
}

/** Decides on the value of the `Authorization` header (undefined when there is none) under a policy. Never rejects. */
export type Authenticate = (policy: Policy, authorization: string | undefined) => Decision | Promise<Decision>;

// An unknown id is compared with this, so that it takes the steps that a wrong secret takes.
const noKeys: readonly KeyRecord[] = [
  { id: 0, digest: digestSecret(generateSecret()), expiresAt: 0, isUnusedBootstrap: false },
];

export function createAuthenticator({ findClient, now, onKeyUsed }: AuthenticatorOptions): Authenticate {
  function decideOnKey(credential: ApiKeyCredential, client: ClientRecord | undefined): Decision {
    const digest = digestSecret(credential.secret);
    let match: KeyRecord | undefined;
    for (const key of client?.keys ?? noKeys) {
      if (timingSafeEqual(key.digest, digest)) match = key;
    }
    if (!client || !match) return unauthenticated('unknown_key');
    if (match.expiresAt !== null && match.expiresAt <= now()) return unauthenticated('key_expired');
    onKeyUsed(match);
    return { outcome: 'granted', principal: client.principal };
  }

  function authenticateKey(credential: ApiKeyCredential): Decision | Promise<Decision> {
    const client = findClient(credential.clientId);
    if (!(client instanceof Promise)) return decideOnKey(credential, client);
    return client.then(
      (found) => decideOnKey(credential, found),
      (cause: unknown) => unavailable('store_unavailable', cause),
    );
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
        return policy.openIdConnectEnabled
          ? unavailable('issuer_unavailable', new Error('this version verifies no access tokens'))
          : unauthenticated('method_disabled');
      case 'apk':
        return policy.apiKeysEnabled ? authenticateKey(credential) : unauthenticated('method_disabled');
    }
  };
}
