import { join } from 'node:path';
import { after } from 'node:test';
import knex, { type Knex } from 'knex';

// one that a failed test has left open would keep its process from ending
const opened: Knex[] = [];
after(() => Promise.all(opened.map((database) => database.destroy())));

/** The stack's database file, opened as another process would. */
export function openTestDatabase(stateDir: string, name = 'apigw.db'): Knex {
  const database = knex({
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
  opened.push(database);
  return database;
}
