import { chmodSync, existsSync, renameSync } from 'node:fs';
import type { ClientStore } from '../clients/client-store.ts';
import { nameOfDatabase, type DatabaseAddress, type PostgresAddress } from '../database-address.ts';
import { createClientStore, withoutStatement, type StoreDurations } from './client-store.ts';
import type { Database } from './database.ts';
import { latestVersion, migrate, versionOf } from './migrations.ts';
import { openingError, openSqlite, remedyOf, wayBack } from './sqlite.ts';

/**
 * Opens the database and brings its schema up to date. A SQLite file is made when it does not exist.
 *
 * @throws {Error} naming the database, when it cannot be opened or used; StoreUnavailable when it may be later
 */
export async function openStore(
  address: DatabaseAddress,
  durations?: StoreDurations,
): Promise<{ readonly database: Database; readonly store: ClientStore }> {
  const database = await openDatabase(address);
  try {
    if (typeof address === 'string') await migrate(database.write, database.dialect);
    else await migratePostgres(address, database);
  } catch (error) {
    await database.close();
    const why = withoutStatement(error as Error) + remedyOf(error);
    throw openingError(`The database ${nameOfDatabase(address)} cannot be used. ${why}`, error);
  }
  return { database, store: createClientStore(database, durations) };
}

/** The driver of PostgreSQL is loaded where it is wanted alone. */
export async function openDatabase(address: DatabaseAddress): Promise<Database> {
  if (typeof address === 'string') return openSqlite(address);
  const { openPostgres } = await import('./postgres.ts');
  return openPostgres(address);
}

/** Does nothing where there is nothing to do, so that neither a lock nor the right to change tables is needed. */
async function migratePostgres(address: PostgresAddress, { read, dialect }: Database): Promise<void> {
  if ((await versionOf(read)) === latestVersion) return;
  const { openPatientPool } = await import('./postgres.ts');
  const patient = openPatientPool(address);
  try {
    await migrate(patient, dialect);
  } finally {
    await patient.destroy();
  }
}

/**
 * Looks at every page once. Without this a damaged one is found by whoever happens to need it, perhaps weeks later, when no
 * good backup is left.
 *
 * @throws {Error} naming the database, what is damaged, and the way back
 */
export async function expectUndamaged({ read }: Database, file: string): Promise<void> {
  const damage = await read.raw<{ quick_check: string }[]>('pragma quick_check(1)').then(
    ([first]) => first?.quick_check ?? 'no answer',
    (error: unknown) => withoutStatement(error as Error),
  );
  if (damage !== 'ok') throw new Error(`The database ${file} is damaged: ${damage.replaceAll('\n', ' ')}. ${wayBack}`);
}

/**
 * The way back from an upgrade: a database of an older schema is copied beside itself, once for each version.
 *
 * @throws {Error} when there is no room
 */
export async function keepCopyBeforeUpgrade(file: DatabaseAddress): Promise<void> {
  // of PostgreSQL the operator has backups
  if (typeof file !== 'string' || !existsSync(file)) return;
  const database = await openSqlite(file);
  const { read, write } = database;
  try {
    const version = (await versionOf(read)) ?? latestVersion;
    const copy = `${file}.schema-${version}`;
    if (!Number.isInteger(version) || version < 1 || version >= latestVersion || existsSync(copy)) return;
    const partial = `${copy}.${process.pid}`;
    await write.raw('vacuum into ?', [partial]);
    chmodSync(partial, 0o600);
    renameSync(partial, copy);
  } catch (error) {
    throw new Error(
      `The database ${file} is not upgraded, because it cannot be copied before. ${withoutStatement(error as Error)}`,
      { cause: error },
    );
  } finally {
    await database.close();
  }
}

/** Whether the file is a database that this program, of this version or another, has made. */
export async function isOurs(file: string): Promise<boolean> {
  const database = await openSqlite(file);
  try {
    return await database.read.schema.hasTable('schema_version');
  } finally {
    await database.close();
  }
}
