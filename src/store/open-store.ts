import { chmodSync, existsSync, renameSync } from 'node:fs';
import type { ClientStore } from '../clients/client-store.ts';
import { createClientStore, withoutStatement, type StoreDurations } from './client-store.ts';
import { latestVersion, migrate } from './migrations.ts';
import { openingError, openSqlite, remedyOf, wayBack, type Database } from './sqlite.ts';

/**
 * Opens the database, making it when it does not exist, and brings its schema up to date.
 *
 * @throws {Error} naming the database, when it cannot be opened or used; StoreUnavailable when it may be later
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
    const why = withoutStatement(error as Error) + remedyOf(error);
    throw openingError(`The database ${file} cannot be used. ${why}`, error);
  }
  return { database, store: createClientStore(database, durations) };
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
