import { hash } from 'node:crypto';
import { join } from 'node:path';
import { openStore } from '../../src/store/open-store.ts';
import type { Bench } from '../bench.ts';
import { secretOf } from '../load/credentials.ts';

/** The one of them that has a `rate_limit`. */
export const limitedClient = 2;

const rowsPerStatement = 500;

/**
 * A database with clients 1 to `count`, called bench-1 and so on; the key of each has the secret of `secretOf`. Whoever
 * wants as many gets the same: several gateways may share one.
 */
export function database(bench: Bench, count: number): Promise<string> {
  return bench.shared(`database ${count}`, async () => {
    const file = join(bench.folder('databases'), `${count}.db`);
    const { database: opened } = await openStore(file);
    try {
      await opened.write.transaction(async (transaction) => {
        const now = Date.now();
        for (let first = 1; first <= count; first += rowsPerStatement) {
          bench.signal.throwIfAborted();
          const ids = Array.from(
            { length: Math.min(rowsPerStatement, count - first + 1) },
            (_, index) => first + index,
          );
          // raw, because a statement has room for far fewer bound values; there is nothing here to be escaped
          await transaction.raw(
            `insert into api_clients (id, api_client_id, name, is_admin, enabled, created_at, updated_at) values ${ids
              .map((id) => `(${id},'bench-${id}','bench-${id}',0,1,${now},${now})`)
              .join()}`,
          );
          await transaction.raw(
            `insert into api_keys (client_id, digest, created_at, is_bootstrap) values ${ids
              .map((id) => `(${id},'${hash('sha256', secretOf(id))}',${now},0)`)
              .join()}`,
          );
        }
        const limit = { rate_limit: '900000000/s' };
        await transaction('api_clients').where('id', limitedClient).update(limit);
      });
    } finally {
      await opened.close();
    }
    return file;
  });
}
