import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { createApiClients, nothingParticular } from '../../src/clients/api-clients.ts';
import { openStore } from '../../src/store/open-store.ts';
import { runCli } from '../support/cli.ts';
import { startPostgres } from '../support/postgres.ts';
import { makeTempDir } from '../support/stack.ts';
import { addressOf } from '../support/stores.ts';

const actor = { clientId: null, requestId: null };
const safeguard = { force: true, areTokensAccepted: false };

test('everything of a SQLite database goes to PostgreSQL, once, and is the same there', async () => {
  const server = await startPostgres();
  const dir = makeTempDir();
  const sqlite = await openStore(join(dir, 'apigw.db'));
  const clients = (store: typeof sqlite.store) =>
    createApiClients({ store, now: Date.now, onChange: () => undefined, flushUses: () => Promise.resolve(new Set()) });
  for (let count = 1; count <= 30; count++)
    await clients(sqlite.store).create(
      { ...nothingParticular, name: `näme ${count}`, tags: ['eu'] },
      actor,
      `creation-${count}`,
    );
  await clients(sqlite.store).remove(7, actor, safeguard);
  await clients(sqlite.store).remove(30, actor, safeguard);
  // more than one page of rows
  await sqlite.database.write.raw(
    `insert into audit_events (at, action, outcome, details)
      with recursive numbers (value) as (select 1 union all select value + 1 from numbers where value < 600)
      select value, 'management.call', 'done', '{"text":"ä"}' from numbers`,
  );
  const before = await sqlite.store.find(5);
  await sqlite.database.close();

  const name = await server.createDatabase();
  const args = ['migrate-store', '--from', `sqlite:${join(dir, 'apigw.db')}`, '--to', server.url(name)];
  const run = (...more: string[]) => runCli([...args, ...more, '--output', 'json']);
  const dry = await run('--dry-run');
  assert.equal(dry.exitCode, 0, dry.stderr);
  assert.match(dry.stderr, /dry run: nothing is there yet/);
  assert.deepEqual(await server.sql(name, 'select count(*)::int as count from api_clients'), [{ count: 0 }]);

  const done = await run();
  assert.equal(done.exitCode, 0, done.stderr);
  assert.deepEqual(done.json, dry.json);
  const counts = Object.fromEntries(
    (done.json as { table: string; rows: number }[]).map(({ table, rows }) => [table, rows]),
  );
  assert.deepEqual(counts, {
    revision: 1,
    api_clients: 28,
    api_keys: 28,
    audit_events: 632,
    remembered_requests: 30,
  });

  const again = await run();
  assert.equal(again.exitCode, 1);
  assert.match(again.stderr, /Nothing has been copied\. .*is not empty/);

  const { database, store } = await openStore(addressOf(server.url(name)));
  try {
    assert.deepEqual(await store.find(5), before);
    assert.equal((await clients(store).create(nothingParticular, actor)).client.id, 31);
    const events = await store.listEvents({ limit: 1, isDescending: true, after: undefined });
    assert.deepEqual([events[0]?.id, events[0]?.revision], [633, 33]);
  } finally {
    await database.close();
  }
  const none = await runCli(['migrate-store', '--from', 'sqlite:/nowhere.db', '--to', server.url(name)]);
  assert.match(none.stderr, /There is no database \/nowhere\.db/);
});
