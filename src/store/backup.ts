import { existsSync } from 'node:fs';
import { copyFile, link, open, rename, rm } from 'node:fs/promises';
import { schemaVersion } from './migrations.ts';
import { openSqlite, type Database } from './sqlite.ts';

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
 * Puts a copy in the place of the database, which is kept beside it as `<file>.before-restore`. Nobody may have the
 * database open.
 *
 * @returns the number of API clients in it
 * @throws {Error} saying what is wrong with the copy; nothing has changed then
 */
export async function restore(copy: string, file: string): Promise<number> {
  // on the same file system as the database, so that the last step is one rename
  const incoming = `${file}.restoring`;
  const leaveNothing = () =>
    Promise.all([incoming, `${incoming}-wal`, `${incoming}-shm`].map((path) => rm(path, { force: true })));
  try {
    await leaveNothing();
    await copyFile(copy, incoming);
    const clients = await examine(incoming);
    await flush(incoming);
    await setAside(file);
    await rename(incoming, file);
    return clients;
  } finally {
    await leaveNothing();
  }
}

/** Keeps the old database under another name. Its own name leads to a whole database at any moment. */
async function setAside(file: string): Promise<void> {
  const kept = `${file}.before-restore`;
  for (const suffix of ['', '-wal', '-shm']) await rm(`${kept}${suffix}`, { force: true });
  if (!existsSync(file)) return;
  // closing it empties its log, unless it is damaged; a log that stays must not meet the new database
  await openSqlite(file).then(
    (database) => database.close(),
    () => undefined,
  );
  for (const suffix of ['-wal', '-shm']) {
    if (existsSync(`${file}${suffix}`)) await rename(`${file}${suffix}`, `${kept}${suffix}`);
  }
  await link(file, kept);
}

async function examine(file: string): Promise<number> {
  const database = await openSqlite(file);
  try {
    const integrity: { integrity_check: string }[] = await database.read.raw('pragma integrity_check');
    const [first] = integrity;
    if (first?.integrity_check !== 'ok') throw new Error(`It is damaged: ${first?.integrity_check ?? 'no answer'}.`);
    const version = await readVersion(database);
    if (version === undefined) throw new Error('It is not a database of this program.');
    if (version > schemaVersion) {
      throw new Error(
        `Its schema has version ${version}, and this program knows ${schemaVersion}: it is of a newer program.`,
      );
    }
    const row = await database.read('api_clients').count<{ count: number }[]>({ count: '*' });
    return row[0]?.count ?? 0;
  } finally {
    await database.close();
  }
}

async function readVersion({ read }: Database): Promise<number | undefined> {
  if (!(await read.schema.hasTable('schema_version'))) return undefined;
  return (await read<{ version: number }>('schema_version').first('version'))?.version;
}

async function flush(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  await handle.sync();
  await handle.close();
}
