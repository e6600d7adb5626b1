import type { ClientStore } from '../clients/client-store.ts';
import { createClientStore, withoutStatement, type StoreDurations } from './client-store.ts';
import { migrate } from './migrations.ts';
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

/** Whether the file is a database that this program, of this version or another, has made. */
export async function isOurs(file: string): Promise<boolean> {
  const database = await openSqlite(file);
  try {
    return await database.read.schema.hasTable('schema_version');
  } finally {
    await database.close();
  }
}
