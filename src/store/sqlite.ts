import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import knex, { type Knex } from 'knex';
import sqlite3 from 'sqlite3';
import { StoreUnavailable } from '../clients/client-store.ts';
import { selectChangedClients, type Database } from './database.ts';
import { sqliteDialect } from './sqlite-dialect.ts';

/** One of the database's files has been removed, or another has been put in its place. */
export class FileGone extends Error {
  override readonly name = 'FileGone';
  readonly code = 'FILE_GONE';
}

/** Milliseconds that a statement waits for a lock another process holds. */
const busyTimeout = 1_500;

/** Milliseconds between two times that a damaged file is read anew. */
const rereadEvery = 100;
/** Of errors that are the file's; the last one is that of a table which is not there. */
const mayBeMended = new Set(['SQLITE_CORRUPT', 'SQLITE_NOTADB', 'SQLITE_IOERR', 'SQLITE_ERROR']);

/** Milliseconds for which lookups believe that the file is still there. Well below the bound for changes by others. */
const fileTrust = 100;

// Everything that depends on the SQLite driver is in this file.
type Connection = Pick<sqlite3.Database, 'exec'>;

/**
 * The database, its write-ahead log and the index of that: another process finds the same changes only through all three.
 * A database that has been emptied is none.
 */
function identify(file: string): readonly { readonly path: string; readonly inode: string | undefined }[] {
  return [file, `${file}-wal`, `${file}-shm`].map((path) => {
    const found = statSync(path, { throwIfNoEntry: false });
    const isThere = found !== undefined && (path !== file || found.size > 0);
    return { path, inode: isThere ? `${found.dev}:${found.ino}` : undefined };
  });
}

/**
 * SQLite has one writer: its connection is a queue of its own, so that a waiting write never holds up a read, and a read
 * never meets a lock (write-ahead log).
 *
 * Opens the file, making it and its folder when they do not exist, readable by this user alone.
 *
 * @throws {Error} naming the file, when it cannot be opened or is no SQLite database; StoreUnavailable when it may be
 *   opened later
 */
export async function openSqlite(file: string): Promise<Database> {
  // the file, its log and its index get the mode that this mask leaves
  const mask = process.umask(0o077);
  const opened: (() => Promise<void>)[] = [];
  const pages = createPages();
  const close = async () => {
    for (const step of opened.splice(0).reverse()) await step();
  };
  try {
    const folder = dirname(file);
    if (!existsSync(folder)) mkdirSync(folder);
    expectNoOrphan(file);
    // synchronous=FULL: an acknowledged change survives a power cut, not only a crash
    const write = connect(file, pages, 1, ['journal_mode=WAL', 'synchronous=FULL', 'foreign_keys=ON']);
    opened.push(() => write.destroy());
    await write.raw('select count(*) from sqlite_master');
    const read = connect(file, pages, 2, ['query_only=ON']);
    opened.push(() => read.destroy());
    await read.raw('select count(*) from sqlite_master');
    const lookups = await openLookups(file, pages);
    opened.push(lookups.close);
    const opening = identify(file);
    let trustedUntil = 0;
    function expectFile(): void {
      const now = identify(file);
      const gone = opening.find(({ inode }, index) => inode !== now[index]?.inode);
      if (gone) {
        trustedUntil = 0;
        throw new FileGone(
          `${gone.path} is not the file that was opened, or is empty; put it back, or restart the gateway`,
        );
      }
      trustedUntil = performance.now() + fileTrust;
    }
    return {
      dialect: sqliteDialect,
      read,
      write,
      expectFile,
      openRevisions: () => ({
        async latest() {
          expectFile();
          const row = await read<{ value: number }>('revision').first('value');
          if (!row) throw new Error('the table revision is empty');
          return { revision: row.value, source: file };
        },
        changedClients: (after, until) => selectChangedClients(read, after, until),
        isNotified: () => undefined,
        close: () => Promise.resolve(),
      }),
      lookUp: async (sql, ...values) => {
        if (performance.now() >= trustedUntil) expectFile();
        return lookups.lookUp(sql, ...values);
      },
      close,
    };
  } catch (error) {
    await close();
    throw openingError(`The database ${file} cannot be opened: ${explain(file, error as Error)}`, error);
  } finally {
    process.umask(mask);
  }
}

/** SQLite takes a missing or empty file for a new database, and throws away the log that is left of the one before. */
function expectNoOrphan(file: string): void {
  const log = `${file}-wal`;
  const sizeOf = (path: string): number => {
    try {
      return statSync(path).size;
    } catch {
      // what cannot be looked at cannot be opened either, and says so then
      return 0;
    }
  };
  if (sizeOf(file) > 0 || sizeOf(log) === 0) return;
  throw new Error(
    `it is ${existsSync(file) ? 'empty' : 'not there'}, but its log ${log} has changes in it, which a new database would lose. ` +
      `Put the file back. ${wayBack} For a new database, move the log away`,
  );
}

/** What has failed while it was opened, or brought up to date. */
export function openingError(message: string, cause: unknown): Error {
  return isPassing(cause) ? new StoreUnavailable(message, { cause }) : new Error(message, { cause });
}

