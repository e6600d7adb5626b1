import type { ApiClient, ApiKey, AuditEvent, StoredEvent, StoredKey } from './api-client.ts';

export type NewApiClient = Omit<ApiClient, 'id' | 'lastUsedAt'>;
export type NewApiKey = Pick<
  StoredKey,
  'clientId' | 'digest' | 'hint' | 'createdAt' | 'expiresAt' | 'isBootstrap' | 'isImported'
>;
export type ClientWithKeys = ApiClient & { readonly keys: readonly StoredKey[] };

/** What the domain asks of a database. Every method rejects with StoreUnavailable when the database cannot tell. */
export interface ClientStore {
  find(id: number): Promise<ClientWithKeys | undefined>;
  findByApiClientId(apiClientId: string): Promise<ClientWithKeys | undefined>;
  list(query: ClientQuery): Promise<ClientWithKeys[]>;
  /** Whether any key has no checksum. */
  hasImportedKeys(): Promise<boolean>;
  /** Bootstrap keys that are alive at that time. */
  liveBootstrapKeys(now: number): Promise<ApiKey[]>;
  /**
   * Runs the work in one transaction that also advances the revision: all of it is kept, durably, or nothing.
   * Changes run one after the other. Work that records no event has changed nothing, and the revision stays.
   */
  change<T>(work: (transaction: ClientTransaction) => Promise<T>): Promise<T>;
  /** Records an event that changed no client. */
  recordEvent(event: AuditEvent): Promise<void>;
  listEvents(query: EventQuery): Promise<StoredEvent[]>;
  /** Removes events from before that time, so many of the oldest at most. Resolves to how many they were. */
  pruneEvents(before: number, limit: number): Promise<number>;
  /** Keeps the time of the first use, once. */
  markKeyUsed(keyId: number, at: number): Promise<void>;
  /**
   * Keeps times of last use, unless later ones are kept already. No change: nobody need forget anything, and no change
   * waits for it. Resolves to those that are to be given again, because somebody else was writing to their rows.
   */
  recordUses(uses: readonly Use[]): Promise<readonly Use[]>;
}

export interface Use {
  readonly clientId: number;
  /** Undefined for an access token. */
  readonly keyId: number | undefined;
  readonly at: number;
}

export const sortOrders = ['id', 'name', 'created_at', 'last_used_at'] as const;
export type SortOrder = (typeof sortOrders)[number];

/** Which clients, in what order, and from where on. */
export interface ClientQuery {
  readonly limit: number;
  readonly sort: SortOrder;
  readonly isDescending: boolean;
  /** The last one of the page before: what it is sorted by, and its id. A client that was never used has the time 0. */
  readonly after: { readonly value: string | number; readonly id: number } | undefined;
  /** Part of the name; upper and lower case of A to Z are the same. */
  readonly name?: string | undefined;
  readonly apiClientId?: string | undefined;
  readonly tag?: string | undefined;
  readonly isAdmin?: boolean | undefined;
  readonly state?: 'enabled' | 'disabled' | 'expired' | undefined;
  /** Those that have not been used since then, and were there before. */
  readonly unusedSince?: number | undefined;
  /** Those that have used a key after another had taken its place, and still can. */
  readonly isUsingReplacedKey?: boolean | undefined;
  /** For what expires. */
  readonly now: number;
}

/** Which events of the audit trail, in the order of their ids. */
export interface EventQuery {
  readonly limit: number;
  readonly isDescending: boolean;
  /** The last one of the page before. */
  readonly after: number | undefined;
  /** Id of the API client that it was done to. */
  readonly clientId?: number | undefined;
  /** Id of the API client that did it. */
  readonly actorId?: number | undefined;
  /** An action, or the first part of several: `api_key` for `api_key.create` and `api_key.rotate`. */
  readonly action?: string | undefined;
  readonly outcome?: string | undefined;
  readonly requestId?: string | undefined;
  readonly since?: number | undefined;
  /** Before that time. */
  readonly until?: number | undefined;
}

/** The first client there is: for whoever wants to know whether the database answers. */
export const firstClient: ClientQuery = { limit: 1, sort: 'id', isDescending: false, after: undefined, now: 0 };

/** What a caller's own key for a creation stands for. */
export interface RememberedRequest {
  /** Digest of what was asked. */
  readonly requestDigest: string;
  readonly clientId: number;
  /** The key that was made with the client; null when none was. */
  readonly keyId: number | null;
}

export interface ClientTransaction {
  /** The one that this transaction makes, if it is kept. */
  readonly revision: number;
  find(id: number): Promise<ClientWithKeys | undefined>;
  findByApiClientIds(apiClientIds: readonly string[]): Promise<ReadonlyMap<string, ClientWithKeys>>;
  list(query: ClientQuery): Promise<ClientWithKeys[]>;
  /** The largest id that was ever given to a client; 0 when none was. */
  lastClientId(): Promise<number>;
  /**
   * Gives the client the next id, or this one, which must be larger than every one before.
   *
   * @throws {DuplicateApiClientId}
   */
  insertClient(client: NewApiClient, id?: number): Promise<number>;
  insertKey(key: NewApiKey): Promise<number>;
  updateKey(id: number, changes: Partial<Pick<ApiKey, 'expiresAt' | 'replacedAt' | 'revokedAt'>>): Promise<void>;
  removeKey(id: number): Promise<void>;
  /** @throws {DuplicateApiClientId} */
  updateClient(client: ApiClient): Promise<void>;
  /** Removes the client and its keys. */
  removeClient(id: number): Promise<void>;
  /**
   * Administrators that can authenticate beyond that time, by more than a bootstrap key. One without any key can by access
   * tokens, where they are accepted.
   */
  countAdmins(beyond: number, areTokensAccepted: boolean): Promise<number>;
  /** Clients whose only key is a bootstrap key that was never used, and that nobody has changed since. */
  untouchedBootstrapClients(): Promise<number[]>;
  recordEvent(event: AuditEvent): Promise<void>;
  /** What was remembered under this digest, no earlier than at that time. */
  recallRequest(digest: string, since: number): Promise<RememberedRequest | undefined>;
  /** Remembers a request, and forgets those from before `since`. */
  rememberRequest(digest: string, request: RememberedRequest, at: number, since: number): Promise<void>;
}

/** The database cannot answer now; the same call may succeed later. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable';
}

/** The database has stopped to answer while a change was being kept: it may be there or not. */
export class OutcomeUnknown extends StoreUnavailable {}

/** Another client has this `api_client_id`. */
export class DuplicateApiClientId extends Error {
  override readonly name = 'DuplicateApiClientId';
}
