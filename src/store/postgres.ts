import knex, { type Knex } from 'knex';
import PostgresDialect from 'knex/lib/dialects/postgres/index.js';
import { nameOfDatabase, type PostgresAddress } from '../database-address.ts';
import type { Database, Revisions } from './database.ts';
import {
  connect,
  ConnectionBroken,
  createSteadyConnection,
  isBroken,
  times,
  withDeadline,
  type Connection,
  type Statement,
} from './postgres-connection.ts';
import { channel, createPostgresDialect } from './postgres-dialect.ts';

/** Connections that a process has at most: these, one for lookups, and one for the change feed. */
const readers = 3;
const writers = 2;

/** Those whose statements may take as long as they like. */
const patient = new WeakSet<Connection>();

/**
 * Opens the database and asks it once.
 *
 * @throws {Error} naming it, without its password
 */
export async function openPostgres(address: PostgresAddress): Promise<Database> {
  const canNotify = await findNotify(address).catch((error: unknown) => {
    throw new Error(`The database ${nameOfDatabase(address)} cannot be opened: ${(error as Error).message}`, {
      cause: error,
    });
  });
  const read = createPool(address, readers);
  const write = createPool(address, writers);
  const lookups = createSteadyConnection(address);
  const texts = new Map<string, string>();

  function lookUp(sql: string, ...values: readonly unknown[]): Promise<unknown[]> {
    let text = texts.get(sql);
    if (text === undefined) {
      let count = 0;
      text = sql.replaceAll('?', () => `$${++count}`);
      texts.set(sql, text);
    }
    return lookups.query({ text, values, isPrepared: true });
  }

  return {
    dialect: createPostgresDialect(canNotify),
    read,
    write,
    lookUp,
    expectFile: () => undefined,
    openRevisions: (onNotice) => openRevisions(address, canNotify, onNotice),
    async close() {
      await Promise.all([read.destroy(), write.destroy(), lookups.close()]);
    },
  };
}

async function findNotify(address: PostgresAddress): Promise<boolean> {
  const client = await connect(address);
  try {
    const found = client.query<{ found: number }>(
      "select exists (select 1 from pg_proc where proname = 'pg_notify') as found",
    );
    return (await withDeadline(client, found, times.silence)).rows[0]?.found === 1;
  } finally {
    await client.end();
  }
}

/** A pool of one connection without limits, for what may take as long as it likes. */
export function openPatientPool(address: PostgresAddress): Knex {
  return createPool(address, 1, true);
}

function createPool(address: PostgresAddress, connections: number, isPatient = false): Knex {
  return knex({
    client: dialectFor(address, isPatient),
    // is not looked at, but without it there is no pool
    connection: {},
    // nginx gives up after 4 s
    ...(!isPatient && { acquireConnectionTimeout: 3_000 }),
    pool: { min: 0, max: connections },
    log: { warn: ignore, error: ignore, debug: ignore, deprecate: ignore },
  });
}

type Disposable = Connection & { __knex__disposed?: unknown };

function dialectFor(address: PostgresAddress, isPatient: boolean) {
  return class extends PostgresDialect {
    override async acquireRawConnection(): Promise<Connection> {
      const client: Disposable = await connect(address, { isPatient });
      if (isPatient) patient.add(client);
      // knex hands out no connection that is marked so
      client.once('error', (error: Error) => {
        client.__knex__disposed = error;
      });
      client.once('end', () => (client.__knex__disposed ??= new ConnectionBroken('the connection has ended')));
      return client;
    }

    override async _query(connection: Disposable, statement: { sql: string; response?: unknown }): Promise<unknown> {
      const answer = super._query(connection, statement);
      try {
        const result: unknown = await (patient.has(connection)
          ? answer
          : withDeadline(connection, answer, times.silence));
        // a transaction in which a statement has failed is undone by its commit, and that is no error
        if (statement.sql === 'COMMIT;' && (statement.response as { command?: string }).command === 'ROLLBACK')
          throw Object.assign(new Error('the transaction was undone'), { code: '40000' });
        return result;
      } catch (error) {
        if (isBroken(error)) connection.__knex__disposed ??= error;
        // pg puts no code on the end of a connection in the midst of a statement
        throw error instanceof Error && !('code' in error) ? new ConnectionBroken(error.message) : error;
      }
    }
  };
}

/** On a connection of its own, so that no list that somebody asks for is in its way. */
function openRevisions(
  address: PostgresAddress,
  canNotify: boolean,
  onNotice: () => void = () => undefined,
): Revisions {
  let connections = 0;
  let isNotified = false;
  let questions = 0;
  const connection = createSteadyConnection(address, async (client) => {
    connections++;
    isNotified = false;
    if (!canNotify) return;
    const isDirect = await speaksForItself(client);
    const test = `hello ${connections}`;
    client.on('notification', ({ payload }) => {
      // A pooler passes a notice on with the answer to a question, if at all: then it has come no sooner than the answer.
      // What was said to oneself shows that notices are passed on where there is no pooler.
      if (isDirect || questions === 0) isNotified = true;
      if (payload !== test) onNotice();
    });
    client.once('end', () => (isNotified = false));
    await withDeadline(client, client.query(`listen ${channel}`), times.silence);
    await withDeadline(client, client.query('select pg_notify($1, $2)', [channel, test]), times.silence);
  });
  async function query<Row>(statement: Statement): Promise<Row[]> {
    questions++;
    try {
      return await connection.query<Row>(statement);
    } finally {
      questions--;
    }
  }
  const startedAt = canNotify ? 'pg_postmaster_start_time()::text' : "''";

  return {
    async latest() {
      const [row] = await query<{ value: number; source: string; is_standby: number }>({
        text: `select value, ${startedAt} as source, pg_is_in_recovery() as is_standby from revision`,
        isPrepared: true,
      });
      if (!row) throw new Error('the table revision is empty');
      if (row.is_standby) throw new ConnectionBroken('the database is a standby now, which may be behind');
      return { revision: row.value, source: `${connections} ${row.source}` };
    },
    async changedClients(after, until) {
      const rows = await query<{ client_id: number }>({
        text: `select distinct client_id from audit_events
          where revision > $1 and revision <= $2 and client_id is not null`,
        values: [after, until],
      });
      // afterwards, so that what has left the audit trail meanwhile is noticed
      const [oldest] = await query<{ revision: number | null }>({
        text: 'select min(revision) as revision from audit_events',
      });
      if ((oldest?.revision ?? Infinity) > after + 1) return undefined;
      return rows.map(({ client_id }) => client_id);
    },
    isNotified: () => isNotified,
    close: connection.close,
  };
}

/** Whether the server is at the other end, and no pooler, which gives a number of its own when it is asked who it is. */
async function speaksForItself(client: Connection): Promise<boolean> {
  const asked = client.query<{ pid: number }>('select pg_backend_pid() as pid');
  const { rows } = await withDeadline(client, asked, times.silence);
  return rows[0]?.pid === (client as Connection & { readonly processID?: number }).processID;
}

/** knex prints warnings by itself; what matters arrives as an error too. */
function ignore(): void {
  // nothing to do
}
