import type { Knex } from 'knex';
import {
  DuplicateApiClientId,
  OutcomeUnknown,
  StoreUnavailable,
  type ClientQuery,
  type ClientStore,
  type ClientTransaction,
  type ClientWithKeys,
  type Use,
} from '../clients/client-store.ts';
import { createHistogram, record, type Histogram } from '../histogram.ts';
import {
  selectClient,
  toClient,
  toKey,
  toRow,
  withKeys,
  type ClientRow,
  type JoinedRow,
  type KeyRow,
} from './client-rows.ts';
import { insertEvent, pruneEvents, selectEvents, toEvent } from './events.ts';
import { inBatches } from './in-batches.ts';
import { selectClients } from './select-clients.ts';
import type { Database } from './database.ts';
import type { Dialect } from './dialect.ts';

interface RequestRow {
  digest: string;
  request_digest: string;
  client_id: number;
  key_id: number | null;
  at: number;
}

/** How long the database took: to find the client of a credential, for other questions, and for what is written. */
export type StoreDurations = Readonly<Record<'lookup' | 'read' | 'change', Histogram>>;

export function createStoreDurations(): StoreDurations {
  return { lookup: createHistogram(), read: createHistogram(), change: createHistogram() };
}

export function createClientStore(
  { dialect, read, write, lookUp, expectFile }: Database,
  durations = createStoreDurations(),
): ClientStore {
  const ask = <T>(operation: keyof StoreDurations, work: () => Promise<T>): Promise<T> =>
    timed(durations[operation], () =>
      orUnavailable(async () => {
        expectFile();
        return work();
      }),
    );

  /** The file is checked by `lookUp`. */
  const lookUpClients = <Column extends 'id' | 'api_client_id'>(column: Column, values: readonly ClientRow[Column][]) =>
    orUnavailable(async () => {
      const statement = column === 'id' ? selectById : selectByApiClientId;
      const rows = (await timed(durations.lookup, () => lookUp(statement, dialect.toList(values)))) as JoinedRow[];
      const found = groupBy<ClientRow[Column], JoinedRow>(rows, (row) => row[column]);
      return (value: ClientRow[Column]) => toClient(found.get(value) ?? []);
    });

  const selectById = `${selectClient} where ${dialect.isOneOf('client.id', 'bigint')}`;
  const selectByApiClientId = `${selectClient} where ${dialect.isOneOf('client.api_client_id', 'text')}`;
  const find = inBatches((ids: readonly number[]) => lookUpClients('id', ids));
  const findByApiClientId = inBatches((names: readonly string[]) => lookUpClients('api_client_id', names));

  return {
    // what no database can have is not asked for: for PostgreSQL it would be an error, and of the whole batch
    find: async (id) => (Number.isSafeInteger(id) ? find(id) : undefined),

    findByApiClientId: async (name) => (name.includes('\0') ? undefined : findByApiClientId(name)),

    list: (query) => ask('read', () => listClients(dialect, read, query)),

    hasImportedKeys: () =>
      ask('read', async () => (await read<KeyRow>('api_keys').whereRaw('is_imported').first('id')) !== undefined),

    liveBootstrapKeys: (now) =>
      ask('read', async () => {
        const rows = await read<KeyRow>('api_keys').where('is_bootstrap', true).andWhere('expires_at', '>', now);
        return rows.map(toKey);
      }),

    change: (work) =>
      ask('change', async () => {
        const progress = { isDone: false };
        try {
          return await write.transaction(async (transaction) => {
            const changes = createTransaction(dialect, transaction, await dialect.advanceRevision(transaction));
            let events = 0;
            const result = await work({
              ...changes,
              recordEvent: (event) => {
                events++;
                return changes.recordEvent(event);
              },
            });
            // whoever changes something says so; who has found nothing to change makes no revision
            if (events === 0) await transaction('revision').where('id', 1).decrement('value', 1);
            expectFile();
            progress.isDone = true;
            return result;
          });
        } catch (error) {
          if (progress.isDone && dialect.isOutcomeUnknown(error)) throw new OutcomeUnknown(messageOf(error as Error));
          throw error;
        }
      }),

    recordEvent: (event) =>
      ask('change', () => dialect.inTurn(write, (transaction) => insertEvent(transaction, event, null))),

    listEvents: (query) => ask('read', async () => (await selectEvents(read, query)).map(toEvent)),

    pruneEvents: (before, limit) => ask('change', () => pruneEvents(write, before, limit)),

    markKeyUsed: (keyId, at) =>
      ask('change', async () => {
        await write('api_keys').where('id', keyId).whereNull('first_used_at').update({ first_used_at: at });
      }),

    recordUses: (uses) =>
      ask('change', async () => {
        const late: Use[] = [];
        for (const [table, idOf] of usedTables) {
          const ats = uses.flatMap((use) => {
            const id = idOf(use);
            return id === undefined ? [] : [[id, use.at] as const];
          });
          const busy = new Set(await dialect.recordUses(write, table, ats));
          late.push(...uses.filter((use) => busy.has(idOf(use) ?? 0)));
        }
        return late;
      }),
  };
}

