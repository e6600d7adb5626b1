import { hash } from 'node:crypto';
import { join } from 'node:path';
import { parseDatabaseUrl } from '../../src/config.ts';
import { openStore } from '../../src/store/open-store.ts';
import type { Bench } from '../bench.ts';
import { secretOf } from '../load/credentials.ts';
import { postgres } from './postgres.ts';

/** The one of them that has a `rate_limit`. */
export const limitedClient = 2;

const rowsPerStatement = 500;

/**
 * The URL of a SQLite database with clients 1 to `count`, called bench-1 and so on; the first is an administrator, and the
 * key of each has the secret of `secretOf`. Whoever wants as many gets the same: several gateways may share one.
 */
export function database(bench: Bench, count: number): Promise<string> {
  return bench.shared(`database ${count}`, async () => {
    const url = `sqlite:${fileOf(bench, count)}`;
    await fill(bench, url, count);
    return url;
  });
}

/** The same in PostgreSQL, as a database of this name. */
export async function postgresDatabase(bench: Bench, name: string, count: number): Promise<string> {
  const server = await postgres(bench);
  const url = await server.createDatabase(name);
  await fill(bench, url, count);
  await server.vacuum(name);
  return url;
}

export function fileOf(bench: Bench, count: number): string {
  return join(bench.folder('databases'), `${count}.db`);
}

async function fill(bench: Bench, url: string, count: number): Promise<void> {
  const address = parseDatabaseUrl(url);
  if (address === undefined) throw new Error(`${url} is no database.`);
  const { database: opened } = await openStore(address);
  const isPostgres = opened.dialect.name === 'postgresql';
  try {
    await opened.write.transaction(async (transaction) => {
      const now = Date.now();
      for (let first = 1; first <= count; first += rowsPerStatement) {
        bench.signal.throwIfAborted();
        const ids = Array.from({ length: Math.min(rowsPerStatement, count - first + 1) }, (_, index) => first + index);
        // raw, because a statement has room for far fewer bound values; there is nothing here to be escaped
        await transaction.raw(
          `insert into api_clients (id, api_client_id, name, is_admin, enabled, created_at, updated_at) values ${ids
            .map((id) => `(${id},'bench-${id}','bench-${id}',${id === 1},true,${now},${now})`)
            .join()}`,
        );
        await transaction.raw(
          `insert into api_keys (client_id, digest, created_at, is_bootstrap) values ${ids
            .map((id) => `(${id},'${hash('sha256', secretOf(id))}',${now},false)`)
            .join()}`,
        );
      }
      await transaction('api_clients').where('id', limitedClient).update({ rate_limit: '900000000/s' });
      // where SQLite counts by itself
      if (isPostgres) await transaction('revision').update({ last_client_id: count });
    });
  } finally {
    await opened.close();
  }
}
