import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import { createApiClients, nothingParticular } from '../../src/clients/api-clients.ts';
import { createClientDirectory } from '../../src/clients/client-directory.ts';
import { StoreUnavailable, type ClientWithKeys, type Use } from '../../src/clients/client-store.ts';
import { createUsage } from '../../src/clients/usage.ts';
import { parsePostgresUrl } from '../../src/database-address.ts';
import { followChanges } from '../../src/store/change-feed.ts';
import { createGatewayStore } from '../../src/store/gateways.ts';
import { migrationLock } from '../../src/store/migrations.ts';
import { openStore } from '../../src/store/open-store.ts';
import { startWay } from '../support/cut.ts';
import { forgetful, startPooler } from '../support/pooler.ts';
import { startPostgres, type Postgres } from '../support/postgres.ts';
import { makeTempDir, until } from '../support/stack.ts';
import { addressOf } from '../support/stores.ts';

const actor = { clientId: null, requestId: null };
const aList = { limit: 10, sort: 'id', isDescending: false, after: undefined, now: 0 } as const;

const waitingForLocks = "select count(*)::int as count from pg_stat_activity where wait_event_type = 'Lock'";

function rulesOf(store: Awaited<ReturnType<typeof openStore>>['store']) {
  return createApiClients({
    store,
    now: Date.now,
    onChange: () => undefined,
    flushUses: () => Promise.resolve(new Set()),
  });
}

