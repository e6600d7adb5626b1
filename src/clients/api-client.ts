/** A registered API client. */
export interface ApiClient {
  /** Positive, given by the store, never reused. */
  readonly id: number;
  /** Unique; the application receives it as `X-Client-Id`. */
  readonly apiClientId: string;
  /** The application receives it as `X-Client-Name`. */
  readonly name: string;
  readonly isAdmin: boolean;
  /** A disabled client keeps its keys, and none of its credentials is accepted. */
  readonly isEnabled: boolean;
  /** Milliseconds since the epoch, as every time here. */
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** What may be known of an API key. Its secret exists only in the answer that creates it. */
export interface ApiKey {
  readonly id: number;
  readonly clientId: number;
  readonly expiresAt: number | null;
  /** Made at start by `API_KEY_CREATE`, to be replaced by a key of the operator's own. */
  readonly isBootstrap: boolean;
  readonly firstUsedAt: number | null;
}

export interface StoredKey extends ApiKey {
  /** SHA-256 of the secret, 64 hexadecimal digits. */
  readonly digest: string;
}

/** Who does something, and in the course of which request. */
export interface Actor {
  /** Id of the API client; null for the program itself. */
  readonly clientId: number | null;
  readonly requestId: string | null;
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
