import { createHash, type Hash } from 'node:crypto';
import type { Knex } from 'knex';
import { existsSync } from 'node:fs';
import { nameOfDatabase, type PostgresAddress } from '../database-address.ts';
import { withoutStatement } from './client-store.ts';
import { latestVersion, tables, versionOf, withoutLimits } from './migrations.ts';
import { openStore } from './open-store.ts';
import { openPatientPool } from './postgres.ts';
import { openSqlite } from './sqlite.ts';

export interface MigrateOptions {
  /** Copies and verifies, and undoes it. */
  readonly dryRun: boolean;
  /** Called once, with the number of rows that there are. */
  readonly onCounted: (rows: number) => void;
  /** Called with the number of rows that have been copied since the last time. */
  readonly onCopied: (rows: number) => void;
}

export interface MigratedTable {
  readonly table: string;
  readonly rows: number;
  /** SHA-256 over all rows in order, the same in both databases. */
  readonly digest: string;
}

const rowsPerStatement = 500;

/** What orders the rows of a table, for the digest. */
const keyOf = (table: string) => (table === 'remembered_requests' ? 'digest' : 'id');

/** Undoes the copy of a dry run. */
class Undo extends Error {}

/**
 * Copies everything of a SQLite database into an empty PostgreSQL database, ids and all, in one transaction, and compares
 * what has arrived. Meanwhile nothing can be changed in the SQLite database; decisions go on.
 *
 * @throws {Error} saying why nothing has been copied
 */
export async function migrateStore(
  file: string,
  to: PostgresAddress,
  { dryRun, onCounted, onCopied }: MigrateOptions,
): Promise<readonly MigratedTable[]> {
  if (!existsSync(file)) throw new Error(`There is no database ${file}.`);
  const source = await openSqlite(file);
  try {
    const version = await versionOf(source.read);
    if (version !== latestVersion)
      throw new Error(
        version === undefined
          ? `${file} is not a database of this program.`
          : `${file} has schema ${version}, and this program knows ${latestVersion}. Start this version of the gateway on it once.`,
      );
    // makes the tables
    const { database } = await openStore(to);
    await database.close();
    return await source.write.transaction(async (reading) => {
      // a statement that writes takes the lock, even when it changes nothing
      await reading('revision').where('id', 0).update({ value: 0 });
      return copyAll(reading, to, { dryRun, onCounted, onCopied });
    });
  } catch (error) {
    throw new Error(withoutStatement(error as Error), { cause: error });
  } finally {
    await source.close();
  }
}

async function copyAll(
  source: Knex,
  to: PostgresAddress,
  { dryRun, onCounted, onCopied }: MigrateOptions,
): Promise<readonly MigratedTable[]> {
  const target = openPatientPool(to);
  let done: readonly MigratedTable[] = [];
  try {
    onCounted((await Promise.all(tables.map((table) => countRows(source, table)))).reduce((sum, one) => sum + one, 0));
    await target.transaction(async (writing) => {
      await writing.raw(withoutLimits);
      await expectEmpty(writing, to);
      await writing('revision').delete();
      for (const table of tables) await copyTable(source, writing, table, onCopied);
      await continueIds(source, writing);
      const migrated: MigratedTable[] = [];
      for (const table of tables) migrated.push(await compare(source, writing, table));
      done = migrated;
      if (dryRun) throw new Undo();
    });
  } catch (error) {
    if (!(error instanceof Undo)) throw error;
  } finally {
    await target.destroy();
  }
  return done;
}

/** And stays so: nobody else may write until the copy is complete. */
async function expectEmpty(target: Knex, to: PostgresAddress): Promise<void> {
  await target.raw(`lock table ${tables.join(', ')} in exclusive mode`);
  for (const table of tables) {
    if (table === 'revision') continue;
    if ((await countRows(target, table)) > 0)
      throw new Error(`${nameOfDatabase(to)} is not empty: there are rows in ${table}. Name a new database.`);
  }
}

async function countRows(database: Knex, table: string): Promise<number> {
  const row = await database(table).count<{ count: number }[]>({ count: '*' });
  return row[0]?.count ?? 0;
}

type Row = Record<string, unknown>;

async function* pagesOf(database: Knex, table: string): AsyncGenerator<readonly Row[]> {
  const key = keyOf(table);
  for (let after: unknown, isMore = true; isMore;) {
    const page = database<Row>(table).orderBy(key).limit(rowsPerStatement);
    if (after !== undefined) void page.where(key, '>', after as string | number);
    const rows: Row[] = await page;
    isMore = rows.length === rowsPerStatement;
    after = rows.at(-1)?.[key];
    yield rows;
  }
}

async function copyTable(source: Knex, target: Knex, table: string, onCopied: (rows: number) => void): Promise<void> {
  for await (const rows of pagesOf(source, table)) {
    if (rows.length > 0) await target(table).insert(rows);
    onCopied(rows.length);
  }
}

/** No id that SQLite has given is given again, also where its row is gone. */
async function continueIds(source: Knex, target: Knex): Promise<void> {
  const given = await source<{ name: string; seq: number }>('sqlite_sequence').select('name', 'seq');
  const last = (table: string) => given.find(({ name }) => name === table)?.seq ?? 0;
  await target('revision').update({ last_client_id: last('api_clients') });
  for (const table of ['api_keys', 'audit_events'] as const)
    await target.raw("select setval(pg_get_serial_sequence(?, 'id'), ?::bigint, false)", [table, last(table) + 1]);
}

/** @throws {Error} when it is not the same */
async function compare(source: Knex, target: Knex, table: string): Promise<MigratedTable> {
  const [expected, found] = [await digestOf(source, table), await digestOf(target, table)];
  if (expected.rows !== found.rows || expected.digest !== found.digest)
    throw new Error(`${table} is not the same in both databases: ${expected.rows} rows and ${found.rows}.`);
  return { table, ...found };
}

async function digestOf(database: Knex, table: string): Promise<{ readonly rows: number; readonly digest: string }> {
  const digest = createHash('sha256');
  let count = 0;
  for await (const rows of pagesOf(database, table)) {
    for (const row of rows) addRow(digest, row);
    count += rows.length;
  }
  return { rows: count, digest: digest.digest('hex') };
}

function addRow(digest: Hash, row: Row): void {
  // what only one of the two has
  const columns = Object.keys(row)
    .filter((name) => name !== 'last_client_id')
    .sort();
  digest.update(JSON.stringify(columns.map((name) => [name, row[name]])));
}
