import type { ApiClient, ApiKey, AuditEvent, StoredKey } from './api-client.ts';

export type NewApiClient = Omit<ApiClient, 'id'>;
export type NewApiKey = Omit<StoredKey, 'id' | 'firstUsedAt'> & { readonly createdAt: number };
export type ClientWithKeys = ApiClient & { readonly keys: readonly StoredKey[] };

/** What the domain asks of a database. Every method rejects with StoreUnavailable when the database cannot tell. */
export interface ClientStore {
  find(id: number): Promise<ClientWithKeys | undefined>;
  findByApiClientId(apiClientId: string): Promise<ClientWithKeys | undefined>;
  /** Clients in the order of their ids, from the first after `after`. */
  list(page: { readonly after: number; readonly limit: number }): Promise<ClientWithKeys[]>;
  /** Bootstrap keys that are alive at that time. */
  liveBootstrapKeys(now: number): Promise<ApiKey[]>;
  /**
   * Runs the work in one transaction that also advances the revision: all of it is kept, durably, or nothing.
   * Changes run one after the other.
   */
  change<T>(work: (transaction: ClientTransaction) => Promise<T>): Promise<T>;
  /** Records an event that changed no client. */
  recordEvent(event: AuditEvent): Promise<void>;
  /** Keeps the time of the first use, once. */
  markKeyUsed(keyId: number, at: number): Promise<void>;
}

export interface ClientTransaction {
  find(id: number): Promise<ClientWithKeys | undefined>;
  /** @throws {DuplicateApiClientId} */
  insertClient(client: NewApiClient): Promise<number>;
  insertKey(key: NewApiKey): Promise<number>;
  /** @throws {DuplicateApiClientId} */
  updateClient(client: ApiClient): Promise<void>;
  /** Removes the client and its keys. */
  removeClient(id: number): Promise<void>;
  /**
   * Administrators other than this client that can authenticate at that time, by more than a bootstrap key. One without
   * any key can by access tokens, where they are accepted.
   */
  countOtherAdmins(id: number, now: number, areTokensAccepted: boolean): Promise<number>;
  /** Clients whose only key is a bootstrap key that was never used, and that nobody has changed since. */
  untouchedBootstrapClients(): Promise<number[]>;
  recordEvent(event: AuditEvent): Promise<void>;
}

/** The database cannot answer now; the same call may succeed later. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable';
}

/** Another client has this `api_client_id`. */
export class DuplicateApiClientId extends Error {
  override readonly name = 'DuplicateApiClientId';
}
