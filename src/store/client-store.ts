import type { Knex } from 'knex';
import type { ApiClient, AuditEvent, StoredKey } from '../clients/api-client.ts';
import {
  DuplicateApiClientId,
  StoreUnavailable,
  type ClientQuery,
  type ClientStore,
  type ClientTransaction,
  type ClientWithKeys,
} from '../clients/client-store.ts';
import { inBatches } from './in-batches.ts';
import { isDuplicateApiClientId, type Database } from './sqlite.ts';

interface ClientRow {
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

interface RequestRow {
  digest: string;
  request_digest: string;
  client_id: number;
  key_id: number | null;
  at: number;
}

interface KeyRow {
  id: number;
  client_id: number;
  digest: string;
  hint: string;
  created_at: number;
  expires_at: number | null;
  replaced_at: number | null;
  revoked_at: number | null;
  is_bootstrap: number;
  first_used_at: number | null;
  last_used_at: number;
}

export function createClientStore({ read, write, lookUp, expectFile }: Database): ClientStore {
  const ask = <T>(work: () => Promise<T>): Promise<T> =>
    orUnavailable(async () => {
      expectFile();
      return work();
    });

  /** The file is checked by `lookUp`. */
  const lookUpClients = <Column extends 'id' | 'api_client_id'>(column: Column, values: readonly ClientRow[Column][]) =>
    orUnavailable(async () => {
      const rows = (await lookUp(
        `${selectClient} where client.${column} in (select value from json_each(?))`,
        JSON.stringify(values),
      )) as JoinedRow[];
      const found = groupBy<ClientRow[Column], JoinedRow>(rows, (row) => row[column]);
      return (value: ClientRow[Column]) => toClient(found.get(value) ?? []);
    });

  return {
    find: inBatches((ids) => lookUpClients('id', ids)),

    findByApiClientId: inBatches((apiClientIds) => lookUpClients('api_client_id', apiClientIds)),

    list: (query) =>
      ask(async () => {
        const rows = await selectClients(read, query);
        const ids = JSON.stringify(rows.map(({ id }) => id));
        const keys = await read<KeyRow>('api_keys').whereRaw('client_id in (select value from json_each(?))', [ids]);
        const byClient = groupBy(keys, ({ client_id }) => client_id);
        return rows.map((row) => withKeys(row, byClient.get(row.id) ?? []));
      }),

    liveBootstrapKeys: (now) =>
      ask(async () => {
        const rows = await read<KeyRow>('api_keys').where('is_bootstrap', true).andWhere('expires_at', '>', now);
        return rows.map(toKey);
      }),

    change: (work) =>
      ask(() =>
        write.transaction(async (transaction) => {
          // first, because it writes: the lock is taken before anything is read
          await transaction('revision').where('id', 1).increment('value', 1);
          const row = await transaction<{ value: number }>('revision').first('value');
          if (!row) throw new Error('the table revision is empty');
          const result = await work(createTransaction(transaction, row.value));
          expectFile();
          return result;
        }),
      ),

    recordEvent: (event) => ask(() => insertEvent(write, event, null)),

    markKeyUsed: (keyId, at) =>
      ask(async () => {
        await write('api_keys').where('id', keyId).whereNull('first_used_at').update({ first_used_at: at });
      }),

    recordUses: (uses) =>
      ask(async () => {
        await write.transaction(async (transaction) => {
          for (const { clientId, keyId, at } of uses) {
            const use = { last_used_at: at };
            await transaction('api_clients').where('id', clientId).andWhere('last_used_at', '<', at).update(use);
            if (keyId === undefined) continue;
            await transaction('api_keys').where('id', keyId).andWhere('last_used_at', '<', at).update(use);
          }
        });
      }),
  };
}

function createTransaction(transaction: Knex.Transaction, revision: number): ClientTransaction {
  return {
    find: async (id) => toClient(await transaction.raw<JoinedRow[]>(`${selectClient} where client.id = ?`, [id])),

    async insertClient(client) {
      const rows: Pick<ClientRow, 'id'>[] = await orDuplicate(transaction('api_clients').insert(toRow(client), ['id']));
      return (rows[0] as Pick<ClientRow, 'id'>).id;
    },

    async insertKey({ clientId, digest, hint, createdAt, expiresAt, isBootstrap }) {
      const rows: Pick<KeyRow, 'id'>[] = await transaction('api_keys').insert(
        {
          client_id: clientId,
          digest,
          hint,
          created_at: createdAt,
          expires_at: expiresAt,
          is_bootstrap: isBootstrap,
        },
        ['id'],
      );
      return (rows[0] as Pick<KeyRow, 'id'>).id;
    },

    async updateKey(id, { expiresAt, replacedAt, revokedAt }) {
      await transaction('api_keys')
        .where('id', id)
        .update({
          ...(expiresAt !== undefined && { expires_at: expiresAt }),
          ...(replacedAt !== undefined && { replaced_at: replacedAt }),
          ...(revokedAt !== undefined && { revoked_at: revokedAt }),
        });
    },

    async removeKey(id) {
      await transaction('api_keys').where('id', id).delete();
    },

    async updateClient({ id, ...client }) {
      await orDuplicate(transaction('api_clients').where('id', id).update(toRow(client)));
    },

    async removeClient(id) {
      await transaction('api_clients').where('id', id).delete();
    },

    async countAdmins(beyond, areTokensAccepted) {
      const row = await transaction<ClientRow>('api_clients as client')
        .where('is_admin', true)
        .andWhere('enabled', true)
        .andWhereRaw('(expires_at is null or expires_at > ?)', [beyond])
        .whereRaw(
          `((? and not exists (select 1 from api_keys where client_id = client.id))
            or exists (select 1 from api_keys as key where key.client_id = client.id and not key.is_bootstrap
              and key.revoked_at is null and (key.expires_at is null or key.expires_at > ?)))`,
          [areTokensAccepted, beyond],
        )
        .count({ count: '*' })
        .first();
      return Number(row?.['count'] ?? 0);
    },

    async untouchedBootstrapClients() {
      const rows: Pick<ClientRow, 'id'>[] = await transaction('api_clients as client')
        .join('api_keys as key', 'key.client_id', 'client.id')
        .whereRaw('client.created_at = client.updated_at')
        .andWhere('key.is_bootstrap', true)
        .whereNull('key.first_used_at')
        .whereRaw('not exists (select 1 from api_keys where client_id = client.id and not is_bootstrap)')
        .distinct('client.id as id');
      return rows.map(({ id }) => id);
    },

    recordEvent: (event) => insertEvent(transaction, event, revision),

    async recallRequest(digest, since) {
      const row = await transaction<RequestRow>('remembered_requests')
        .where({ digest })
        .andWhere('at', '>=', since)
        .first();
      return row && { requestDigest: row.request_digest, clientId: row.client_id, keyId: row.key_id };
    },

    async rememberRequest(digest, { requestDigest, clientId, keyId }, at, since) {
      await transaction('remembered_requests').where('at', '<', since).orWhere({ digest }).delete();
      await transaction<RequestRow>('remembered_requests').insert({
        digest,
        request_digest: requestDigest,
        client_id: clientId,
        key_id: keyId,
        at,
      });
    },
  };
}

/** A row for each key of the client, and one if it has none. */
type JoinedRow = ClientRow & { [Column in keyof KeyRow as `key_${Column}`]: KeyRow[Column] | null };

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
  'first_used_at',
  'last_used_at',
] as const satisfies (keyof KeyRow)[];

