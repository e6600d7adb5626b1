import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openStore } from '../../src/store/open-store.ts';
import { openTestDatabase } from '../support/database.ts';
import { startGateway, stopGateway } from '../support/gateway.ts';
import { makeTempDir } from '../support/stack.ts';

/** What a program that knows schema 1 leaves behind: one client, with a key. */
const schema1 = [
  'create table schema_version (version integer not null)',
  'insert into schema_version values (1)',
  'create table revision (id integer primary key, value bigint not null)',
  'insert into revision values (1, 7)',
  `create table api_clients (id integer not null primary key autoincrement, api_client_id text not null unique,
    name text not null, is_admin boolean not null, enabled boolean not null, created_at bigint not null,
    updated_at bigint not null)`,
  "insert into api_clients values (3, 'billing-eu', 'billing', 1, 1, 1000, 2000)",
  `create table api_keys (id integer not null primary key autoincrement, client_id integer not null
    references api_clients (id) on delete cascade, digest varchar(64) not null, created_at bigint not null,
    expires_at bigint, is_bootstrap boolean not null, first_used_at bigint)`,
  "insert into api_keys values (5, 3, '00ff', 1000, null, 0, null)",
  `create table audit_events (id integer not null primary key autoincrement, revision bigint, at bigint not null,
    actor_client_id bigint, request_id text, action text not null, client_id bigint, outcome text not null, details text)`,
];

test('a database of schema 1 is brought up to date, and everything in it is as it was', async () => {
  const dir = makeTempDir();
  const before = openTestDatabase(dir);
  for (const statement of schema1) await before.raw(statement);
  await before.destroy();
  for (let start = 0; start < 2; start++) {
    const { database, store } = await openStore(join(dir, 'apigw.db'));
    try {
      const client = await store.find(3);
      assert.deepEqual(
        [client?.apiClientId, client?.isAdmin, client?.createdAt, client?.updatedAt],
        ['billing-eu', true, 1_000, 2_000],
      );
      assert.deepEqual(
        [client?.scopes, client?.allowedCidrs, client?.expiresAt, client?.lastUsedAt],
        [[], [], null, null],
      );
      assert.deepEqual(
        client?.keys.map(({ id, digest, hint, replacedAt, revokedAt }) => ({
          id,
          digest,
          hint,
          replacedAt,
          revokedAt,
        })),
        [{ id: 5, digest: '00ff', hint: '', replacedAt: null, revokedAt: null }],
      );
    } finally {
      await database.close();
    }
  }
});

test('before an upgrade a copy is kept beside the database, once, with what it had', async () => {
  const dir = makeTempDir();
  const before = openTestDatabase(dir);
  for (const statement of schema1) await before.raw(statement);
  await before.destroy();
  const gateway = await startGateway(dir);
  await stopGateway(gateway);
  const copy = join(dir, 'apigw.db.schema-1');
  assert.equal(statSync(copy).mode & 0o777, 0o600);
  const kept = openTestDatabase(dir, 'apigw.db.schema-1');
  assert.deepEqual(await kept('schema_version').first('version'), { version: 1 });
  assert.deepEqual(await kept('api_clients').pluck('api_client_id'), ['billing-eu']);
  await kept.destroy();
  const { ino } = statSync(copy);
  await stopGateway(await startGateway(dir));
  assert.equal(statSync(copy).ino, ino);
  assert.deepEqual(
    readdirSync(dir).filter((file) => file.includes('.schema-')),
    ['apigw.db.schema-1'],
  );
});
