import type { Dialect } from './dialect.ts';

const now = "cast(unixepoch('subsec') * 1000 as integer)";

export const sqliteDialect: Dialect = {
  name: 'sqlite',
  isOneOf: (column) => `${column} in (select value from json_each(?))`,
  toList: (values) => JSON.stringify(values),
  nameIsLike: "name like ? escape '\\'",
  hasTag: 'exists (select 1 from json_each(client.tags) where value = ?)',
  now,
  nowInPassing: now,
  rowsOf: <Row>(result: unknown) => result as Row[],

  async advanceRevision(transaction) {
    // first, because it writes: the lock is taken before anything is read
    await transaction('revision').where('id', 1).increment('value', 1);
    const row = await transaction<{ value: number }>('revision').first('value');
    if (!row) throw new Error('the table revision is empty');
    return row.value;
  },

  // there is one writer at a time anyway
  inTurn: (database, work) => work(database),

  async lastClientId(transaction) {
    const row = await transaction<{ name: string; seq: number }>('sqlite_sequence')
      .where('name', 'api_clients')
      .first('seq');
    return row?.seq ?? 0;
  },

  claimClientId: (_, wanted) => Promise.resolve(wanted),

  async recordUses(database, table, uses) {
    // one statement for many rows: [id, milliseconds] in JSON
    await database.raw(
      `update ${table} set last_used_at = used.at
        from (select value ->> 0 as id, max(value ->> 1) as at from json_each(?) group by 1) as used
        where ${table}.id = used.id and ${table}.last_used_at < used.at`,
      [JSON.stringify(uses)],
    );
    return [];
  },

  isDuplicateApiClientId: (error) =>
    error instanceof Error &&
    'code' in error &&
    error.code === 'SQLITE_CONSTRAINT' &&
    error.message.includes('UNIQUE constraint failed: api_clients.api_client_id'),

  isOutcomeUnknown: () => false,
};
