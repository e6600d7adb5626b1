import type { Knex } from 'knex';
import type { Dialect } from './dialect.ts';

/** Whoever listens on it is told every new revision, when its change is committed. */
export const channel = 'apigw_revision';

interface Rows<Row> {
  readonly rows: Row[];
}

/** The server may have been told to acknowledge what is not on its disk yet; then not for what is acknowledged here. */
const keptDurably = `case current_setting('synchronous_commit') when 'off' then set_config('synchronous_commit', 'on', true) end`;

const now = '(extract(epoch from clock_timestamp()) * 1000)::bigint';

/** @param canNotify false where the server knows no notifications */
export function createPostgresDialect(canNotify: boolean): Dialect {
  const advance = `update revision set value = value + 1 where id = 1
    returning value, ${keptDurably}${canNotify ? `, pg_notify('${channel}', value::text)` : ''}`;

  return {
    name: 'postgresql',
    isOneOf: (column, type) => `${column} = any(?::${type}[])`,
    toList: (values) => values,
    // of the collation "C" lower knows A to Z alone, as SQLite's like does
    nameIsLike: `lower(name collate "C") like lower(? collate "C") escape '\\'`,
    hasTag: 'client.tags::jsonb @> to_jsonb(?::text)',
    now,
    nowInPassing: `case when set_config('synchronous_commit', 'off', true) = 'off' then ${now} end`,
    rowsOf: <Row>(result: unknown) => (result as Rows<Row>).rows,

    async advanceRevision(transaction) {
      const [row] = (await transaction.raw<Rows<{ value: number }>>(advance)).rows;
      if (!row) throw new Error('the table revision is empty');
      return row.value;
    },

    inTurn: (database, work) =>
      database.transaction(async (transaction) => {
        await transaction.raw(`select ${keptDurably} from revision where id = 1 for update`);
        await work(transaction);
      }),

    async lastClientId(transaction) {
      const row = await transaction<{ last_client_id: number }>('revision').where('id', 1).first('last_client_id');
      return row?.last_client_id ?? 0;
    },

    // a sequence would keep an id from a transaction that is undone, such as that of a dry run
    async claimClientId(transaction: Knex, wanted = 0) {
      const [row] = (
        await transaction.raw<Rows<{ id: number }>>(
          `update revision set last_client_id = greatest(last_client_id + 1, ?::bigint) where id = 1
            returning last_client_id as id`,
          [wanted],
        )
      ).rows;
      return row?.id;
    },

    // never a wait for a row, so never a deadlock, with whatever else is written and in whatever order
    async recordUses(database, table, uses) {
      const { rows } = await database.raw<Rows<{ id: number }>>(
        `with used as (select id, max(at) as at from unnest(?::bigint[], ?::bigint[]) as use (id, at) group by id),
          due as (select id, used.at from ${table} join used using (id) where last_used_at < used.at),
          free as (select id from ${table} where id in (select id from due) for no key update skip locked),
          kept as (update ${table} set last_used_at = due.at from due join free using (id)
            where ${table}.id = due.id and last_used_at < due.at)
          select id from due where id not in (select id from free)`,
        [uses.map(([id]) => id), uses.map(([, at]) => at)],
      );
      return rows.map(({ id }) => id);
    },

    isDuplicateApiClientId: (error) =>
      error instanceof Error &&
      'code' in error &&
      error.code === '23505' &&
      'constraint' in error &&
      error.constraint === 'api_clients_api_client_id_unique',

    // the server has said that it is undone, or has said nothing
    isOutcomeUnknown: (error) => !/^(?:23|40)[0-9A-Z]{3}$/.test((error as { code?: string }).code ?? ''),
  };
}