/** Whether the same may succeed later, with the same file: it is locked, or its disk is full or failing. */
function isPassing(error: unknown): boolean {
  const isTimeout = error instanceof Error && error.name === 'KnexTimeoutError';
  return isTimeout || ['SQLITE_BUSY', 'SQLITE_FULL', 'SQLITE_IOERR', 'ENOSPC'].includes(codeOf(error));
}

function isDamage(error: unknown): boolean {
  return ['SQLITE_CORRUPT', 'SQLITE_NOTADB'].includes(codeOf(error));
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** What SQLite's own words do not say: what to do. */
export function remedyOf(error: unknown): string {
  if (isDamage(error)) return `. ${wayBack}`;
  return codeOf(error) === 'SQLITE_BUSY' ? '. Another process has it locked.' : '';
}

export const wayBack = 'Put a backup in its place with: apigw restore < backup.db. The damaged file is kept beside it.';

function explain(file: string, error: Error): string {
  for (const path of [file, dirname(file)].filter((one) => existsSync(one))) {
    try {
      accessSync(path, constants.R_OK | constants.W_OK);
    } catch (denied) {
      const { code } = denied as NodeJS.ErrnoException;
      if (code === 'EROFS') return `${path} is on a file system that is mounted read-only`;
      if (code === 'EPERM') return `${path} is marked as immutable. As root: chattr -i ${path}`;
      const user = `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`;
      return `user ${user} may not read and write ${path}. As root: chown -R ${user} ${dirname(file)}`;
    }
  }
  return error.message + remedyOf(error);
}

function connect(file: string, pages: Pages, connections: number, pragmas: readonly string[]): Knex {
  const statements = [`busy_timeout=${busyTimeout}`, ...pragmas].map((pragma) => `PRAGMA ${pragma};`).join(' ');
  const connected = knex({
    client: 'sqlite3',
    connection: { filename: file },
    useNullAsDefault: true,
    // with the wait for a lock less than 4 s, after which nginx gives up: what it has answered by 503 is not done later
    acquireConnectionTimeout: 2_000,
    pool: {
      // none is closed while it is idle
      min: connections,
      max: connections,
      afterCreate: (connection: Connection, done: (error: Error | null, connection: Connection) => void) => {
        pages.add(connection);
        connection.exec(statements, (error) => {
          done(error, connection);
        });
      },
    },
    log: { warn: ignore, error: ignore, debug: ignore, deprecate: ignore },
  });
  connected.on('query-error', pages.onError);
  return connected;
}

type Pages = ReturnType<typeof createPages>;

/**
 * What connections have read of the file. A page stays in memory until there is another change, and with a damaged page
 * there is none: when it has been mended, nobody would look. So after such an error all is read anew.
 */
function createPages() {
  const connections = new Set<Connection>();
  let forgottenAt = -Infinity;
  return {
    add: (connection: Connection) => connections.add(connection),
    onError: (error: unknown): void => {
      const now = performance.now();
      if (!mayBeMended.has(codeOf(error)) || now - forgottenAt < rereadEvery) return;
      forgottenAt = now;
      // those that are in use or not written yet stay; one that is closed answers with an error that nobody needs
      for (const connection of connections) connection.exec('PRAGMA shrink_memory', ignore);
    },
  };
}

interface Lookups {
  readonly lookUp: Database['lookUp'];
  readonly close: () => Promise<void>;
}

function openLookups(file: string, pages: Pages): Promise<Lookups> {
  return new Promise((resolve, reject) => {
    const connection = new sqlite3.Database(file, sqlite3.OPEN_READONLY, (error) => {
      if (error) {
        reject(error);
        return;
      }
      connection.configure('busyTimeout', busyTimeout);
      pages.add(connection);
      resolve(createLookups(connection, pages.onError));
    });
  });
}

function createLookups(connection: sqlite3.Database, onError: (error: unknown) => void): Lookups {
  const statements = new Map<string, Promise<sqlite3.Statement>>();

  function prepare(sql: string): Promise<sqlite3.Statement> {
    const known = statements.get(sql);
    if (known) return known;
    const prepared = new Promise<sqlite3.Statement>((resolve, reject) => {
      const statement = connection.prepare(sql, (error) => {
        if (error) reject(error);
        else resolve(statement);
      });
    });
    statements.set(sql, prepared);
    // the database could not be read; the next lookup tries again
    prepared.catch(() => statements.delete(sql));
    return prepared;
  }

  return {
    lookUp: async (sql, ...values) => {
      try {
        const statement = await prepare(sql);
        return await new Promise<unknown[]>((resolve, reject) => {
          statement.all(values, (error, rows) => {
            if (error) reject(error);
            else resolve(rows);
          });
        });
      } catch (error) {
        onError(error);
        throw error;
      }
    },
    close: async () => {
      for (const statement of await Promise.allSettled(statements.values())) {
        if (statement.status === 'fulfilled') statement.value.finalize();
      }
      await new Promise<void>((resolve, reject) => {
        connection.close((error) => {
          if (error) reject(error);
          else resolve();
        });
      });
    },
  };
}

/** knex prints warnings by itself; what matters arrives as an error too. */
function ignore(): void {
  // nothing to do
}
