import type { Knex } from 'knex';
import type { Dialect } from './dialect.ts';

type Migration = (schema: Knex.SchemaBuilder, transaction: Knex, dialect: Dialect['name']) => Promise<void>;

/** Events of the audit trail are never changed, whoever tries. */
const appendOnly: Readonly<Record<Dialect['name'], readonly string[]>> = {
  sqlite: [
    `create trigger audit_events_append_only before update on audit_events
      begin select raise(abort, 'audit_events is append-only'); end`,
  ],
  postgresql: [
    `create function audit_events_append_only() returns trigger language plpgsql as
      $$ begin raise exception 'audit_events is append-only'; end $$`,
    `create trigger audit_events_append_only before update on audit_events
      for each row execute function audit_events_append_only()`,
  ],
};

/** And never removed, but by the pruning. */
const keptUntilPruned: typeof appendOnly = {
  sqlite: [
    `create trigger audit_events_kept before delete on audit_events
      when old.at >= (select before from audit_pruning where id = 1)
      begin select raise(abort, 'audit_events is append-only'); end`,
  ],
  postgresql: [
    `create function audit_events_kept() returns trigger language plpgsql as
      $$ begin
        if old.at >= (select before from audit_pruning where id = 1) then
          raise exception 'audit_events is append-only';
        end if;
        return old;
      end $$`,
    `create trigger audit_events_kept before delete on audit_events
      for each row execute function audit_events_kept()`,
  ],
};

/** And never replaced: SQLite's `insert or replace` is neither a change nor a removal to a trigger. */
const neverReplaced: typeof appendOnly = {
  sqlite: [
    `create trigger audit_events_never_replaced before insert on audit_events
      when exists (select 1 from audit_events where id = new.id)
      begin select raise(abort, 'audit_events is append-only'); end`,
  ],
  postgresql: [],
};

/** In order; one that has been released is never changed. Times are milliseconds since the epoch. */
const migrations: readonly Migration[] = [
  async (schema, transaction) => {
    await schema
      .createTable('revision', (table) => {
        table.integer('id').primary();
        table.bigInteger('value').notNullable();
      })
      .createTable('api_clients', (table) => {
        // AUTOINCREMENT: an id is never given twice
        table.increments('id');
        table.text('api_client_id').notNullable().unique();
        table.text('name').notNullable();
        table.boolean('is_admin').notNullable();
        table.boolean('enabled').notNullable();
        table.bigInteger('created_at').notNullable();
        table.bigInteger('updated_at').notNullable();
      })
      .createTable('api_keys', (table) => {
        table.increments('id');
        table.integer('client_id').notNullable().references('api_clients.id').onDelete('CASCADE').index();
        table.string('digest', 64).notNullable();
        table.bigInteger('created_at').notNullable();
        table.bigInteger('expires_at').nullable();
        table.boolean('is_bootstrap').notNullable();
        table.bigInteger('first_used_at').nullable();
      })
      .createTable('audit_events', (table) => {
        table.increments('id');
        // the revision that this change made; null for an event that changed nothing
        table.bigInteger('revision').nullable().index();
        table.bigInteger('at').notNullable();
        table.bigInteger('actor_client_id').nullable();
        table.text('request_id').nullable();
        table.text('action').notNullable();
        table.bigInteger('client_id').nullable();
        table.text('outcome').notNullable();
        table.text('details').nullable();
      });
    await transaction('revision').insert({ id: 1, value: 0 });
  },
  // expiry, rotation, requirements, limits
  async (schema) => {
    await schema
      .alterTable('api_clients', (table) => {
        table.text('description').nullable();
        // lists of text, as JSON
        table.text('tags').notNullable().defaultTo('[]');
        table.text('scopes').notNullable().defaultTo('[]');
        table.text('allowed_cidrs').notNullable().defaultTo('[]');
        table.bigInteger('expires_at').nullable();
        table.text('rate_limit').nullable();
        table.integer('rate_limit_burst').nullable();
        table.text('quota').nullable();
        // 0 for never, so that it can be sorted by
        table.bigInteger('last_used_at').notNullable().defaultTo(0);
        table.index(['name', 'id']);
        table.index(['created_at', 'id']);
        table.index(['last_used_at', 'id']);
      })
      .alterTable('api_keys', (table) => {
        table.text('hint').notNullable().defaultTo('');
        table.bigInteger('replaced_at').nullable().index();
        table.bigInteger('revoked_at').nullable();
        table.bigInteger('last_used_at').notNullable().defaultTo(0);
      })
      .createTable('remembered_requests', (table) => {
        table.string('digest', 64).primary();
        table.string('request_digest', 64).notNullable();
        table.integer('client_id').notNullable();
        // the key that was made with the client; null when none was
        table.integer('key_id').nullable();
        table.bigInteger('at').notNullable().index();
      });
  },
  // the audit trail can be asked; keys that another gateway has made
  async (schema, transaction, dialect) => {
    await schema
      .alterTable('audit_events', (table) => {
        // who it was, when it was no API client, and from where
        table.text('actor').nullable();
        table.text('address').nullable();
        table.index('at');
        table.index(['client_id', 'id']);
        table.index(['actor_client_id', 'id']);
        table.index(['action', 'id']);
        table.index('request_id');
      })
      .alterTable('api_keys', (table) => {
        // its secret has no checksum
        table.boolean('is_imported').notNullable().defaultTo(false);
      });
    await transaction.raw('create index api_keys_imported on api_keys (id) where is_imported');
    for (const statement of appendOnly[dialect]) await transaction.raw(statement);
  },
  // events are removed by the pruning alone, which says in the same transaction from before when
  async (schema, transaction, dialect) => {
    await schema.createTable('audit_pruning', (table) => {
      table.integer('id').primary();
      table.bigInteger('before').notNullable();
    });
    await transaction('audit_pruning').insert({ id: 1, before: 0 });
    for (const statement of keptUntilPruned[dialect]) await transaction.raw(statement);
  },
  // who decides, and up to which revision each has followed
  async (schema) => {
    await schema.createTable('gateways', (table) => {
      table.text('id').primary();
      table.text('name').notNullable();
      table.bigInteger('applied_revision').notNullable();
      table.bigInteger('seen_at').notNullable();
    });
  },
  async (_, transaction, dialect) => {
    for (const statement of neverReplaced[dialect]) await transaction.raw(statement);
  },
];

