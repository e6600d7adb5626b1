// The dialect's class, which the package's types do not have.
declare module 'knex/lib/dialects/postgres/index.js' {
  import { knex } from 'knex';

  export default class PostgresDialect extends knex.Client {
    // what knex calls for every statement
    _query(connection: unknown, statement: { sql: string; response?: unknown }): Promise<unknown>;
  }
}