suite('a store on PostgreSQL', () => {
  let server: Postgres;
  /** An authority, and the server's certificate for `localhost`. */
  const ca = join(makeTempDir(), 'ca.crt');
  const otherCa = join(makeTempDir(), 'other.crt');
  before(async () => {
    const dir = makeTempDir();
    const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', ca, '-subj', '/CN=authority', '-days', '2');
    openssl('req', '-x509', ...newKey, '-keyout', 'other.key', '-out', otherCa, '-subj', '/CN=other', '-days', '2');
    openssl('req', ...newKey, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=localhost');
    writeFileSync(join(dir, 'san'), 'subjectAltName=DNS:localhost');
    openssl(
      'x509',
      '-req',
      '-in',
      'server.csr',
      '-CA',
      ca,
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      'san',
      '-out',
      'server.crt',
    );
    server = await startPostgres({
      conf: ['ssl = on', "password_encryption = 'scram-sha-256'", 'synchronous_commit = off'],
      files: {
        'server.crt': readFileSync(join(dir, 'server.crt'), 'utf8'),
        'server.key': readFileSync(join(dir, 'server.key'), 'utf8'),
      },
      hba: [
        'host all secretive 127.0.0.1/32 scram-sha-256',
        'hostssl all encrypted 127.0.0.1/32 trust',
        'host all encrypted 127.0.0.1/32 reject',
      ],
    });
    await server.sql('postgres', "create role secretive superuser login password 'hunter2:/@'");
    await server.sql('postgres', 'create role encrypted superuser login');
  });
  const open = async (parameters = '') => openStore(addressOf(server.url(await server.createDatabase(), parameters)));

  test('is told of a change, and would not have to ask', async () => {
    const address = addressOf(server.url(await server.createDatabase()));
    const [one, other] = [await openStore(address), await openStore(address)];
    const changed: number[] = [];
    const feed = await followChanges({
      database: other.database,
      onChange: (id) => changed.push(id),
      onReset: () => undefined,
      onConfirmed: () => undefined,
      onLost: () => undefined,
      onRecovered: () => undefined,
      monotonicNow: () => performance.now(),
      interval: 3_600_000,
    });
    try {
      await until('notices arrive', () => feed.isNotified() === true);
      const { client } = await rulesOf(one.store).create(nothingParticular, actor);
      await until('it is told', () => changed.includes(client.id));
      assert.equal(feed.revision(), 1);
    } finally {
      await feed.stop();
      await Promise.all([one.database.close(), other.database.close()]);
    }
  });

  test('is another one on another connection, which may know less: nothing that was remembered counts', async () => {
    const name = await server.createDatabase();
    const { database, store } = await openStore(addressOf(server.url(name)));
    const told: string[] = [];
    const feed = await followChanges({
      database,
      onChange: () => told.push('change'),
      onReset: () => told.push('reset'),
      onConfirmed: () => told.push('confirmed'),
      onLost: () => undefined,
      onRecovered: () => undefined,
      monotonicNow: () => performance.now(),
      interval: 10,
    });
    try {
      await rulesOf(store).create(nothingParticular, actor);
      await until('it is told', () => told.includes('change'));
      assert.ok(!told.includes('reset'));
      told.splice(0);
      await server.sql('postgres', `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`);
      await until('it is told so', () => told.includes('reset'));
      const at = told.indexOf('reset');
      await until('it goes on', () => told.length > at + 2);
      assert.deepEqual(new Set(told.slice(at + 1)), new Set(['confirmed']), 'once');
    } finally {
      await feed.stop();
      await database.close();
    }
  });

  test('gives no id twice, and takes none for what was undone', async () => {
    const { database, store } = await open();
    const clients = rulesOf(store);
    try {
      const client = { ...nothingParticular, name: 'x', createdAt: 0, updatedAt: 0 };
      const undone = store.change(async (transaction) => {
        await transaction.insertClient({ ...client, apiClientId: 'a' }, 1_000_000);
        throw new Error('a dry run');
      });
      await assert.rejects(undone, /a dry run/);
      const first = await clients.create(nothingParticular, actor);
      assert.equal(first.client.id, 1);
      const beyond = 2 ** 31;
      await store.change((transaction) => transaction.insertClient({ ...client, apiClientId: 'b' }, beyond));
      assert.equal(await store.change((transaction) => transaction.lastClientId()), beyond);
      const next = await clients.create(nothingParticular, actor);
      await clients.remove(next.client.id, actor, { force: true, areTokensAccepted: false });
      assert.equal((await clients.create(nothingParticular, actor)).client.id, beyond + 2);
      assert.equal((await store.find(beyond))?.apiClientId, 'b');
    } finally {
      await database.close();
    }
  });

  test('sorts and searches as SQLite does, whatever the language of the database is', async () => {
    const { database, store } = await open();
    try {
      for (const name of ['Zoe', 'alpha', 'Éva', 'eva', '50%', 'a_b', 'ZOE 2'])
        await rulesOf(store).create({ ...nothingParticular, name, tags: name === 'eva' ? ['eu'] : [] }, actor);
      const list = async (query: object) => (await store.list({ ...aList, ...query })).map(({ name }) => name);
      assert.deepEqual(await list({ sort: 'name' }), ['50%', 'ZOE 2', 'Zoe', 'a_b', 'alpha', 'eva', 'Éva']);
      assert.deepEqual(await list({ name: 'zoe' }), ['Zoe', 'ZOE 2']);
      assert.deepEqual(await list({ name: 'éva' }), []);
      assert.deepEqual([await list({ name: '%' }), await list({ name: '_' })], [['50%'], ['a_b']]);
      assert.deepEqual(await list({ tag: 'eu' }), ['eva']);
      assert.deepEqual(await list({ sort: 'name', after: { value: 'alpha', id: 2 } }), ['eva', 'Éva']);
      // what no row can have is not there, and no fault of the database
      assert.equal(await store.findByApiClientId('a\0b'), undefined);
      assert.equal(await store.find(2 ** 63), undefined);
    } finally {
      await database.close();
    }
  });

  test('acknowledges nothing that is not on the disk, also where the server is set to do so', async () => {
    const address = addressOf(server.url(await server.createDatabase()));
    const { database, store } = await openStore(address);
    try {
      await database.write.raw('create table seen (setting text)');
      await database.write.raw(`create function see() returns trigger language plpgsql as
        $$ begin insert into seen values (current_setting('synchronous_commit')); return new; end $$`);
      for (const table of ['api_clients', 'audit_events'])
        await database.write.raw(`create trigger see after insert on ${table} for each row execute function see()`);
      await rulesOf(store).create(nothingParticular, actor);
      await store.recordEvent({ at: 0, actor, action: 'management.call', clientId: null, outcome: 'done' });
      assert.deepEqual(await database.read('seen').pluck('setting'), ['on', 'on', 'on']);
    } finally {
      await database.close();
    }
  });

  test('flushes no sign of life of a gateway, but for the first', async () => {
    const name = await server.createDatabase();
    await server.sql('postgres', `alter database ${name} set synchronous_commit = on`);
    const { database } = await openStore(addressOf(server.url(name)));
    try {
      await database.write.raw('create table seen (setting text)');
      await database.write.raw(`create function see() returns trigger language plpgsql as
        $$ begin insert into seen values (current_setting('synchronous_commit')); return new; end $$`);
      await database.write.raw(
        'create trigger see before update or insert on gateways for each row execute function see()',
      );
      const gateways = createGatewayStore(database);
      for (const appliedRevision of [1, 2]) await gateways.put({ id: 'a', name: 'a', appliedRevision });
      // the second one is tried as an insertion first
      assert.deepEqual(await database.read('seen').pluck('setting'), ['on', 'on', 'off']);
      const [{ appliedRevision, seenAt } = { appliedRevision: 0, seenAt: 0 }] = await gateways.list();
      assert.equal(appliedRevision, 2);
      assert.ok(Math.abs(seenAt - Date.now()) < 60_000);
    } finally {
      await database.close();
    }
  });

  test('is made with patience behind a pooler in transaction mode, which forgets what a session is set to', async () => {
    const pooler = await startPooler(server, forgetful);
    const name = await server.createDatabase();
    await server.sql('postgres', `alter database ${name} set lock_timeout = '50ms'`);
    // as another start that makes the tables, and for longer than that
    const locked = server.sql(
      name,
      `do $$ begin
        perform pg_advisory_lock(${migrationLock});
        while not exists (select from pg_locks where locktype = 'advisory' and not granted) loop
          perform pg_sleep(0.02);
        end loop;
        perform pg_sleep(0.2);
      end $$`,
    );
    const { database } = await openStore(addressOf(pooler.url(name)));
    await database.close();
    await locked;
  });

  test('is asked for the right client behind a pooler, whatever others have prepared', async () => {
    const pooler = await startPooler(server);
    const name = await server.createDatabase();
    await pooler.open(name, 5);
    const address = addressOf(pooler.url(name));
    const stores = await Promise.all([openStore(address), openStore(address)]);
    const [one, other] = [stores[0].store, stores[1].store];
    try {
      const clients: { id: number; apiClientId: string }[] = [];
      for (let count = 0; count < 10; count++)
        clients.push((await rulesOf(one).create(nothingParticular, actor)).client);
      // both ask first for what the other asks for last
      for (const { id, apiClientId } of clients) {
        assert.equal((await one.find(id))?.apiClientId, apiClientId);
        assert.equal((await other.findByApiClientId(apiClientId))?.id, id);
      }
      for (const { id, apiClientId } of clients) {
        assert.equal((await other.find(id))?.apiClientId, apiClientId);
        assert.equal((await one.findByApiClientId(apiClientId))?.id, id);
      }
    } finally {
      await Promise.all(stores.map(({ database }) => database.close()));
    }
  });

  test('says that it does not answer when the connection ends in the midst of a statement', async () => {
    const way = await startWay(server.port);
    const name = await server.createDatabase();
    const { database, store } = await openStore(addressOf(server.url(name).replace(`:${server.port}`, `:${way.port}`)));
    const holder = await openStore(addressOf(server.url(name)));
    try {
      await holder.store.change(async () => {
        const change = rulesOf(store).create(nothingParticular, actor);
        await until('it waits', async () => {
          const [row] = await server.sql<{ count: number }>(name, waitingForLocks);
          return row?.count === 1;
        });
        way.mend();
        await assert.rejects(change, (error: Error) => {
          assert.ok(error instanceof StoreUnavailable);
          // the second is what is said of the attempt to undo it
          assert.match(error.message, /answer: (?:Connection terminated|Client has encountered a connection error)/);
          return true;
        });
      });
    } finally {
      await database.close();
      await holder.database.close();
      await way.close();
    }
  });

  test('has an audit trail that nobody changes', async () => {
    const { database, store } = await open();
    try {
      await rulesOf(store).create(nothingParticular, actor);
      await assert.rejects(database.write('audit_events').update({ outcome: 'x' }), /append-only/);
    } finally {
      await database.close();
    }
  });

  test('takes uses from many at once, in any order, beside changes', async () => {
    const address = addressOf(server.url(await server.createDatabase()));
    const stores = await Promise.all([openStore(address), openStore(address), openStore(address)]);
    const clients = rulesOf(stores[0].store);
    try {
      const ids: number[] = [];
      for (let count = 0; count < 20; count++) ids.push((await clients.create(nothingParticular, actor)).client.id);
      const uses = ids.map((clientId) => ({ clientId, keyId: clientId, at: 5_000 }));
      const keep = async (store: (typeof stores)[number]['store'], some: readonly Use[]) => {
        for (let late = some; late.length > 0;) late = await store.recordUses(late);
      };
      await Promise.all(
        stores.flatMap(({ store }, index) => [
          keep(store, index % 2 ? uses : [...uses].reverse()),
          clients.update(ids[index] ?? 0, { name: 'y' }, actor, { force: true, areTokensAccepted: false }),
        ]),
      );
      for (const id of ids) assert.equal((await stores[1].store.find(id))?.lastUsedAt, 5_000);
    } finally {
      await Promise.all(stores.map(({ database }) => database.close()));
    }
  });

  test('keeps times of last use without a wait for a change, and says which are to come again', async () => {
    const { database, store } = await open();
    const clients = rulesOf(store);
    try {
      const ids: number[] = [];
      for (let count = 0; count < 2; count++) ids.push((await clients.create(nothingParticular, actor)).client.id);
      const [held = 0, free = 0] = ids;
      const uses = ids.map((clientId) => ({ clientId, keyId: clientId, at: 5_000 }));
      // a change: it has the lock of all changes, and those of the rows that it has written to
      await store.change(async (transaction) => {
        const client = (await store.find(held)) as ClientWithKeys;
        await transaction.updateClient({ ...client, name: 'changed' });
        await transaction.recordEvent({ at: 0, actor, action: 'client.update', clientId: held, outcome: 'done' });
        assert.deepEqual(await store.recordUses(uses), [uses[0]]);
        assert.equal((await store.find(free))?.lastUsedAt, 5_000);
      });
      assert.deepEqual(await store.recordUses(uses), []);
      const { name, lastUsedAt, keys } = (await store.find(held)) as ClientWithKeys;
      assert.deepEqual([name, lastUsedAt, keys[0]?.lastUsedAt], ['changed', 5_000, 5_000]);
      // never back
      assert.deepEqual(await store.recordUses([{ clientId: held, keyId: held, at: 4_000 }]), []);
      assert.equal((await store.find(held))?.lastUsedAt, 5_000);
    } finally {
      await database.close();
    }
  });

  test('has of a creation that is repeated the key that is in use, whoever is writing to its row', async () => {
    const { database, store } = await open();
    const usage = createUsage({ store, onFault: (error) => assert.fail(String(error)) });
    const clients = createApiClients({ store, now: Date.now, onChange: () => undefined, flushUses: usage.flush });
    try {
      const { client } = await clients.create(nothingParticular, actor, 'a creation');
      const directory = createClientDirectory({ store, monotonicNow: () => performance.now() });
      const known = await directory.find(String(client.id));
      assert.ok(known);
      usage.note(Date.now(), known, known.keys[0]);
      const { token, client: same } = await database.write.transaction(async (transaction) => {
        await transaction('api_keys').where('client_id', client.id).update({ hint: 'held' });
        return clients.create(nothingParticular, actor, 'a creation');
      });
      assert.equal(token, undefined);
      assert.equal(same.keys[0]?.id, client.keys[0]?.id);
    } finally {
      await usage.close();
      await database.close();
    }
  });

  const tlsOf = async (url: string): Promise<boolean | string> => {
    try {
      const { database } = await openStore(addressOf(url));
      const { rows } = await database.read.raw<{ rows: { ssl: number }[] }>(
        'select ssl from pg_stat_ssl where pid = pg_backend_pid()',
      );
      await database.close();
      return rows[0]?.ssl === 1;
    } catch (error) {
      return (error as Error).message;
    }
  };

  test('is reached over TLS as sslmode says', async () => {
    const name = await server.createDatabase();
    const to = (host: string, parameters: string, user = 'apigw') =>
      tlsOf(`postgres://${user}@${host}:${server.port}/${name}?${parameters}`);
    const withCa = `&sslrootcert=${ca}`;
    assert.equal(await to('localhost', 'sslmode=disable'), false);
    assert.match(String(await to('localhost', 'sslmode=disable', 'encrypted')), /pg_hba\.conf rejects|no encryption/);
    assert.equal(await to('localhost', ''), true);
    assert.equal(await to('127.0.0.1', 'sslmode=require'), true);
    assert.match(
      String(await to('localhost', 'sslmode=verify-full')),
      /no authority that Node trusts has signed its certificate, and sslrootcert names no other/,
    );
    assert.match(
      String(await to('localhost', `sslmode=verify-full&sslrootcert=${otherCa}`)),
      /its certificate is not signed by an authority in \S+other\.crt, which sslrootcert names/,
    );
    assert.match(String(await to('localhost', 'sslmode=verify-ca&sslrootcert=/nowhere')), /sslrootcert: .*\/nowhere/);
    assert.match(
      String(await to('localhost', 'sslmode=require&sslrootcert=/etc/passwd')),
      /sslrootcert: \/etc\/passwd has no certificate in PEM form/,
    );
    assert.equal(await to('127.0.0.1', `sslmode=verify-ca${withCa}`), true);
    assert.match(String(await to('127.0.0.1', `sslmode=verify-full${withCa}`)), /does not match|not in the cert/);
    assert.equal(await to('localhost', `sslmode=verify-full${withCa}`), true);
    assert.equal(await to(encodeURIComponent(server.dir), ''), false, 'a Unix socket');
    // the first of several that can be asked
    const several = `127.0.0.1:1,localhost:${server.port}`;
    assert.equal(await tlsOf(`postgres://apigw@${several}/${name}?target_session_attrs=read-write`), true);
  });

  test('never repeats a password', async () => {
    const name = await server.createDatabase();
    const url = (password: string) => `postgres://secretive:${password}@127.0.0.1:${server.port}/${name}`;
    assert.equal(await tlsOf(url(encodeURIComponent('hunter2:/@'))), true);
    const refused = String(await tlsOf(url('hunter3')));
    assert.match(
      refused,
      /postgres:\/\/secretive@127\.0\.0\.1:\d+\/\S+ cannot be opened: .*password authentication failed/,
    );
    assert.doesNotMatch(refused, /hunter/);
    assert.match(String(await tlsOf(url(''))), /it asks for a password, and there is none: set DATABASE_PASSWORD_FILE/);
  });

  test('is none in another encoding, and none that a newer program has used', async () => {
    const name = await server.createDatabase(
      "encoding 'SQL_ASCII' locale_provider libc lc_collate 'C' lc_ctype 'C' template template0",
    );
    assert.match(String(await tlsOf(server.url(name))), /encoding of the database is SQL_ASCII, and must be UTF8/);
    const newer = await server.createDatabase();
    assert.equal(await tlsOf(server.url(newer)), true);
    await server.sql(newer, 'update schema_version set version = 99');
    assert.match(String(await tlsOf(server.url(newer))), /cannot be used\. Its schema has version 99/);
  });

  test('whose primary can only be read goes on deciding, and takes no change', async () => {
    const name = await server.createDatabase();
    const { database, store } = await openStore(addressOf(server.url(name)));
    await rulesOf(store).create(nothingParticular, actor);
    await database.close();
    await server.sql('postgres', `alter database ${name} set default_transaction_read_only = on`);
    const again = await openStore(addressOf(server.url(name)));
    try {
      assert.equal((await again.store.find(1))?.id, 1);
      await assert.rejects(rulesOf(again.store).create(nothingParticular, actor), StoreUnavailable);
    } finally {
      await again.database.close();
    }
  });
});

suite('a URL of PostgreSQL', () => {
  for (const [url, why] of [
    ['postgres://host/x', 'names no user'],
    ['postgres://u:p%ZZ@host/x', 'percent-encoded'],
    ['postgres://u@/x', 'names no host'],
    ['postgres://u@host:0/x', 'names no host, or a port'],
    ['postgres://u:hunter2@host/x?sslmode=maybe', 'sslmode must be one of'],
    ['postgres://u:hunter2@host/x?sllmode=require', '"sllmode" is none of its parameters'],
    ['postgres://u@host/x?sslcert=/x', 'go together'],
    ['postgres://u@host/x?target_session_attrs=standby', 'read-write'],
  ] as const) {
    test(`is refused when ${why}`, () => {
      const said = parsePostgresUrl(url);
      assert.ok(typeof said === 'string' && said.includes(why), JSON.stringify(said));
      assert.doesNotMatch(said, /hunter2/);
    });
  }
});