/** One statement, so that a client and its keys are of the same moment. */
const selectClient = `select client.*, ${keyColumns
  .map((column) => `key.${column} as key_${column}`)
  .join(', ')} from api_clients as client left join api_keys as key on key.client_id = client.id`;

function toClient(rows: readonly JoinedRow[]): ClientWithKeys | undefined {
  const [client] = rows;
  if (!client) return undefined;
  if (client.key_id === null) return withKeys(client, []);
  // that the row has a key means that all of its columns are those of the key
  const keys = rows.map((row) => Object.fromEntries(keyColumns.map((column) => [column, row[`key_${column}`]])));
  return withKeys(client, keys as unknown as KeyRow[]);
}

function selectClients(database: Knex, query: ClientQuery): PromiseLike<ClientRow[]> {
  const { limit, sort, isDescending, after, name, tag, isAdmin, state, unusedSince, isUsingReplacedKey, now } = query;
  const direction = isDescending ? 'desc' : 'asc';
  const beyond = isDescending ? '<' : '>';
  const found = database<ClientRow>('api_clients as client').orderBy(sort, direction).limit(limit);
  if (sort !== 'id') void found.orderBy('id', direction);
  if (after && sort === 'id') void found.where('id', beyond, after.id);
  else if (after) void found.whereRaw(`(??, id) ${beyond} (?, ?)`, [sort, after.value, after.id]);
  if (name !== undefined) void found.whereRaw("name like ? escape '\\'", [`%${name.replace(/[\\%_]/g, '\\$&')}%`]);
  if (tag !== undefined) void found.whereRaw('exists (select 1 from json_each(client.tags) where value = ?)', [tag]);
  if (isAdmin !== undefined) void found.where('is_admin', isAdmin);
  const hasExpired = '(expires_at is not null and expires_at <= ?)';
  if (state === 'expired') void found.whereRaw(hasExpired, [now]);
  else if (state !== undefined) void found.where('enabled', state === 'enabled').whereRaw(`not ${hasExpired}`, [now]);
  if (unusedSince !== undefined)
    void found.where('last_used_at', '<', unusedSince).where('created_at', '<', unusedSince);
  if (isUsingReplacedKey !== undefined) {
    const not = isUsingReplacedKey ? '' : 'not ';
    void found.whereRaw(
      `${not}exists (select 1 from api_keys as key where key.client_id = client.id and key.replaced_at is not null
        and key.last_used_at >= key.replaced_at and key.revoked_at is null and key.expires_at > ?)`,
      [now],
    );
  }
  return found;
}

