import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { createClientDirectory } from '../../src/clients/client-directory.ts';
import { StoreUnavailable, type ClientWithKeys } from '../../src/clients/client-store.ts';
import { until } from '../support/stack.ts';

const client = (id: number): ClientWithKeys => ({
  id,
  apiClientId: `client-${id}`,
  name: 'name',
  description: null,
  tags: [],
  scopes: [],
  allowedCidrs: [],
  isAdmin: false,
  isEnabled: true,
  expiresAt: null,
  rateLimit: null,
  rateLimitBurst: null,
  quota: null,
  createdAt: 0,
  updatedAt: 0,
  lastUsedAt: null,
  keys: [],
});

/** A directory over clients that the test holds in its hand, and a clock that it turns. */
function follow({ capacity }: { capacity?: number } = {}) {
  const clients = new Map<number, ClientWithKeys>();
  const waiting: (() => void)[] = [];
  let time = 0;
  let queries = 0;
  let isHeld = false;
  async function query(found: () => ClientWithKeys | undefined): Promise<ClientWithKeys | undefined> {
    queries++;
    const answer = found();
    if (isHeld) await new Promise<void>((resolve) => waiting.push(resolve));
    return answer;
  }
  const directory = createClientDirectory({
    store: {
      find: (id) => query(() => clients.get(id)),
      findByApiClientId: (text) => query(() => [...clients.values()].find(({ apiClientId }) => apiClientId === text)),
    },
    monotonicNow: () => time,
    maxLookups: 10,
    ...(capacity !== undefined && { capacity }),
  });
  return {
    directory,
    clients,
    queries: () => queries,
    pass: (milliseconds: number) => {
      time += milliseconds;
    },
    hold: () => {
      isHeld = true;
    },
    letGo: () => {
      isHeld = false;
      waiting.splice(0).forEach((resolve) => {
        resolve();
      });
    },
  };
}

