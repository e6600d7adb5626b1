import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { createGateways, joinGateways, type GatewayStore, type JoinOptions } from '../../src/clients/gateways.ts';
import type { DatabaseAddress } from '../../src/database-address.ts';
import type { Database } from '../../src/store/database.ts';
import { createGatewayStore } from '../../src/store/gateways.ts';
import { openStore } from '../../src/store/open-store.ts';
import { databaseKinds, newDatabase, type DatabaseKind } from '../support/stores.ts';
import { until } from '../support/stack.ts';

const interval = 40;

/** Statements after which the table can be read, and not written. */
const refuse: Readonly<Record<DatabaseKind, readonly string[]>> = {
  SQLite: ["create trigger refuse before update on gateways begin select raise(abort, 'refused'); end"],
  PostgreSQL: [
    "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$",
    'create trigger refuse before update on gateways for each row execute function refuse()',
  ],
};
const allow: typeof refuse = {
  SQLite: ['drop trigger refuse'],
  PostgreSQL: ['drop trigger refuse on gateways'],
};

for (const kind of databaseKinds) {
  suite(`gateways on one ${kind} database`, () => {
    let address: DatabaseAddress;
    let database: Database;
    let store: GatewayStore;
    before(async () => {
      address = await newDatabase(kind);
      ({ database } = await openStore(address));
      store = createGatewayStore(database);
    });
    after(() => database.close());

    /** The real store, that counts what it is asked. */
    const counted = () => {
      const counts = { list: 0, put: 0 };
      const counting: GatewayStore = {
        ...store,
        list: () => (counts.list++, store.list()),
        put: (gateway) => (counts.put++, store.put(gateway)),
      };
      return { counts, store: counting };
    };
    const fail = (cause: unknown) => assert.fail(String(cause));
    const join = (id: string, options: Partial<JoinOptions> = {}) =>
      joinGateways({ store, id, name: id, revision: () => 0, onFault: fail, interval, ...options });
    const ids = async () => (await store.list()).map(({ id }) => id);
    const advance = () => database.write('revision').where('id', 1).increment('value', 1);

    test('are there before they decide, say what they have followed, and leave', async () => {
      let revision = await store.revision();
      const gateway = await join('a', { revision: () => revision, interval: 60_000 });
      assert.deepEqual(await ids(), ['a']);
      await advance();
      const gateways = createGateways(store);
      const late = await gateways.whenFollowed(120);
      assert.deepEqual([late?.revision, late?.pending?.map(({ id }) => id)], [revision + 1, ['a']]);
      const waited = gateways.whenFollowed(10_000);
      revision += 1;
      gateway.follow();
      assert.equal(await waited, undefined);
      assert.deepEqual((await createGateways(store).list()).gateways[0]?.appliedRevision, revision);
      await gateway.leave();
      assert.deepEqual(await ids(), []);
    });

    test('are named to somebody who waits for no time too, by a database that takes some', async () => {
      const gateway = await join('a', { revision: () => -1, interval: 60_000 });
      const list = async () => {
        await delay(50);
        return store.list();
      };
      const late = await createGateways({ ...store, list }).whenFollowed(0);
      assert.deepEqual(
        late?.pending?.map(({ id }) => id),
        ['a'],
      );
      await gateway.leave();
    });

    test('do not wait for themselves', async () => {
      const gateway = await join('a', { revision: () => -1, interval: 60_000 });
      assert.equal(await createGateways(store, 'a').whenFollowed(1_000), undefined);
      await gateway.leave();
    });

    test('are told from a dead one, whatever its clock was', async () => {
      const gateway = await join('a');
      await store.put({ id: 'dead', name: 'dead', appliedRevision: 0 });
      await database.write('gateways').where('id', 'dead').increment('seen_at', 3_600_000);
      await until('it is told from the living', async () => !(await ids()).includes('dead'));
      assert.deepEqual(await ids(), ['a']);
      await gateway.leave();
    });

    test('write nothing while they are alone and nothing changes, and all the time when they are two', async () => {
      const { counts, store: counting } = counted();
      const first = await join('a', { store: counting });
      await until('it has looked around', () => counts.list > 5);
      assert.equal(counts.put, 1);
      const second = await join('b');
      await until('it says that it lives', () => counts.put > 3);
      const before = await store.list();
      await until('both do', async () => {
        const now = await store.list();
        return now.every(({ seenAt }, index) => seenAt !== before[index]?.seenAt);
      });
      assert.deepEqual(await ids(), ['a', 'b']);
      await Promise.all([first.leave(), second.leave()]);
    });

    test('take nobody for dead while none of them can write', async () => {
      const { counts, store: counting } = counted();
      let faults = 0;
      const options = { store: counting, onFault: () => faults++ };
      const both = [await join('a', options), await join('b', options)];
      for (const statement of refuse[kind]) await database.write.raw(statement);
      const { put } = counts;
      await until('both have tried many times', () => counts.put > put + 20);
      assert.equal(faults, 2, 'said once by each');
      assert.deepEqual(await ids(), ['a', 'b']);
      for (const statement of allow[kind]) await database.write.raw(statement);
      await Promise.all(both.map((one) => one.leave()));
    });

    test('one that was taken for dead comes back', async () => {
      const gateway = await join('a');
      await store.remove('a');
      await until('it is back', async () => (await ids()).includes('a'));
      await gateway.leave();
      const left = await ids();
      assert.deepEqual(left, []);
    });

    test('a database that does not tell is no answer, and no error either', async () => {
      const nothing = { revision: undefined, pending: undefined };
      // all connections are taken
      const taken = await Promise.all(
        Array.from({ length: kind === 'SQLite' ? 2 : 3 }, () => database.read.transaction()),
      );
      assert.deepEqual(await createGateways(store).whenFollowed(50), nothing);
      await Promise.all(taken.map((one) => one.rollback()));
      const { database: closed } = await openStore(address);
      const broken = createGateways(createGatewayStore(closed));
      await closed.close();
      assert.deepEqual(await broken.whenFollowed(200), nothing);
    });
  });
}
