import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { createApiClients } from '../../src/clients/api-clients.ts';
import { followChanges } from '../../src/store/change-feed.ts';
import type { Database } from '../../src/store/database.ts';
import { openStore } from '../../src/store/open-store.ts';
import { openTestDatabase } from '../support/database.ts';
import { startGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { makeTempDir, until } from '../support/stack.ts';
import { databaseKinds, newDatabase } from '../support/stores.ts';

const day = 24 * 3_600_000;

suite('the audit trail', () => {
  const dir = makeTempDir();
  let gateway: GatewayProcess;
  before(async () => {
    gateway = await startGateway(dir, { API_KEY_CREATE: 'true' });
  });
  after(() => stopGateway(gateway));

  test('is kept: nobody removes or replaces an event by hand', async () => {
    const database = openTestDatabase(dir);
    const replacing = database.raw(
      "insert or replace into audit_events (id, at, action, outcome) values (1, 0, 'x', 'x')",
    );
    await assert.rejects(replacing, /audit_events is append-only/);
    await assert.rejects(database('audit_events').delete(), /audit_events is append-only/);
    assert.notEqual((await database('audit_events')).length, 0);
    await database.destroy();
  });

  test('loses what is older than APIGW_AUDIT_RETENTION, in batches, and nothing else', async () => {
    const database = openTestDatabase(dir);
    const events = (ago: number) =>
      Array.from({ length: 600 }, () => ({ at: Date.now() - ago, action: 'test', outcome: 'done' }));
    await database.batchInsert('audit_events', [...events(31 * day), ...events(29 * day)], 100);
    const count = async () => (await database('audit_events').where('action', 'test')).length;
    const second = await startGateway(dir, { APIGW_AUDIT_RETENTION: '30d' }, 'second');
    await until('the old ones are gone', async () => (await count()) === 600);
    await until('it is said', () => second.output().includes('audit events were older than they are kept'));
    await stopGateway(second);
    await assert.rejects(database('audit_events').delete(), /audit_events is append-only/);
    await database.destroy();
  });

  test('is not filled by a client that may not use the management API', async () => {
    const { json } = await gateway.manage('POST', '', gateway.firstKey(), { name: 'ordinary' });
    for (let call = 0; call < 60; call++) {
      assert.equal((await gateway.manage('GET', '', String(json['token']))).status, 403);
      assert.equal((await gateway.manage('GET', '', 'made up')).status, 401);
    }
    const database = openTestDatabase(dir);
    const refused = await database('audit_events').where('action', 'management.call');
    await database.destroy();
    // a minute may have ended meanwhile, and says how many it has left out
    assert.ok(refused.length >= 20 && refused.length <= 41, `${refused.length} events`);
  });
});

for (const kind of databaseKinds) {
  test(`who has slept for longer than the audit trail is kept is told so, in ${kind}`, async () => {
    const { database, store } = await openStore(await newDatabase(kind));
    try {
      const at = Date.now() - 40 * day;
      const clients = createApiClients({
        store,
        now: () => at,
        onChange: () => undefined,
        flushUses: () => Promise.resolve(new Set()),
      });
      for (let count = 0; count < 3; count++) await clients.bootstrap(day);
      const revisions = database.openRevisions();
      const { revision } = await revisions.latest();
      assert.ok((await revisions.changedClients(revision - 1, revision))?.length);
      assert.deepEqual(await followedFrom(revision - 1, database), ['changed', 'confirmed']);
      await store.pruneEvents(Date.now() - 30 * day, 1_000);
      assert.equal(await revisions.changedClients(revision - 1, revision), undefined);
      assert.deepEqual(await followedFrom(revision - 1, database), ['reset', 'confirmed']);
      await revisions.close();
    } finally {
      await database.close();
    }
  });
}

/** What somebody is told first who had followed so far, and has slept since. */
async function followedFrom(revision: number, database: Database): Promise<readonly string[]> {
  const told: string[] = [];
  let looks = 0;
  const tell = (what: string) => () => {
    if (told.at(-1) !== what) told.push(what);
  };
  const feed = await followChanges({
    database: {
      ...database,
      openRevisions(onNotice) {
        const revisions = database.openRevisions(onNotice);
        const latest = async () => ({ ...(await revisions.latest()), ...(looks++ === 0 && { revision }) });
        return { ...revisions, latest };
      },
    },
    onChange: tell('changed'),
    onReset: tell('reset'),
    onConfirmed: tell('confirmed'),
    onLost: (cause) => assert.fail(String(cause)),
    onRecovered: () => undefined,
    monotonicNow: () => performance.now(),
    interval: 10,
  });
  await until('it has looked', () => told.includes('confirmed'));
  await feed.stop();
  return told;
}
