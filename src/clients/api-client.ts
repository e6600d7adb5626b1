/** A registered API client. */
export interface ApiClient {
  /** Positive, given by the store, never reused. */
  readonly id: number;
  /** Unique; the application receives it as `X-Client-Id`. */
  readonly apiClientId: string;
  /** The application receives it as `X-Client-Name`. */
  readonly name: string;
  readonly description: string | null;
  readonly tags: readonly string[];
  /** What locations may ask for: `$required_scopes`. */
  readonly scopes: readonly string[];
  /** Where it may call from; none for anywhere. */
  readonly allowedCidrs: readonly string[];
  readonly isAdmin: boolean;
  /** A disabled client keeps its keys, and none of its credentials is accepted. */
  readonly isEnabled: boolean;
  /** Milliseconds since the epoch, as every time here. From then on it is as if disabled. */
  readonly expiresAt: number | null;
  /** Such as "100/s". */
  readonly rateLimit: string | null;
  /** Requests beyond the rate in ten of its spans. */
  readonly rateLimitBurst: number | null;
  /** Such as "100000/d". */
  readonly quota: string | null;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** To ten minutes; null for never. */
  readonly lastUsedAt: number | null;
}

/** What may be known of an API key. Its secret exists only in the answer that creates it. */
export interface ApiKey {
  readonly id: number;
  readonly clientId: number;
  /** The last four characters of the secret. */
  readonly hint: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  /** Since when another key has taken its place. */
  readonly replacedAt: number | null;
  /** Since when it is known to others, and refused. */
  readonly revokedAt: number | null;
  /** Made at start by `API_KEY_CREATE`, to be replaced by a key of the operator's own. */
  readonly isBootstrap: boolean;
  readonly firstUsedAt: number | null;
  /** To ten minutes, for a key that has been replaced exactly; null for never. */
  readonly lastUsedAt: number | null;
}

export interface StoredKey extends ApiKey {
  /** SHA-256 of the secret, 64 hexadecimal digits. */
  readonly digest: string;
  /** Made by another program, so its secret has no checksum. */
  readonly isImported: boolean;
}

export type KeyState = 'live' | 'replaced' | 'expired' | 'revoked';

export function stateOf({ expiresAt, replacedAt, revokedAt }: ApiKey, at: number): KeyState {
  if (revokedAt !== null) return 'revoked';
  if (expiresAt !== null && expiresAt <= at) return 'expired';
  return replacedAt === null ? 'live' : 'replaced';
}

/** Whether the key is accepted at that time, as far as the key itself is concerned. */
export function isAccepted(key: ApiKey, at: number): boolean {
  return ['live', 'replaced'].includes(stateOf(key, at));
}

/** RFC 3339, UTC. */
export function toTime(milliseconds: number): string;
export function toTime(milliseconds: number | null): string | null;
export function toTime(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}

/** Who does something, and in the course of which request. */
export interface Actor {
  /** Id of the API client; null for the program itself, or for whoever need not say who he is. */
  readonly clientId: number | null;
  readonly requestId: string | null;
  /** Who it is when it is no API client, such as "command line (root)". */
  readonly name?: string;
  /** Where the request came from; absent when it is not known, or there was none. */
  readonly address?: string;
}

/** One line of the audit trail. Details never hold a secret. */
export interface AuditEvent {
  readonly at: number;
  readonly actor: Actor;
  readonly action: string;
  /** Id of the API client that it was done to. */
  readonly clientId: number | null;
  /** `done`, or the reason code of the refusal. */
  readonly outcome: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface StoredEvent extends AuditEvent {
  /** Ascending in the order in which the events were stored. */
  readonly id: number;
  /** That of the store after the change; null for an event that changed nothing. */
  readonly revision: number | null;
}
