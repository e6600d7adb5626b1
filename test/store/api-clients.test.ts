import assert from 'node:assert/strict';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { createApiClients, nothingParticular } from '../../src/clients/api-clients.ts';
import { createApiKeys } from '../../src/clients/api-keys.ts';
import { DuplicateApiClientId, StoreUnavailable } from '../../src/clients/client-store.ts';
import { openStore } from '../../src/store/open-store.ts';
import { makeTempDir } from '../support/stack.ts';
import { databaseKinds, openTestStore } from '../support/stores.ts';

for (const kind of databaseKinds) {
  suite(kind, () => {
    test('a client is forgotten once its change is durable, not before, and not for a change that failed', async () => {
      const { database, store } = await openTestStore(kind);
      let isDurable = false;
      const forgotten: { id: number; isDurable: boolean }[] = [];
      const clients = createApiClients({
        store: {
          ...store,
          change: async (work) => {
            isDurable = false;
            const result = await store.change(work);
            isDurable = true;
            return result;
          },
        },
        now: Date.now,
        flushUses: () => Promise.resolve(new Set()),
        onChange: (id) => {
          forgotten.push({ id, isDurable });
        },
      });
      const actor = { clientId: null, requestId: null };
      const request = { ...nothingParticular, apiClientId: 'one' };
      const safeguard = { force: false, areTokensAccepted: true };
      try {
        const { client } = await clients.create(request, actor);
        await clients.update(client.id, { name: 'other' }, actor, safeguard);
        await assert.rejects(clients.create(request, actor), DuplicateApiClientId);
        await clients.remove(client.id, actor, safeguard);
        assert.equal(await clients.remove(client.id, actor, safeguard), false);
        assert.deepEqual(forgotten, Array(3).fill({ id: client.id, isDurable: true }));
      } finally {
        await database.close();
      }
    });

    test('a new bootstrap key removes an earlier one that nobody has used, and no client that has been given a key of its own', async () => {
      const { database, store } = await openTestStore(kind);
      const domain = { store, now: Date.now, onChange: () => undefined };
      const clients = createApiClients({ ...domain, flushUses: () => Promise.resolve(new Set()) });
      const keys = createApiKeys(domain);
      const idOf = (token: string) => Number(token.split('.')[0]);
      try {
        const untouched = idOf(await clients.bootstrap(60_000));
        const taken = idOf(await clients.bootstrap(60_000));
        assert.equal(await clients.find(untouched), undefined);
        await keys.create(taken, null, { clientId: null, requestId: null });
        const last = idOf(await clients.bootstrap(60_000));
        assert.ok(await clients.find(taken));
        assert.ok(await clients.find(last));
      } finally {
        await database.close();
      }
    });

    test('times of use are kept for many at once, and never put back', async () => {
      const { database, store } = await openTestStore(kind);
      const domain = { store, now: Date.now, onChange: () => undefined };
      const clients = createApiClients({ ...domain, flushUses: () => Promise.resolve(new Set()) });
      try {
        const { client } = await clients.create(nothingParticular, { clientId: null, requestId: null });
        const keyId = client.keys[0]?.id;
        await store.recordUses([
          { clientId: client.id, keyId, at: 2_000 },
          { clientId: client.id, keyId: undefined, at: 3_000 },
          { clientId: 999, keyId: 999, at: 9_000 },
        ]);
        await store.recordUses([{ clientId: client.id, keyId, at: 1_000 }]);
        const found = await store.find(client.id);
        assert.deepEqual([found?.lastUsedAt, found?.keys[0]?.lastUsedAt], [3_000, 2_000]);
      } finally {
        await database.close();
      }
    });
  });
}

// PostgreSQL takes nothing into a column but what belongs there
suite('a row of SQLite that somebody has changed by hand', () => {
  for (const [table, column, value] of [
    ['api_clients', 'enabled', 'false'],
    ['api_clients', 'is_admin', 'no'],
    ['api_clients', 'expires_at', '2020-01-01'],
    ['api_clients', 'allowed_cidrs', '10.0.0.0/8'],
    ['api_clients', 'scopes', '{"a":1}'],
    ['api_keys', 'expires_at', 'tomorrow'],
    ['api_keys', 'revoked_at', 'yes'],
    ['api_keys', 'is_bootstrap', 2],
  ] as const) {
    test(`is not believed: ${column} ${JSON.stringify(value)} in ${table}`, async () => {
      const { database, store } = await openStore(join(makeTempDir(), 'apigw.db'));
      const domain = { store, now: Date.now, onChange: () => undefined };
      const clients = createApiClients({ ...domain, flushUses: () => Promise.resolve(new Set()) });
      try {
        const actor = { clientId: null, requestId: null };
        const { client } = await clients.create(nothingParticular, actor);
        const { client: other } = await clients.create(nothingParticular, actor);
        await database
          .write(table)
          .where(table === 'api_clients' ? 'id' : 'client_id', client.id)
          .update(column, value);
        const [bad, good] = await Promise.allSettled([store.find(client.id), store.find(other.id)]);
        assert.ok(bad.status === 'rejected' && bad.reason instanceof StoreUnavailable);
        assert.equal(good.status, 'fulfilled');
      } finally {
        await database.close();
      }
    });
  }
});
