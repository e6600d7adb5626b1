import { existsSync } from 'node:fs';
import { copyFile, link, open, rename, rm } from 'node:fs/promises';
import type { Actor, AuditEvent } from '../clients/api-client.ts';
import { firstClient } from '../clients/client-store.ts';
import type { DatabaseAddress } from '../database-address.ts';
import { createClientStore, withoutStatement } from './client-store.ts';
import { latestVersion, versionOf } from './migrations.ts';
import { expectUndamaged, isOurs, openDatabase, openStore } from './open-store.ts';
import { openSqlite, wayBack } from './sqlite.ts';

/**
 * Writes a copy of the database as it is at this moment into a new file, while everything goes on.
 *
 * @throws {Error} when there is no such database
 */
export async function backUp(file: string, to: string): Promise<void> {
  if (!existsSync(file)) throw new Error(`There is no database ${file}.`);
  const database = await openSqlite(file);
  try {
    await database.write.raw('vacuum into ?', [to]);
  } finally {
    await database.close();
  }
}

/**
 * The version of the schema, and the one that this program brings a database to. Changes nothing.
 *
 * @returns undefined for a PostgreSQL database that nothing has been made in yet
 * @throws {Error} when it cannot be opened, is damaged, or is no database of this program
 */
export async function inspectDatabase(
  address: DatabaseAddress,
): Promise<{ readonly version: number; readonly latest: number } | undefined> {
  const database = await openDatabase(address);
  try {
    const version = await versionOf(database.read);
    if (version === undefined && typeof address !== 'string') return undefined;
    if (version === undefined) throw new Error(`${address as string} is not a database of this program.`);
    if (typeof address === 'string') await expectUndamaged(database, address);
    return { version, latest: latestVersion };
  } finally {
    await database.close();
  }
}

/**
 * Records what was done to a database as a whole, unless its schema is another program's.
 *
 * @throws {Error} when it cannot be written
 */
export async function recordDone(file: string, event: AuditEvent): Promise<void> {
  const database = await openSqlite(file);
  try {
    if ((await versionOf(database.read)) === latestVersion) await createClientStore(database).recordEvent(event);
  } finally {
    await database.close();
  }
}

export interface Restored {
  /** The number of API clients in it. */
  readonly clients: number;
  /** Where the database from before is; undefined when there was none. */
  readonly kept: string | undefined;
}

/**
 * Puts a copy in the place of the database, which is kept beside it under another name.
 *
 * @throws {Error} saying what is wrong with the copy, or that the database is in use; nothing has changed then
 */
export async function restore(copy: string, file: string, actor: Actor, now: Date): Promise<Restored> {
  // on the same file system as the database, so that the last step is one rename
  const incoming = `${file}.restoring`;
  const leaveNothing = () =>
    Promise.all([incoming, `${incoming}-wal`, `${incoming}-shm`].map((path) => rm(path, { force: true })));
  try {
    await leaveNothing();
    await copyFile(copy, incoming);
    if (!(await isOurs(incoming))) throw new Error('It is not a database of this program.');
    const clients = await examine(incoming);
    await recordDone(incoming, {
      at: now.getTime(),
      actor,
      action: 'database.restore',
      clientId: null,
      outcome: 'done',
    });
    await flush(incoming);
    const kept = await setAside(file, now);
    await rename(incoming, file);
    return { clients, kept };
  } catch (error) {
    // it is the way back that has failed
    throw new Error((error as Error).message.replace(` ${wayBack}`, ''), { cause: error });
  } finally {
    await leaveNothing();
  }
}

/**
 * Keeps the old database under another name, and its log, which would be taken for that of the new one. Its own name leads
 * to a whole database at any moment.
 */
async function setAside(file: string, now: Date): Promise<string | undefined> {
  const isThere = existsSync(file);
  if (isThere) await expectUnused(file);
  const kept = `${file}.before-restore-${now.toISOString().replace(/[-:]|\.\d+/g, '')}`;
  for (const suffix of ['-wal', '-shm']) {
    if (existsSync(`${file}${suffix}`)) await rename(`${file}${suffix}`, `${kept}${suffix}`);
  }
  if (!isThere) return undefined;
  await link(file, kept);
  return kept;
}

/** Leaving the write-ahead log needs the database for oneself, whatever the others are doing; and it empties the log. */
async function expectUnused(file: string): Promise<void> {
  const database = await openSqlite(file).catch(() => undefined);
  // what cannot be opened is damaged, perhaps the reason for all this
  if (!database) return;
  try {
    await database.read.destroy();
    await database.write.raw('pragma journal_mode=delete');
  } catch (error) {
    if (/SQLITE_BUSY|locked/.test((error as Error).message)) {
      throw new Error('Another process has the database open.', { cause: error });
    }
  } finally {
    await database.close();
  }
}

/** Opens and upgrades it as a start of the gateway would, and looks into every table. */
async function examine(file: string): Promise<number> {
  const { database, store } = await openStore(file);
  try {
    const integrity: { integrity_check: string }[] = await database.read.raw('pragma integrity_check');
    const [first] = integrity;
    if (first?.integrity_check !== 'ok') throw new Error(`It is damaged: ${first?.integrity_check ?? 'no answer'}.`);
    for (const table of ['revision', 'api_keys', 'audit_events']) await database.read(table).first();
    await store.list(firstClient);
    const row = await database.read('api_clients').count<{ count: number }[]>({ count: '*' });
    return row[0]?.count ?? 0;
  } catch (error) {
    throw new Error(withoutStatement(error as Error), { cause: error });
  } finally {
    await database.close();
  }
}

async function flush(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.sync();
  await handle.close();
}
