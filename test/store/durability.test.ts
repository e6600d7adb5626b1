import assert from 'node:assert/strict';
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { openSqlite } from '../../src/store/sqlite.ts';
import { openTestDatabase } from '../support/database.ts';
import { changesFollowed, spawnGateway, startGateway, stopGateway } from '../support/gateway.ts';
import { makeTempDir, until } from '../support/stack.ts';
import { madeUpKey } from '../support/keys.ts';

const create = { API_KEY_CREATE: 'true' };

suite('the database', () => {
  test('survives a gateway that is killed at any moment of its first start', async () => {
    const dir = makeTempDir();
    for (const moment of [40, 80, 120, 160, 200, 240, 280, 320]) {
      const gateway = spawnGateway(dir);
      const startedAt = Date.now();
      await until('the moment has come', () => Date.now() - startedAt >= moment);
      await stopGateway(gateway, 'SIGKILL');
    }
    const gateway = await startGateway(dir, create);
    assert.equal(await gateway.decide(gateway.firstKey()), 204);
    await stopGateway(gateway);
    rmSync(dir, { recursive: true });
  });

  test('is made once when several gateways start on it at the same time', async () => {
    const dir = makeTempDir();
    const gateways = await Promise.all(['a', 'b', 'c'].map((name) => startGateway(dir, create, name)));
    const [first, second, third] = gateways.map((gateway) => gateway.firstKey());
    assert.equal(new Set([first, second, third]).size, 3);
    // of unused bootstrap keys only the newest is alive, for every gateway within a second
    const newest = [first, second, third].sort().at(-1) ?? '';
    for (const gateway of gateways) {
      await until(
        'all agree',
        async () => {
          const statuses = await Promise.all([first, second, third].map((key) => gateway.decide(key ?? '')));
          return statuses.filter((status) => status === 204).length === 1 && (await gateway.decide(newest)) === 204;
        },
        1_500,
      );
    }
    for (const gateway of gateways) assert.deepEqual(await stopGateway(gateway), [0, null]);
    rmSync(dir, { recursive: true });
  });

  test('belongs to its user alone, as do the addresses, which no other gateway takes; that of a newer program is refused, untouched, with the way back', async () => {
    const first = await startGateway();
    for (const file of readdirSync(first.dir).filter((name) => name.startsWith('apigw.db'))) {
      assert.equal(statSync(join(first.dir, file)).mode & 0o777, 0o600, file);
    }
    for (const name of ['d', 'm']) {
      assert.equal(statSync(join(first.dir, `gateway-${name}.sock`)).mode & 0o777, 0o660, 'no stranger may connect');
    }
    const other = spawnGateway(first.dir);
    assert.deepEqual(await other.ended, [1, null]);
    assert.match(other.output(), /Cannot listen on unix:.*another process answers there/);
    await stopGateway(first);

    const database = openTestDatabase(first.dir);
    await database('schema_version').update({ version: 99 });
    await database.destroy();
    const older = spawnGateway(first.dir);
    assert.deepEqual(await older.ended, [1, null]);
    assert.match(older.output(), /apigw\.db cannot be used\. Its schema has version 99.*a newer program/);
    assert.doesNotMatch(older.output(), /at .*\.js:/);
    rmSync(first.dir, { recursive: true });
  });

  test('survives a power cut: every commit is flushed', async () => {
    const dir = makeTempDir();
    const database = await openSqlite(join(dir, 'apigw.db'));
    // 2 is FULL
    assert.deepEqual(await database.write.raw('pragma synchronous'), [{ synchronous: 2 }]);
    assert.deepEqual(await database.write.raw('pragma journal_mode'), [{ journal_mode: 'wal' }]);
    await database.close();
  });

  test('that cannot answer is "cannot tell" everywhere, in words, and nothing is lost', async () => {
    const gateway = await startGateway(undefined, create);
    const admin = await gateway.manage('POST', '', gateway.firstKey(), { is_admin: true });
    const key = admin.json['token'] as string;
    await changesFollowed(gateway, key);
    const unknown = madeUpKey(77);
    assert.equal(await gateway.decide(key), 204);
    const database = openTestDatabase(gateway.dir);
    await database.schema.renameTable('api_clients', 'moved');
    try {
      assert.equal(await gateway.decide(key), 204, 'remembered');
      assert.equal(await gateway.decide(unknown), 503, 'never 401: it may be good');
      const { status, json } = await gateway.manage('GET', '', key);
      assert.deepEqual([status, json['reason']], [503, 'store_unavailable']);
      assert.equal((await gateway.manage('POST', '', key, { name: 'x' })).status, 503);
      const ready = await gateway.ask('/readyz');
      assert.deepEqual([ready.status, ready.json['status']], [503, 'not ready']);
      assert.doesNotMatch(
        JSON.stringify([json, ready.json]) + gateway.output(),
        /select |insert into|SQLITE_ERROR.*select/i,
      );
    } finally {
      await database.schema.renameTable('moved', 'api_clients');
    }
    assert.equal(await gateway.decide(unknown), 401);
    assert.equal((await gateway.manage('GET', '', key)).status, 200);

    // an older database in its place: what was remembered of the newer one is forgotten
    await database('api_keys').where('client_id', 2).delete();
    await database('revision').update({ value: 0 });
    await until('the key that is not in it is refused', async () => (await gateway.decide(key)) === 401, 2_000);
    await database.schema.renameTable('audit_events', 'moved');
    assert.equal((await gateway.manage('GET', '', gateway.firstKey())).status, 200);
    await until('it is logged', () => gateway.output().includes('the audit event could not be stored'));
    await database.destroy();
    await stopGateway(gateway);
    rmSync(gateway.dir, { recursive: true });
  });

  test('that is none is refused by name', async () => {
    const dir = makeTempDir();
    const gateway = spawnGateway(dir, { DATABASE_URL: 'sqlite:/proc/version' });
    assert.deepEqual(await gateway.ended, [1, null]);
    assert.match(gateway.output(), /The database \/proc\/version cannot be opened/);
    rmSync(dir, { recursive: true });
  });
});