async function insertEvent(database: Knex, event: AuditEvent, revision: number | null): Promise<void> {
  await database('audit_events').insert({
    revision,
    at: event.at,
    actor_client_id: event.actor.clientId,
    request_id: event.actor.requestId,
    action: event.action,
    client_id: event.clientId,
    outcome: event.outcome,
    details: event.details ? JSON.stringify(event.details) : null,
  });
}

function toRow(client: Omit<ApiClient, 'id' | 'lastUsedAt'>): Omit<ClientRow, 'id' | 'last_used_at'> {
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

function withKeys(row: ClientRow, keys: readonly KeyRow[]): ClientWithKeys {
  return {
    id: row.id,
    apiClientId: row.api_client_id,
    name: row.name,
    description: row.description,
    tags: toList(row.tags),
    scopes: toList(row.scopes),
    allowedCidrs: toList(row.allowed_cidrs),
    isAdmin: Boolean(row.is_admin),
    isEnabled: Boolean(row.enabled),
    expiresAt: row.expires_at,
    rateLimit: row.rate_limit,
    rateLimitBurst: row.rate_limit_burst,
    quota: row.quota,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    lastUsedAt: row.last_used_at || null,
    keys: keys.map(toKey).sort((one, other) => one.id - other.id),
  };
}

const noneWritten = '[]';
const none: readonly string[] = [];

/** @throws {StoreUnavailable} when somebody has written something else there: whatever it restricted is not known */
function toList(json: string): readonly string[] {
  if (json === noneWritten) return none;
  try {
    const list: unknown = JSON.parse(json);
    if (Array.isArray(list) && list.every((one) => typeof one === 'string')) return list;
  } catch {
    // said below
  }
  throw new StoreUnavailable(`The database has ${json.slice(0, 100)} where a list of text must be.`);
}

function toKey(row: KeyRow): StoredKey {
  return {
    id: row.id,
    clientId: row.client_id,
    digest: row.digest,
    hint: row.hint,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    replacedAt: row.replaced_at,
    revokedAt: row.revoked_at,
    isBootstrap: Boolean(row.is_bootstrap),
    firstUsedAt: row.first_used_at,
    lastUsedAt: row.last_used_at || null,
  };
}

function groupBy<K, V>(values: readonly V[], keyOf: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) {
    const group = groups.get(keyOf(value));
    if (group) group.push(value);
    else groups.set(keyOf(value), [value]);
  }
  return groups;
}

async function orDuplicate<T>(statement: PromiseLike<T>): Promise<T> {
  try {
    return await statement;
  } catch (error) {
    throw isDuplicateApiClientId(error) ? new DuplicateApiClientId() : error;
  }
}

/** The rules' own errors pass; whatever the driver says becomes StoreUnavailable. */
async function orUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isDriverError(error)) throw new StoreUnavailable(`The database does not answer: ${withoutStatement(error)}`);
    throw error;
  }
}

/** Drivers put a code on their errors; knex has a class of its own for a queue that was too long. */
function isDriverError(error: unknown): error is Error {
  return error instanceof Error && (error.name === 'KnexTimeoutError' || 'code' in error || 'errno' in error);
}

/** knex writes the statement with its values before the driver's message; they must not reach a log. */
export function withoutStatement({ message }: Error): string {
  return message.slice(message.lastIndexOf(' - ') + 1).replace(/^- /, '');
}
