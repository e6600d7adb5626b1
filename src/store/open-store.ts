import { chmodSync, existsSync, renameSync } from 'node:fs';
import type { ClientStore } from '../clients/client-store.ts';
import { createClientStore, withoutStatement, type StoreDurations } from './client-store.ts';
import { latestVersion, migrate } from './migrations.ts';
import { openSqlite, type Database } from './sqlite.ts';

/**
 * Opens the database, making it when it does not exist, and brings its schema up to date.
 *
 * @throws {Error} naming the database, when it cannot be opened or used
 */
export async function openStore(
  file: string,
  durations?: StoreDurations,
): Promise<{ readonly database: Database; readonly store: ClientStore }> {
  const database = await openSqlite(file);
  try {
    await migrate(database.write);
  } catch (error) {
    await database.close();
    throw new Error(`The database ${file} cannot be used. ${withoutStatement(error as Error)}`, { cause: error });
  }
  return { database, store: createClientStore(database, durations) };
}

/**
 * The way back from an upgrade: a database of an older schema is copied beside itself, once for each version.
 *
 * @throws {Error} when there is no room
 */
export async function keepCopyBeforeUpgrade(file: string): Promise<void> {
  if (!existsSync(file)) return;
  const database = await openSqlite(file);
  const { read, write } = database;
  try {
    const row = (await read.schema.hasTable('schema_version'))
      ? await read<{ version: number }>('schema_version').first('version')
      : undefined;
    const version = row?.version ?? latestVersion;
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