export const latestVersion = migrations.length;

/**
 * Brings the schema to this program's version, in one transaction: a start that is killed half-way leaves the
 * database as it was, and of several starts at once one migrates while the others wait.
 *
 * @throws {Error} when a newer program has been at this database
 */
export async function migrate(database: Knex, dialect: Dialect): Promise<void> {
  // which needs no lock: who only reads need not wait for who writes
  if ((await versionOf(database)) === latestVersion) return;
  const work = (transaction: Knex) => migrateAlone(transaction, dialect);
  if (dialect.name === 'postgresql') {
    await database.transaction(async (transaction) => {
      await transaction.raw(withoutLimits);
      await transaction.raw('select pg_advisory_xact_lock(?)', [migrationLock]);
      await transaction.raw(createVersionTable);
      await work(transaction);
    });
    return;
  }
  await database.raw(createVersionTable);
  await database.transaction(work);
}

/** Of the schema; undefined when there is none of this program. */
export async function versionOf(database: Knex): Promise<number | undefined> {
  if (!(await database.schema.hasTable('schema_version'))) return undefined;
  const row = await database<{ version: number }>('schema_version').first('version');
  return row?.version ?? 0;
}

/** Any number that nobody else in the same database takes. */
export const migrationLock = 0x61_70_69_67_77;
/** For this transaction: what a connection is set to does not count where a pooler gives it another one. */
export const withoutLimits = `select set_config(name, '0', true)
  from unnest(array['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout']) as limits (name)`;
const createVersionTable = 'create table if not exists schema_version (version integer not null)';

async function migrateAlone(transaction: Knex, dialect: Dialect): Promise<void> {
  // the first statement writes, and so takes the lock before anything has been read
  await transaction.raw(
    'insert into schema_version (version) select 0 where not exists (select 1 from schema_version)',
  );
  const row = await transaction<{ version: number }>('schema_version').first('version');
  const version = row?.version ?? 0;
  expectKnown(version);
  if (version === migrations.length) return;
  for (const apply of migrations.slice(version)) await apply(transaction.schema, transaction, dialect.name);
  if (dialect.name === 'postgresql') await makeAlike(transaction);
  await transaction('schema_version').update({ version: migrations.length });
}

/** @throws {Error} */
export function expectKnown(version: number): void {
  if (!Number.isInteger(version) || version < 0) throw new Error('Its schema has no version that can be.');
  if (version > migrations.length) {
    throw new Error(
      `Its schema has version ${version}, and this program knows ${migrations.length}: a newer program has used it. ` +
        'Start that program again, or restore the backup made before the upgrade.',
    );
  }
}

/**
 * Gives PostgreSQL what SQLite has by itself: text that is compared byte by byte, whatever the language of the database
 * is, numbers up to 2^53 and beyond, and ids of clients that are counted in their own transaction.
 */
async function makeAlike(transaction: Knex): Promise<void> {
  await transaction.raw('alter table revision add column if not exists last_client_id bigint not null default 0');
  const { rows: columns } = await transaction.raw<{ rows: { table: string; column: string; type: string }[] }>(
    `select table_name as "table", column_name as "column", data_type as type from information_schema.columns
      where table_schema = current_schema() and table_name in (${[...tables, 'gateways'].map((name) => `'${name}'`).join(', ')})
        and (data_type = 'integer'
          or (data_type in ('text', 'character varying') and collation_name is distinct from 'C'))`,
  );
  for (const { table, column, type } of columns) {
    const wanted = type === 'integer' ? 'bigint' : 'text collate "C"';
    await transaction.raw(`alter table ?? alter column ?? type ${wanted}`, [table, column]);
  }
  await transaction.raw('alter table api_clients alter column id drop default');
  await transaction.raw('drop sequence if exists api_clients_id_seq');
  for (const sequence of ['api_keys_id_seq', 'audit_events_id_seq'])
    await transaction.raw('alter sequence ?? as bigint', [sequence]);
}

/**
 * What is to be kept, in an order in which it can be filled. Of the others `schema_version` is each database's own, and
 * `gateways` has who runs now.
 */
export const tables = ['revision', 'api_clients', 'api_keys', 'audit_events', 'remembered_requests'] as const;