async function listClients(dialect: Dialect, database: Knex, query: ClientQuery): Promise<ClientWithKeys[]> {
  const rows = await selectClients(dialect, database, query);
  const ids = dialect.toList(rows.map(({ id }) => id)) as Knex.RawBinding;
  const keys = await database<KeyRow>('api_keys').whereRaw(dialect.isOneOf('client_id', 'bigint'), [ids]);
  const byClient = groupBy(keys, ({ client_id }) => client_id);
  return rows.map((row) => withKeys(row, byClient.get(row.id) ?? []));
}

const usedTables = [
  ['api_clients', ({ clientId }: Use) => clientId],
  ['api_keys', ({ keyId }: Use) => keyId],
] as const;

function createTransaction(dialect: Dialect, transaction: Knex.Transaction, revision: number): ClientTransaction {
  const orDuplicate = async <T>(statement: PromiseLike<T>): Promise<T> => {
    try {
      return await statement;
    } catch (error) {
      throw dialect.isDuplicateApiClientId(error) ? new DuplicateApiClientId() : error;
    }
  };
  const select = async (condition: string, binding: unknown): Promise<JoinedRow[]> =>
    dialect.rowsOf(await transaction.raw<unknown>(`${selectClient} where ${condition}`, [binding as Knex.RawBinding]));

  return {
    revision,

    find: async (id) => (Number.isSafeInteger(id) ? toClient(await select('client.id = ?', id)) : undefined),

    async findByApiClientIds(apiClientIds) {
      const rows = await select(dialect.isOneOf('client.api_client_id', 'text'), dialect.toList(apiClientIds));
      const clients = [...groupBy(rows, ({ id }) => id).values()].flatMap((some) => toClient(some) ?? []);
      return new Map(clients.map((client) => [client.apiClientId, client]));
    },

    list: (query) => listClients(dialect, transaction, query),

    lastClientId: () => dialect.lastClientId(transaction),

    async insertClient(client, wanted) {
      const id = await dialect.claimClientId(transaction, wanted);
      const row = { ...toRow(client), ...(id !== undefined && { id }) };
      const rows: Pick<ClientRow, 'id'>[] = await orDuplicate(transaction('api_clients').insert(row, ['id']));
      return (rows[0] as Pick<ClientRow, 'id'>).id;
    },

    async insertKey({ clientId, digest, hint, createdAt, expiresAt, isBootstrap, isImported }) {
      const rows: Pick<KeyRow, 'id'>[] = await transaction('api_keys').insert(
        {
          client_id: clientId,
          digest,
          hint,
          created_at: createdAt,
          expires_at: expiresAt,
          is_bootstrap: isBootstrap,
          is_imported: isImported,
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

function groupBy<K, V>(values: readonly V[], keyOf: (value: V) => K): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const value of values) {
    const group = groups.get(keyOf(value));
    if (group) group.push(value);
    else groups.set(keyOf(value), [value]);
  }
  return groups;
}

async function timed<T>(durations: Histogram, work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  try {
    return await work();
  } finally {
    record(durations, performance.now() - startedAt);
  }
}

/** The rules' own errors pass; whatever the driver says becomes StoreUnavailable. */
export async function orUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (isDriverError(error)) throw new StoreUnavailable(messageOf(error));
    throw error;
  }
}

function messageOf(error: Error): string {
  return `The database does not answer: ${withoutStatement(error)}`;
}

/** Drivers put a code on their errors; knex has a class of its own for a queue that was too long. */
function isDriverError(error: unknown): error is Error {
  return error instanceof Error && (error.name === 'KnexTimeoutError' || 'code' in error || 'errno' in error);
}

/** knex writes the statement with its values before the driver's message; they must not reach a log. */
export function withoutStatement({ message }: Error): string {
  return message.slice(message.lastIndexOf(' - ') + 1).replace(/^- /, '');
}
