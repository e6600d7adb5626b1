import type { ApiClient, StoredKey } from '../clients/api-client.ts';
import { StoreUnavailable, type ClientWithKeys } from '../clients/client-store.ts';

export interface ClientRow {
  id: number;
  api_client_id: string;
  name: string;
  description: string | null;
  /** Lists as JSON. */
  tags: string;
  scopes: string;
  allowed_cidrs: string;
  is_admin: number;
  enabled: number;
  expires_at: number | null;
  rate_limit: string | null;
  rate_limit_burst: number | null;
  quota: string | null;
  created_at: number;
  updated_at: number;
  /** 0 for never, here and below. */
  last_used_at: number;
}

export interface KeyRow {
  id: number;
  client_id: number;
  digest: string;
  hint: string;
  created_at: number;
  expires_at: number | null;
  replaced_at: number | null;
  revoked_at: number | null;
  is_bootstrap: number;
  is_imported: number;
  first_used_at: number | null;
  last_used_at: number;
}

/** A row for each key of the client, and one if it has none. */
export type JoinedRow = ClientRow & { [Column in keyof KeyRow as `key_${Column}`]: KeyRow[Column] | null };

const keyColumns = [
  'id',
  'client_id',
  'digest',
  'hint',
  'created_at',
  'expires_at',
  'replaced_at',
  'revoked_at',
  'is_bootstrap',
  'is_imported',
  'first_used_at',
  'last_used_at',
] as const satisfies (keyof KeyRow)[];

/** One statement, so that a client and its keys are of the same moment. */
export const selectClient = `select client.*, ${keyColumns
  .map((column) => `key.${column} as key_${column}`)
  .join(', ')} from api_clients as client left join api_keys as key on key.client_id = client.id`;

export function toClient(rows: readonly JoinedRow[]): ClientWithKeys | undefined {
  const [client] = rows;
  if (!client) return undefined;
  if (client.key_id === null) return withKeys(client, []);
  // that the row has a key means that all of its columns are those of the key
  const keys = rows.map((row) => Object.fromEntries(keyColumns.map((column) => [column, row[`key_${column}`]])));
  return withKeys(client, keys as unknown as KeyRow[]);
}

export function toRow(client: Omit<ApiClient, 'id' | 'lastUsedAt'>): Omit<ClientRow, 'id' | 'last_used_at'> {
  return {
    api_client_id: client.apiClientId,
    name: client.name,
    description: client.description,
    tags: JSON.stringify(client.tags),
    scopes: JSON.stringify(client.scopes),
    allowed_cidrs: JSON.stringify(client.allowedCidrs),
    is_admin: Number(client.isAdmin),
    enabled: Number(client.isEnabled),
    expires_at: client.expiresAt,
    rate_limit: client.rateLimit,
    rate_limit_burst: client.rateLimitBurst,
    quota: client.quota,
    created_at: client.createdAt,
    updated_at: client.updatedAt,
  };
}

export function withKeys(row: ClientRow, keys: readonly KeyRow[]): ClientWithKeys {
  return {
    id: row.id,
    apiClientId: row.api_client_id,
    name: row.name,
    description: row.description,
    tags: toList(row.tags),
    scopes: toList(row.scopes),
    allowedCidrs: toList(row.allowed_cidrs),
    isAdmin: toBoolean(row.is_admin),
    isEnabled: toBoolean(row.enabled),
    expiresAt: toMilliseconds(row.expires_at),
    rateLimit: row.rate_limit,
    rateLimitBurst: row.rate_limit_burst,
    quota: row.quota,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    lastUsedAt: row.last_used_at || null,
    keys: keys.map(toKey).sort((one, other) => one.id - other.id),
  };
}

export function toKey(row: KeyRow): StoredKey {
  return {
    id: row.id,
    clientId: row.client_id,
    digest: row.digest,
    hint: row.hint,
    createdAt: row.created_at,
    expiresAt: toMilliseconds(row.expires_at),
    replacedAt: toMilliseconds(row.replaced_at),
    revokedAt: toMilliseconds(row.revoked_at),
    isBootstrap: toBoolean(row.is_bootstrap),
    isImported: toBoolean(row.is_imported),
    firstUsedAt: row.first_used_at,
    lastUsedAt: row.last_used_at || null,
  };
}

// SQLite keeps whatever is written into a column. What somebody has put there by hand must not open a door: the text
// 'false' is true, and no time is later than '2026-01-01'.

/** @throws {StoreUnavailable} for anything but 0 and 1 */
function toBoolean(value: number): boolean {
  if (value === 0 || value === 1) return value === 1;
  throw unexpected(value, '0 or 1');
}

/** @throws {StoreUnavailable} for anything but a time or nothing */
function toMilliseconds(value: number | null): number | null {
  if (value === null || Number.isSafeInteger(value)) return value;
  throw unexpected(value, 'milliseconds since 1970, or null');
}

const noneWritten = '[]';
const none: readonly string[] = [];

/** @throws {StoreUnavailable} for anything but a list of text */
function toList(json: string): readonly string[] {
  if (json === noneWritten) return none;
  try {
    const list: unknown = JSON.parse(json);
    if (Array.isArray(list) && list.every((one) => typeof one === 'string')) return list;
  } catch {
    // said below
  }
  throw unexpected(json, 'a list of text in JSON');
}

function unexpected(value: unknown, wanted: string): StoreUnavailable {
  return new StoreUnavailable(`The database has ${JSON.stringify(value).slice(0, 100)} where ${wanted} must be.`);
}
