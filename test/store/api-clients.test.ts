import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { createApiClients, nothingParticular } from '../../src/clients/api-clients.ts';
import { createApiKeys } from '../../src/clients/api-keys.ts';
import { DuplicateApiClientId } from '../../src/clients/client-store.ts';
import { openStore } from '../../src/store/open-store.ts';
import { makeTempDir } from '../support/stack.ts';

test('a client is forgotten once its change is durable, not before, and not for a change that failed', async () => {
  const { database, store } = await openStore(join(makeTempDir(), 'apigw.db'));
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
    flushUses: () => Promise.resolve(),
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
  const { database, store } = await openStore(join(makeTempDir(), 'apigw.db'));
  const domain = { store, now: Date.now, onChange: () => undefined };
  const clients = createApiClients({ ...domain, flushUses: () => Promise.resolve() });
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
