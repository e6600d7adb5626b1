import { chmodSync, existsSync, renameSync } from 'node:fs';
import type { ClientStore } from '../clients/client-store.ts';
import { nameOfDatabase, type DatabaseAddress, type PostgresAddress } from '../database-address.ts';
import { createClientStore, withoutStatement, type StoreDurations } from './client-store.ts';
import type { Database } from './database.ts';
import { latestVersion, migrate } from './migrations.ts';
import { openSqlite } from './sqlite.ts';

/**
 * Opens the database and brings its schema up to date. A SQLite file is made when it does not exist.
 *
 * @throws {Error} naming the database, when it cannot be opened or used
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
    throw new Error(`The database ${nameOfDatabase(address)} cannot be used. ${withoutStatement(error as Error)}`, {
      cause: error,
    });
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

/** Of the schema; undefined when there is none of this program. */
export async function versionOf(database: Database['read']): Promise<number | undefined> {
  if (!(await database.schema.hasTable('schema_version'))) return undefined;
  const row = await database<{ version: number }>('schema_version').first('version');
  return row?.version ?? 0;
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