suite('the gateway process', () => {
  test('stops by SIGTERM and SIGINT with exit code 0, answering what is under way', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const gateway = await startGateway(undefined, create);
      const key = gateway.firstKey();
      const creates = Array.from({ length: 20 }, (_, index) => gateway.manage('POST', '', key, { name: `n${index}` }));
      await until('some are answered', async () => (await gateway.manage('GET', '', key)).status === 200);
      const stoppedAt = Date.now();
      assert.deepEqual(await stopGateway(gateway, signal), [0, null]);
      assert.ok(Date.now() - stoppedAt < 10_000);
      for (const { status } of await Promise.all(creates)) assert.equal(status, 201);
      rmSync(gateway.dir, { recursive: true });
    }
  });

  test('names every mistake in its environment and ends with 78', async () => {
    const gateway = spawnGateway(undefined, { APIGW_LOG_LEVEL: 'loud', APIGW_DECISION_LITSEN: 'x' });
    assert.deepEqual(await gateway.ended, [78, null]);
    assert.match(gateway.output(), /APIGW_LOG_LEVEL is "loud".*allowed: trace/);
    assert.match(gateway.output(), /APIGW_DECISION_LITSEN is not a setting; did you mean APIGW_DECISION_LISTEN\?/);
  });
});

suite('the first key', () => {
  test('is made again as often as it is asked for; an unused one goes, a used one stays', async () => {
    const dir = makeTempDir();
    const first = await startGateway(dir, create);
    await stopGateway(first);
    const second = await startGateway(dir, create);
    assert.match(second.firstKey(), /^2\./);
    assert.equal(await second.decide(first.firstKey()), 401);
    assert.equal(await second.decide(second.firstKey()), 204);
    const database = openTestDatabase(dir);
    const isMarked = async () => (await database('api_keys').whereNotNull('first_used_at')).length === 1;
    await until('the first use is stored', isMarked);
    await database.destroy();
    await stopGateway(second);
    const third = await startGateway(dir, create);
    assert.match(third.firstKey(), /^3\./);
    assert.equal(await third.decide(second.firstKey()), 204);
    assert.equal(await third.decide(third.firstKey()), 204);
    await stopGateway(third);
    const fourth = await startGateway(dir, { API_KEY_CREATE: 'false' });
    assert.equal(fourth.firstKey(), '');
    assert.equal(await fourth.decide(third.firstKey()), 204);
    assert.match(fourth.output(), /a bootstrap key is alive/);
    await stopGateway(fourth);
    rmSync(dir, { recursive: true });
  });

  test('stays when its client has been changed by hand, used or not', async () => {
    const dir = makeTempDir();
    const first = await startGateway(dir, create);
    await first.manage('PUT', '/1', first.firstKey(), { name: 'mine now' });
    const database = openTestDatabase(dir);
    const isMarked = async () => (await database('api_keys').whereNotNull('first_used_at')).length === 1;
    await until('the first use is stored', isMarked);
    await stopGateway(first);
    await database('api_keys').update({ first_used_at: null });
    await database.destroy();
    const second = await startGateway(dir, create);
    assert.equal(await second.decide(first.firstKey()), 204);
    await stopGateway(second);
    rmSync(dir, { recursive: true });
  });

  test('expires', async () => {
    const gateway = await startGateway(undefined, { ...create, APIGW_BOOTSTRAP_KEY_LIFETIME: '1m' });
    const key = gateway.firstKey();
    const { json } = await gateway.manage('GET', '/1', key);
    const lifetime = Date.parse(json['api_key_expires_at'] as string) - Date.parse(json['created_at'] as string);
    assert.equal(lifetime, 60_000);
    await stopGateway(gateway);
    const database = openTestDatabase(gateway.dir);
    await database('api_keys').update({ expires_at: Date.now() - 1 });
    await database.destroy();
    const later = await startGateway(gateway.dir);
    assert.equal(await later.decide(key), 401);
    await until('the denial is logged', () => later.output().includes('"reason":"key_expired"'));
    assert.doesNotMatch(later.output(), /a bootstrap key is alive/);
    await stopGateway(later);
    rmSync(gateway.dir, { recursive: true });
  });
});
