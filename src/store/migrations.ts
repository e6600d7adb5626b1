import type { Knex } from 'knex';

type Migration = (schema: Knex.SchemaBuilder, transaction: Knex) => Promise<void>;

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
  async (schema, transaction) => {
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
    await transaction.raw(
      `create trigger audit_events_append_only before update on audit_events
        begin select raise(abort, 'audit_events is append-only'); end`,
    );
  },
  // events are removed by the pruning alone, which says in the same transaction from before when
  async (schema, transaction) => {
    await schema.createTable('audit_pruning', (table) => {
      table.integer('id').primary();
      table.bigInteger('before').notNullable();
    });
    await transaction('audit_pruning').insert({ id: 1, before: 0 });
    await transaction.raw(
      `create trigger audit_events_kept before delete on audit_events
        when old.at >= (select before from audit_pruning where id = 1)
        begin select raise(abort, 'audit_events is append-only'); end`,
    );
  },
];

export const latestVersion = migrations.length;

/**
 * Brings the schema to this program's version, in one transaction: a start that is killed half-way leaves the
 * database as it was, and of several starts at once one migrates while the others wait.
 *
 * @throws {Error} when a newer program has been at this database
 */
export async function migrate(database: Knex): Promise<void> {
  // which needs no lock: who only reads need not wait for who writes
  if ((await versionOf(database)) === latestVersion) return;
  await database.raw('create table if not exists schema_version (version integer not null)');
  await database.transaction(async (transaction) => {
    // the first statement writes, and so takes the lock before anything has been read
    await transaction.raw(
      'insert into schema_version (version) select 0 where not exists (select 1 from schema_version)',
    );
    const row = await transaction<{ version: number }>('schema_version').first('version');
    const version = row?.version ?? 0;
    if (!Number.isInteger(version) || version < 0) throw new Error('Its schema has no version that can be.');
    if (version > migrations.length) {
      throw new Error(
        `Its schema has version ${version}, and this program knows ${migrations.length}: a newer program has used it. ` +
          'Start that program again, or restore the backup made before the upgrade.',
      );
    }
    for (const apply of migrations.slice(version)) await apply(transaction.schema, transaction);
    if (version < migrations.length) await transaction('schema_version').update({ version: migrations.length });
  });
}

/** Undefined when it has none. */
async function versionOf(database: Knex): Promise<number | undefined> {
  if (!(await database.schema.hasTable('schema_version'))) return undefined;
  const row = await database<{ version: number }>('schema_version').first('version');
  return row?.version;
}
