import type { Knex } from 'knex';
import type { ApiClient, AuditEvent, StoredKey } from '../clients/api-client.ts';
import {
  DuplicateApiClientId,
  StoreUnavailable,
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
  is_admin: number;
  enabled: number;
  created_at: number;
  updated_at: number;
}

interface KeyRow {
  id: number;
  client_id: number;
  digest: string;
  expires_at: number | null;
  is_bootstrap: number;
  first_used_at: number | null;
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
      const found = new Map<ClientRow[Column], JoinedRow[]>();
      for (const row of rows) {
        const others = found.get(row[column]);
        if (others) others.push(row);
        else found.set(row[column], [row]);
      }
      return (value: ClientRow[Column]) => toClient(found.get(value) ?? []);
    });

  return {
    find: inBatches((ids) => lookUpClients('id', ids)),

    findByApiClientId: inBatches((apiClientIds) => lookUpClients('api_client_id', apiClientIds)),

    list: ({ after, limit }) =>
      ask(async () => {
        const rows = await read<ClientRow>('api_clients').where('id', '>', after).orderBy('id').limit(limit);
        const ids = rows.map(({ id }) => id);
        const first = ids[0];
        const last = ids.at(-1);
        if (first === undefined || last === undefined) return [];
        // a range, because SQLite bounds the number of values in a list
        const keys = await read<KeyRow>('api_keys').whereBetween('client_id', [first, last]);
        return rows.map((row) =>
          withKeys(
            row,
            keys.filter(({ client_id }) => client_id === row.id),
          ),
        );
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
  };
}

function createTransaction(transaction: Knex.Transaction, revision: number): ClientTransaction {
  return {
    find: async (id) => toClient(await transaction.raw<JoinedRow[]>(`${selectClient} where client.id = ?`, [id])),

    async insertClient(client) {
      const rows: Pick<ClientRow, 'id'>[] = await orDuplicate(transaction('api_clients').insert(toRow(client), ['id']));
      return (rows[0] as Pick<ClientRow, 'id'>).id;
    },

    async insertKey({ clientId, digest, createdAt, expiresAt, isBootstrap }) {
      const rows: Pick<KeyRow, 'id'>[] = await transaction('api_keys').insert(
        {
          client_id: clientId,
          digest,
          created_at: createdAt,
          expires_at: expiresAt,
          is_bootstrap: isBootstrap,
        },
        ['id'],
      );
      return (rows[0] as Pick<KeyRow, 'id'>).id;
    },

    async updateClient({ id, ...client }) {
      await orDuplicate(transaction('api_clients').where('id', id).update(toRow(client)));
    },

    async removeClient(id) {
      await transaction('api_clients').where('id', id).delete();
    },

    async countOtherAdmins(id, now, areTokensAccepted) {
      const row = await transaction<ClientRow>('api_clients as client')
        .where('is_admin', true)
        .andWhere('enabled', true)
        .whereNot('id', id)
        .whereRaw(
          `((? and not exists (select 1 from api_keys where client_id = client.id))
            or exists (select 1 from api_keys where client_id = client.id and not is_bootstrap
              and (expires_at is null or expires_at > ?)))`,
          [areTokensAccepted, now],
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
        .distinct('client.id as id');
      return rows.map(({ id }) => id);
    },

    recordEvent: (event) => insertEvent(transaction, event, revision),
  };
}

/** A row for each key of the client, and one if it has none. */
type JoinedRow = ClientRow & { [Column in keyof KeyRow as `key_${Column}`]: KeyRow[Column] | null };

/** One statement, so that a client and its keys are of the same moment. */
const selectClient = `select client.*, ${(
  ['id', 'client_id', 'digest', 'expires_at', 'is_bootstrap', 'first_used_at'] satisfies (keyof KeyRow)[]
)
  .map((column) => `key.${column} as key_${column}`)
  .join(', ')} from api_clients as client left join api_keys as key on key.client_id = client.id`;

function toClient(rows: readonly JoinedRow[]): ClientWithKeys | undefined {
  const [client] = rows;
  if (!client) return undefined;
  const keys = rows.flatMap((row): KeyRow[] => {
    if (row.key_id === null || row.key_client_id === null || row.key_digest === null) return [];
    return [
      {
        id: row.key_id,
        client_id: row.key_client_id,
        digest: row.key_digest,
        expires_at: row.key_expires_at,
        is_bootstrap: row.key_is_bootstrap ?? 0,
        first_used_at: row.key_first_used_at,
      },
    ];
  });
  return withKeys(client, keys);
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

function toRow({ apiClientId, name, isAdmin, isEnabled, createdAt, updatedAt }: Omit<ApiClient, 'id'>): object {
  return {
    api_client_id: apiClientId,
    name,
    is_admin: isAdmin,
    enabled: isEnabled,
    created_at: createdAt,
    updated_at: updatedAt,
  };
}

function withKeys(row: ClientRow, keys: readonly KeyRow[]): ClientWithKeys {
  return {
    id: row.id,
    apiClientId: row.api_client_id,
    name: row.name,
    isAdmin: Boolean(row.is_admin),
    isEnabled: Boolean(row.enabled),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    keys: keys.map(toKey),
  };
}

function toKey(row: KeyRow): StoredKey {
  return {
    id: row.id,
    clientId: row.client_id,
    digest: row.digest,
    expiresAt: row.expires_at,
    isBootstrap: Boolean(row.is_bootstrap),
    firstUsedAt: row.first_used_at,
  };
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
