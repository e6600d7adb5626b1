import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { ClientRecord, KeyRecord } from '../../src/auth/authenticator.ts';
import type { Use } from '../../src/clients/client-store.ts';
import { createUsage, periodOf } from '../../src/clients/usage.ts';

const minute = 60_000;

function clientOf(id: number): ClientRecord {
  return {
    principal: { id, clientId: 'x', clientName: 'x', isAdmin: false, method: 'api_key' } as ClientRecord['principal'],
    isEnabled: true,
    expiresAt: null,
    scopes: [],
    network: undefined,
    limits: undefined,
    keys: [],
    notedIn: 0,
  };
}

function keyOf(id: number): KeyRecord {
  const times = { expiresAt: null, replacedAt: null };
  return { id, digest: '', ...times, isRevoked: false, isUnusedBootstrap: false, notedIn: 0 };
}

suite('times of last use', () => {
  test('are written once in ten minutes for each client, and for each at another time', async () => {
    const writes: (readonly Use[])[] = [];
    const usage = createUsage({
      store: {
        recordUses: (uses) => {
          writes.push(uses);
          return Promise.resolve([]);
        },
      },
      onFault: (error) => assert.fail(String(error)),
    });
    const clients = Array.from({ length: 1_200 }, (_, index) => clientOf(index + 1));
    const start = Date.UTC(2026, 0, 1);
    for (const client of clients) client.notedIn = periodOf(start, client.principal.id);
    // all are in use all the time: ten minutes, in steps of five seconds
    for (let at = start + 5_000; at <= start + 10 * minute; at += 5_000) {
      for (const client of clients) usage.note(at, client, undefined);
      await usage.flush();
    }
    await usage.close();
    const uses = writes.flat();
    assert.equal(uses.length, clients.length);
    assert.equal(new Set(uses.map(({ clientId }) => clientId)).size, clients.length);
    for (const { at } of uses) assert.ok(at > start - 10 * minute && at <= start + 10 * minute, `${at}`);
    // ten at a time would be perfectly even
    const most = Math.max(...writes.map(({ length }) => length));
    assert.ok(most <= 20, `${most} in one write`);
  });

  test('come again when their rows were being written to, or the database did not answer', async () => {
    const given: number[][] = [];
    const faults: unknown[] = [];
    const usage = createUsage({
      store: {
        recordUses(uses) {
          given.push(uses.map(({ clientId }) => clientId));
          if (given.length === 1) return Promise.resolve(uses.slice(0, 1));
          if (given.length === 2) return Promise.reject(new Error('no answer'));
          return Promise.resolve([]);
        },
      },
      onFault: (error) => faults.push(error),
    });
    for (const id of [1, 2]) usage.note(Date.UTC(2026, 0, 1), clientOf(id), undefined);
    for (let count = 0; count < 4; count++) await usage.flush();
    await usage.close();
    assert.deepEqual(given, [[1, 2], [1], [1]]);
    assert.equal(faults.length, 1);
  });

  test('are kept at the end though somebody was writing to their rows; a flush says of which keys they are', async () => {
    const given: number[][] = [];
    const usage = createUsage({
      store: {
        recordUses(uses) {
          given.push(uses.map(({ clientId }) => clientId));
          return Promise.resolve(given.length < 3 ? uses.slice(0, 1) : []);
        },
      },
      onFault: (error) => assert.fail(String(error)),
    });
    for (const id of [1, 2]) usage.note(Date.UTC(2026, 0, 1), clientOf(id), keyOf(70 + id));
    assert.deepEqual([...(await usage.flush())], [71]);
    await usage.close();
    assert.deepEqual(given, [[1, 2], [1], [1]]);
  });

  test('are kept by a flush that somebody else has begun', async () => {
    let keep = (): void => undefined;
    const usage = createUsage({
      store: {
        recordUses: () =>
          new Promise((resolve) => {
            keep = () => {
              resolve([]);
            };
          }),
      },
      onFault: (error) => assert.fail(String(error)),
    });
    usage.note(Date.UTC(2026, 0, 1), clientOf(1), undefined);
    let isKept = false;
    const flushed = [usage.flush(), usage.flush()].map(async (flush) => {
      await flush;
      assert.ok(isKept);
    });
    setImmediate(() => {
      isKept = true;
      keep();
    });
    await Promise.all(flushed);
    await usage.close();
  });

  test('keep nobody waiting for longer than a second for whoever holds their rows', async () => {
    let writes = 0;
    const usage = createUsage({
      store: {
        recordUses(uses) {
          writes++;
          return Promise.resolve(uses);
        },
      },
      onFault: (error) => assert.fail(String(error)),
    });
    usage.note(Date.UTC(2026, 0, 1), clientOf(1), undefined);
    await usage.close();
    assert.equal(writes, 20);
  });

  test('come again, all of them, when a write of many has failed; the later one of two counts; the last are written at the end', async () => {
    const written = new Map<number, number>();
    let answers = false;
    let whileWriting = (): void => undefined;
    const usage = createUsage({
      store: {
        recordUses(uses) {
          whileWriting();
          if (!answers) return Promise.reject(new Error('no answer'));
          for (const { clientId, at } of uses) written.set(clientId, at);
          return Promise.resolve([]);
        },
      },
      onFault: () => undefined,
    });
    const start = Date.UTC(2026, 0, 1);
    const note = (id: number, at: number) => {
      usage.note(at, clientOf(id), undefined);
    };
    for (let id = 1; id <= 1_200; id++) note(id, start);
    whileWriting = () => {
      note(1, start + 60 * minute);
    };
    await usage.flush();
    whileWriting = () => undefined;
    assert.equal(written.size, 0);
    answers = true;
    await usage.close();
    assert.equal(written.size, 1_200);
    assert.ok((written.get(1) ?? 0) > start + 45 * minute);
  });
});
