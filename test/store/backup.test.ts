import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Knex } from 'knex';
import { after, before, suite, test } from 'node:test';
import { runCli } from '../support/cli.ts';
import { openTestDatabase } from '../support/database.ts';
import { spawnGateway, startGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { root } from '../support/stack.ts';

suite('the command line', () => {
  let gateway: GatewayProcess;
  let key: string;
  let env: Record<string, string>;
  before(async () => {
    gateway = await startGateway(undefined, { API_KEY_CREATE: 'true' });
    const admin = await gateway.manage('POST', '', gateway.firstKey(), { is_admin: true });
    key = admin.json['token'] as string;
    env = {
      DATABASE_URL: `sqlite:${join(gateway.dir, 'apigw.db')}`,
      APIGW_DECISION_LISTEN: `unix:${join(gateway.dir, 'gateway-d.sock')}`,
      APIGW_MANAGEMENT_LISTEN: `unix:${join(gateway.dir, 'gateway-m.sock')}`,
    };
  });
  after(async () => {
    await stopGateway(gateway);
    rmSync(gateway.dir, { recursive: true });
  });

  const apigw = (command: string, input?: Buffer, more: Record<string, string> = {}) =>
    spawnSync(process.execPath, [join(root, 'dist/cli/main.js'), command], {
      env: { PATH: process.env['PATH'], ...env, ...more },
      maxBuffer: 64 * 1024 * 1024,
      ...(input && { input }),
    });
  const create = async (name: string) => {
    const { status, json } = await gateway.manage('POST', '', key, { name });
    assert.equal(status, 201);
    return json['token'] as string;
  };

  test('says whether the gateway can decide', () => {
    const { status, stderr } = apigw('health');
    assert.deepEqual([status, stderr.toString()], [0, '{"status":"ready","checks":{"store":"ok"}}\n']);
    const away = apigw('health', undefined, { APIGW_MANAGEMENT_LISTEN: 'unix:/nowhere.sock' });
    assert.equal(away.status, 1);
    assert.match(away.stderr.toString(), /^apigw: The gateway does not answer: .*\n$/);
    const wrong = apigw('health', undefined, { APIGW_LOG_LEVEL: 'loud', API_KEY_CREATE: 'x' });
    assert.match(wrong.stderr.toString(), /APIGW_LOG_LEVEL is "loud"/);
    assert.match(wrong.stderr.toString(), /API_KEY_CREATE is "x"/);
  });

  test("prints an administrator's key to the caller alone, which works at once", async () => {
    const { stdout, stderr } = apigw('bootstrap-key');
    assert.match(stdout.toString(), /^\d+\.[A-Za-z0-9]{64}\n$/);
    assert.equal(stderr.toString(), '');
    assert.equal(await gateway.decide(stdout.toString().trim()), 204);
    assert.doesNotMatch(gateway.output().replace(/^NEWLY.*$/m, ''), /[A-Za-z0-9]{64}/);
  });

  test('backs up while the gateway writes, and restores what it backed up, and nothing that is none', async () => {
    const early = await create('early');
    let isBackedUp = false;
    let written = 0;
    const write = async () => {
      for (; !isBackedUp || written < 80; written++) await create(`meanwhile ${written}`);
    };
    const writers = [write(), write(), write(), write()];
    let copy: Buffer = Buffer.alloc(0);
    const { exitCode } = await runCli(['backup'], { env, onBytes: (bytes) => (copy = bytes) });
    isBackedUp = true;
    await Promise.all(writers);
    assert.equal(exitCode, 0);
    const late = await create('late');

    const running = apigw('restore', copy);
    assert.deepEqual([running.status, /The gateway is running/.test(running.stderr.toString())], [5, true]);
    await stopGateway(gateway);
    const database = join(gateway.dir, 'apigw.db');
    const before = readFileSync(database);
    /** The copy with a change in it. */
    const edit = async (change: (database: Knex) => PromiseLike<unknown>) => {
      const file = join(gateway.dir, 'edited');
      writeFileSync(file, copy);
      const database = openTestDatabase(gateway.dir, 'edited');
      await change(database);
      await database.destroy();
      return readFileSync(file);
    };
    const damaged = Buffer.from(copy);
    damaged.fill(0xff, 4096, damaged.length - 4096);
    for (const [input, said] of [
      [Buffer.from('rubbish'.repeat(1000)), /not a database\. Nothing/],
      [Buffer.alloc(0), /not a database of this program/],
      [await edit((database) => database.schema.dropTable('api_keys')), /no such table: api_keys/],
      [await edit((database) => database('schema_version').update({ version: 'abc' })), /no version that can be/],
      [await edit((database) => database('schema_version').update({ version: 0 })), /already exists/],
      [await edit((database) => database('schema_version').update({ version: 99 })), /schema has version 99/],
      [damaged, /damaged|malformed|not a database/],
      [copy.subarray(0, copy.length / 2), /damaged|malformed/],
    ] as const) {
      const refused = apigw('restore', input);
      assert.equal(refused.status, 1);
      assert.match(refused.stderr.toString(), said);
      assert.match(refused.stderr.toString(), /Nothing has been changed/);
      assert.deepEqual(readFileSync(database), before);
    }
    const inUse = openTestDatabase(gateway.dir);
    await inUse('api_clients').first();
    assert.match(
      apigw('restore', copy).stderr.toString(),
      /Another process has the database open\. Nothing has been changed/,
    );
    await inUse.destroy();
    const restored = apigw('restore', copy);
    assert.match(
      restored.stderr.toString(),
      /restored a database with \d+ API clients; the one from before is .*before-restore/,
    );
    assert.equal(statSync(database).mode & 0o777, 0o600);
    assert.deepEqual(
      readdirSync(gateway.dir).filter((file) => /restoring|copy/.test(file)),
      [],
    );
    const [, kept = ''] = /from before is (\S+)/.exec(restored.stderr.toString()) ?? [];
    assert.match(kept, /apigw\.db\.before-restore-\d{8}T\d{6}Z$/);
    assert.ok(existsSync(kept));

    gateway = await startGateway(gateway.dir);
    assert.deepEqual([await gateway.decide(early), await gateway.decide(late)], [204, 401]);
    const actions = async (file: string) => {
      const opened = openTestDatabase(gateway.dir, file);
      const events = await opened<{ action: string; actor: string }>('audit_events').whereLike('action', 'database.%');
      await opened.destroy();
      return events.map(({ action, actor }) => `${action} by ${actor.replace(/\(.+\)/, '(...)')}`);
    };
    assert.deepEqual(await actions(kept.slice(gateway.dir.length + 1)), ['database.backup by command line (...)']);
    assert.deepEqual(await actions('apigw.db'), ['database.restore by command line (...)']);
  });
});

test('a log whose database is missing or empty is thrown away by no start, and taken for its own by no restored database', async () => {
  const gateway = await startGateway(undefined, { API_KEY_CREATE: 'true' });
  const { dir } = gateway;
  const [file, log] = [join(dir, 'apigw.db'), join(dir, 'apigw.db-wal')];
  const env = { DATABASE_URL: `sqlite:${file}` };
  let backup: Buffer = Buffer.alloc(0);
  await runCli(['backup'], { env, onBytes: (bytes) => (backup = bytes) });
  const late = await gateway.manage('POST', '', gateway.firstKey(), { is_admin: true });
  assert.equal(late.status, 201);
  await stopGateway(gateway, 'SIGKILL');
  const left = readFileSync(log);
  assert.ok(left.length > 0);
  for (const [lose, words] of [
    [
      () => {
        truncateSync(file);
      },
      'empty',
    ],
    [
      () => {
        rmSync(file);
      },
      'not there',
    ],
  ] as const) {
    lose();
    const refused = spawnGateway(dir);
    assert.deepEqual(await refused.ended, [1, null]);
    assert.match(refused.output(), new RegExp(`it is ${words}, but its log \\S+apigw\\.db-wal has changes in it`));
    assert.deepEqual(readFileSync(log), left);
  }
  const restored = await runCli(['restore'], { env, input: backup });
  assert.equal(restored.exitCode, 0, restored.stderr);
  const kept = readdirSync(dir).find((name) => /before-restore-\w+-wal$/.test(name)) ?? '';
  assert.deepEqual(readFileSync(join(dir, kept)), left);
  const next = await startGateway(dir);
  assert.equal(await next.decide(gateway.firstKey()), 204);
  assert.equal(await next.decide(late.json['token'] as string), 401);
  await stopGateway(next);
  rmSync(dir, { recursive: true });
});
