import { join } from 'node:path';
import knex, { type Knex } from 'knex';

/** The stack's database file, opened as another process would. */
export function openTestDatabase(stateDir: string, name = 'apigw.db'): Knex {
  return knex({
    client: 'sqlite3',
    connection: { filename: join(stateDir, name) },
    useNullAsDefault: true,
    pool: {
      afterCreate: (
        connection: { run(sql: string, done: (error: Error | null) => void): void },
        done: (error: Error | null) => void,
      ) => {
        connection.run('PRAGMA foreign_keys=ON', done);
      },
    },
  });
}