suite('what is remembered of API clients', () => {
  test('answers at once, for those that do not exist too, and each is asked for once', async () => {
    const { directory, clients, queries } = follow();
    clients.set(1, client(1));
    for (const id of ['1', '2']) await Promise.all([directory.find(id), directory.find(id)]);
    assert.equal(queries(), 2);
    assert.equal((directory.find('1') as { principal: { id: number } }).principal.id, 1);
    assert.equal(directory.find('2'), undefined);
    assert.equal(queries(), 2);
  });

  test('is not what was read before a change that came in between', async () => {
    for (const change of ['forget', 'forgetAll'] as const) {
      const { directory, clients, queries, hold, letGo } = follow();
      clients.set(1, client(1));
      hold();
      const found = directory.find('1');
      clients.delete(1);
      directory[change](1);
      letGo();
      assert.equal(await found, undefined);
      assert.equal(queries(), 2);
      assert.equal(directory.find('1'), undefined);
    }
  });

  test('is forgotten when it changes: by its id, and under every api_client_id', async () => {
    const { directory, clients } = follow();
    clients.set(1, client(1));
    await directory.find('1');
    await directory.findByApiClientId('client-1');
    await directory.findByApiClientId('renamed');
    await directory.find('2');
    clients.set(1, { ...client(1), apiClientId: 'renamed' });
    directory.forget(1);
    assert.equal((await directory.find('1'))?.principal.clientId, 'renamed');
    assert.equal(await directory.findByApiClientId('client-1'), undefined);
    assert.equal((await directory.findByApiClientId('renamed'))?.principal.id, 1);
    clients.set(2, client(2));
    directory.forget(2);
    assert.equal((await directory.find('2'))?.principal.id, 2, 'who was unknown until then');
    clients.clear();
    directory.forgetAll();
    assert.equal(await directory.find('1'), undefined);
    assert.equal(await directory.findByApiClientId('renamed'), undefined);
    clients.set(1, client(1));
    directory.forgetAll();
    assert.equal((await directory.find('1'))?.principal.id, 1);
    assert.equal((await directory.findByApiClientId('client-1'))?.principal.id, 1);
  });

  test('stays, and is not asked for again, when another client changes', async () => {
    const { directory, clients, queries, hold, letGo } = follow();
    for (const id of [1, 2]) clients.set(id, client(id));
    await directory.find('1');
    await directory.findByApiClientId('client-1');
    directory.forget(2);
    await directory.find('1');
    await directory.findByApiClientId('client-1');
    assert.equal(queries(), 2);
    hold();
    const found = [directory.find('2'), directory.findByApiClientId('client-2')];
    directory.forget(1);
    letGo();
    for (const lookup of found) assert.equal((await lookup)?.principal.id, 2);
    assert.equal(queries(), 4);
  });

  test('is not what was read before a change that gave an api_client_id away, or to somebody', async () => {
    for (const change of ['forget', 'forgetAll'] as const) {
      const { directory, clients, hold, letGo } = follow();
      clients.set(1, client(1));
      hold();
      const [given, taken] = [directory.findByApiClientId('client-2'), directory.findByApiClientId('client-1')];
      clients.set(1, { ...client(1), apiClientId: 'client-2' });
      directory[change](1);
      letGo();
      assert.equal((await given)?.principal.id, 1);
      assert.equal(await taken, undefined);
      assert.equal(await directory.findByApiClientId('client-1'), undefined);
    }
  });

  test('is read three times at most, however often something changes, and anew for whoever asks after a change', async () => {
    const { directory, clients, queries, hold, letGo } = follow();
    hold();
    const asked = directory.findByApiClientId('client-1');
    for (const read of [1, 2]) {
      await until('it is read', () => queries() === read);
      directory.forget(99);
      letGo();
      hold();
    }
    await until('it is read', () => queries() === 3);
    clients.set(1, client(1));
    directory.forget(1);
    const later = directory.findByApiClientId('client-1');
    letGo();
    assert.equal(await asked, undefined);
    assert.equal((await later)?.principal.id, 1);
    assert.equal((await directory.findByApiClientId('client-1'))?.principal.id, 1);
    assert.equal(queries(), 4);
  });

  test('is not what was read before more changes than are counted one by one', async () => {
    const { directory, clients, hold, letGo } = follow();
    clients.set(1, client(1));
    hold();
    const found = [directory.find('1'), directory.findByApiClientId('client-1')];
    clients.delete(1);
    for (let id = 1; id <= 25_000; id++) directory.forget(id);
    letGo();
    for (const lookup of found) assert.equal(await lookup, undefined);
  });

  test('is forgotten under the api_client_id that it had before, when both were seen while nothing was followed', async () => {
    const { directory, clients, pass } = follow();
    clients.set(1, client(1));
    await directory.findByApiClientId('client-1');
    pass(5_001);
    clients.set(1, { ...client(1), apiClientId: 'renamed' });
    assert.equal((await directory.findByApiClientId('renamed'))?.principal.id, 1);
    directory.forget(1);
    directory.confirm(5_001);
    assert.equal(await directory.findByApiClientId('client-1'), undefined);
  });

  test('counts for five seconds at most while changes cannot be followed', async () => {
    const { directory, clients, queries, pass } = follow();
    clients.set(1, client(1));
    await directory.find('1');
    pass(5_000);
    await directory.find('1');
    assert.equal(queries(), 1);
    pass(1);
    await directory.find('1');
    assert.equal(queries(), 2);
    directory.confirm(5_001);
    await directory.find('1');
    assert.equal(queries(), 2);
    pass(5_001);
    clients.clear();
    assert.equal(await directory.find('1'), undefined);
    directory.confirm(10_002);
    assert.equal(directory.find('1'), undefined, 'who was found to be gone stays so');
  });

  test('takes no more than its share of memory, whoever asks for what', async () => {
    const { directory, queries } = follow({ capacity: 10_000 });
    for (let id = 1; id <= 100; id++) await directory.find(String(id));
    await directory.find('1');
    assert.equal(queries(), 101);
  });

  test('is not pushed out by ids that do not exist, however many are asked for', async () => {
    const { directory, clients, queries } = follow({ capacity: 10_000 });
    clients.set(1, client(1));
    await directory.find('1');
    for (let id = 2; id <= 1_000; id++) await directory.find(String(id));
    const before = queries();
    assert.equal((directory.find('1') as { principal: { id: number } }).principal.id, 1);
    await directory.find('2');
    assert.equal(queries(), before + 1, 'those that do not exist take no more than their share either');
  });

  test('is "cannot tell" for more lookups at once than the database can be asked', async () => {
    const { directory, hold, letGo } = follow();
    hold();
    const lookups = Array.from({ length: 10 }, (_, index) => directory.find(String(index + 1)));
    await assert.rejects(async () => directory.find('11'), StoreUnavailable);
    letGo();
    for (const lookup of lookups) assert.equal(await lookup, undefined);
    assert.equal(await directory.find('11'), undefined);
  });
});
