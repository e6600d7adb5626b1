import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test, type TestContext } from 'node:test';
import { runCli } from '../support/cli.ts';
import { openTestDatabase } from '../support/database.ts';
import { spawnGateway, startGateway, stopGateway } from '../support/gateway.ts';
import { madeUpKey } from '../support/keys.ts';
import { makeClients, type KnownClient } from '../support/many-clients.ts';
import { mayMount, mountReadOnly, mountTmpfs, unmount } from '../support/mount.ts';
import { startProber, type Kind, type Prober } from '../support/prober.ts';
import { makeTempDir, root, startTestStack, until } from '../support/stack.ts';

const isRoot = process.getuid?.() === 0;
const needsMount = mayMount ? false : 'only root may mount a file system, where the container allows it';

/** The product, with clients in its database: one that it remembers, many that it has never seen, and one that is deleted. */
async function startWithClients(stateDir = makeTempDir(), databaseDir = stateDir, count = 1_200) {
  const file = join(databaseDir, 'apigw.db');
  const stack = await startTestStack({ stateDir, env: { DATABASE_URL: `sqlite:${file}` } });
  const clients = await makeClients(stack, stack.adminKey, 1_000, count);
  const [remembered, deleted, ...neverSeen] = clients;
  assert.ok(remembered && deleted);
  assert.equal((await stack.manage('DELETE', stack.adminKey, `/${deleted.id}`)).status, 204);
  // one that stays when the first one is gone
  const { json } = await stack.manage('POST', stack.adminKey, '', { json: { is_admin: true } });
  const adminKey = json['token'] as string;
  let unknownId = 1_000_000;
  const kinds: Kind[] = [
    { name: 'remembered', isGood: true, next: () => remembered.key },
    { name: 'never seen', isGood: true, next: () => neverSeen.pop()?.key },
    { name: 'unknown id', isGood: false, next: () => madeUpKey(++unknownId) },
    { name: 'wrong secret', isGood: false, next: () => madeUpKey(remembered.id) },
    { name: 'deleted', isGood: false, next: () => deleted.key },
  ];
  return { stack, file, databaseDir, adminKey, neverSeen, kinds };
}
type WithClients = Awaited<ReturnType<typeof startWithClients>>;

const only = (status: number, counts: Readonly<Record<string, number>>) => {
  assert.deepEqual(Object.keys(counts), [String(status)], JSON.stringify(counts));
};

/** Everybody is answered as if nothing had happened. */
async function expectNormal(prober: Prober, phase: string): Promise<void> {
  prober.begin(phase);
  await prober.rounds(4);
  for (const good of ['remembered', 'never seen']) only(200, prober.count(phase, good));
  for (const bad of ['unknown id', 'wrong secret', 'deleted']) only(401, prober.count(phase, bad));
}

/** What must be asked of the database is "cannot tell". */
async function expectCannotTell(prober: Prober, phase: string): Promise<void> {
  prober.begin(phase);
  await prober.rounds(4);
  for (const asked of ['never seen', 'unknown id']) only(503, prober.count(phase, asked));
}

/** False, and the test is skipped, where such a thing cannot be had. */
function makeImmutable(t: TestContext, files: readonly string[]): boolean {
  const probe = join(makeTempDir(), 'probe');
  const open = openSync(probe, 'w');
  try {
    execFileSync('chattr', ['+i', probe], { stdio: 'ignore' });
    try {
      writeSync(open, 'x');
    } catch {
      execFileSync('chattr', ['+i', ...files]);
      return true;
    } finally {
      execFileSync('chattr', ['-i', probe], { stdio: 'ignore' });
    }
  } catch {
    // said below
  } finally {
    closeSync(open);
  }
  t.skip('a file that is open cannot be made read-only here: that takes chattr +i, root, and ext4, xfs or btrfs');
  return false;
}

async function lockInAnotherProcess(file: string) {
  const script = `
    const { Database } = require('sqlite3');
    const database = new Database(${JSON.stringify(file)});
    database.exec('begin exclusive', (error) => {
      if (error) throw error;
      console.log('locked');
      setInterval(() => undefined, 1000);
    });`;
  const child = spawn(process.execPath, ['-e', script], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

async function backUp(file: string): Promise<Buffer> {
  let backup = Buffer.alloc(0);
  const { exitCode, stderr } = await runCli(['backup'], {
    env: { DATABASE_URL: `sqlite:${file}` },
    onBytes: (bytes) => (backup = bytes as Buffer<ArrayBuffer>),
  });
  assert.equal(exitCode, 0, stderr);
  return backup;
}

/** Overwrites a page, and returns how to undo it. Pages are counted from 1. */
function damage(file: string, page: number, size: number): () => void {
  assert.ok(page > 0);
  const before = Buffer.alloc(size);
  const write = (bytes: Buffer) => {
    const open = openSync(file, 'r+');
    writeSync(open, bytes, 0, size, (page - 1) * size);
    closeSync(open);
  };
  const open = openSync(file, 'r');
  readSync(open, before, 0, size, (page - 1) * size);
  closeSync(open);
  write(Buffer.alloc(size, 0xa5));
  return () => {
    write(before);
  };
}

/** On a copy: it is refused with the way back, which works. */
async function expectStartRefused(file: string, backup: Buffer, key: string): Promise<void> {
  const dir = makeTempDir();
  const env = { DATABASE_URL: `sqlite:${join(dir, 'apigw.db')}` };
  copyFileSync(file, join(dir, 'apigw.db'));
  const refused = spawnGateway(dir);
  assert.deepEqual(await refused.ended, [1, null]);
  assert.match(refused.output(), /The database \S+apigw\.db is damaged: .*apigw restore < backup\.db/);
  const checked = await runCli(['check-config'], { env });
  assert.match(checked.stdout + checked.stderr, /is damaged/);
  const restored = await runCli(['restore'], { env, input: backup });
  assert.equal(restored.exitCode, 0, restored.stderr);
  const gateway = await startGateway(dir);
  assert.equal(await gateway.decide(key), 204);
  await stopGateway(gateway);
  rmSync(dir, { recursive: true });
}

function fillUp(mounted: string): void {
  const filler = openSync(join(mounted, 'filler'), 'a');
  for (const size of [64 * 1024, 4096, 1])
    try {
      for (;;) writeSync(filler, Buffer.alloc(size));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    }
  closeSync(filler);
}

/** A client as its own worker knows it; `undefined` is what a call without an answer may have done or not. */
interface Expected {
  readonly id: number;
  readonly name: string | undefined;
  readonly key: string | undefined;
  readonly isThere: boolean | undefined;
}

/** The product for the cases of a suite, and what was acknowledged in it. */
function serveCases() {
  let all: WithClients | undefined;
  const kept: string[] = [];
  before(async () => {
    const stateDir = makeTempDir();
    const databaseDir = join(stateDir, 'database');
    mkdirSync(databaseDir);
    all = await startWithClients(stateDir, databaseDir);
  });
  after(() => all?.stack.stop());

  const get = (): WithClients => {
    assert.ok(all);
    return all;
  };
  const create = (name: string) => get().stack.manage('POST', get().adminKey, '', { json: { name } });
  return {
    get,
    expectRefused: async (): Promise<void> => {
      const { status, json, duration } = await create('refused');
      assert.deepEqual([status, json['reason']], [503, 'store_unavailable'], JSON.stringify(json));
      assert.ok(duration < 4_000);
    },
    /** In milliseconds. */
    untilItGoesOn: async (): Promise<number> => {
      const startedAt = performance.now();
      await until('changes are made again, without a restart', async () => {
        const { status, json } = await create('kept');
        if (status === 201) kept.push(json['token'] as string);
        return status === 201;
      });
      return performance.now() - startedAt;
    },
    /** None that was refused is there, and each that was acknowledged is, after a kill too. */
    expectNothingLost: async (): Promise<void> => {
      const { stack, adminKey, databaseDir } = get();
      const [pid] = stack.gatewayPids();
      assert.ok(pid !== undefined);
      process.kill(pid, 'SIGKILL');
      // it decides before it manages
      await until('it is back', async () => (await stack.manage('GET', adminKey)).status === 200, 20_000);
      const { json } = await stack.manage('GET', adminKey, '?name=refused');
      assert.deepEqual(json, [], 'what was answered by 503 has not been done');
      for (const key of kept) assert.equal((await stack.ask('/', { key })).status, 200);
      const database = openTestDatabase(databaseDir);
      const integrity: unknown = await database.raw('pragma integrity_check');
      await database.destroy();
      assert.deepEqual(integrity, [{ integrity_check: 'ok' }]);
    },
  };
}

// each with a database of its own, and mostly waiting
suite('the database', { concurrency: true }, () => {
  suite('behind nginx, taken away, locked and damaged', { concurrency: false }, () => {
    const subject = serveCases();
    const { expectRefused, untilItGoesOn } = subject;

    test('taken away, its log alone, all files, or its folder: no change that would be lost, no 401, no restart', async (t) => {
      const all = subject.get();
      const { stack, file } = all;
      const prober = startProber(stack, all.kinds);
      await expectNormal(prober, 'before');
      const away = (path: string) => () => {
        renameSync(path, `${path}.away`);
        return () => {
          renameSync(`${path}.away`, path);
        };
      };
      const several = (suffixes: string[]) => () => {
        const back = suffixes.map((suffix) => away(`${file}${suffix}`)());
        return () => {
          for (const putBack of back) putBack();
        };
      };
      const otherInItsPlace = () => {
        const putBack = away(file)();
        copyFileSync(`${file}.away`, file);
        return putBack;
      };
      const emptied = () => {
        const bytes = readFileSync(file);
        truncateSync(file);
        return () => {
          writeFileSync(file, bytes);
        };
      };
      for (const [what, take] of [
        ['file away', several([''])],
        ['file emptied', emptied],
        ['its log away', several(['-wal'])],
        ['all three away', several(['', '-wal', '-shm'])],
        ['a copy in its place', otherInItsPlace],
        ['folder away', away(all.databaseDir)],
      ] as const) {
        const said = stack.output().length;
        const takenAt = performance.now();
        const putBack = take();
        await expectRefused();
        // lookups believe in the file for a tenth of a second
        await prober.rounds(2);
        await expectCannotTell(prober, what);
        await until('it is said', () =>
          /apigw\.db(?:-wal)? is not the file that was opened/.test(stack.output().slice(said)),
        );
        if (what === 'folder away') {
          prober.begin('folder away, beyond 5 s');
          await until('memory counts no more', () => '503' in prober.count('folder away, beyond 5 s', 'remembered'));
          const bound = performance.now() - takenAt;
          t.diagnostic(`remembered clients are answered for ${(bound / 1_000).toFixed(2)} s after the folder is gone`);
          assert.ok(bound > 4_000 && bound < 6_000, `${bound} ms`);
        }
        putBack();
        prober.begin('put back');
        t.diagnostic(`${what}: changes go on ${(await untilItGoesOn()).toFixed(0)} ms after it is back`);
        await expectNormal(prober, `after: ${what}`);
      }
      await until('it is said that it is over', () => stack.output().includes('the database answers again'));
      await prober.stop();
      t.diagnostic(prober.table());
    });

    test('read-only while it runs: decisions go on, changes are 503, and are made again afterwards', async (t) => {
      const all = subject.get();
      const { stack, file } = all;
      const files = [file, `${file}-wal`];
      if (!makeImmutable(t, files)) return;
      const prober = startProber(stack, all.kinds);
      const said = stack.output().length;
      try {
        await expectRefused();
        await expectNormal(prober, 'read-only');
        assert.match(stack.output().slice(said), /"The database does not answer: SQLITE_[A-Z]+: [^"]+"/);
      } finally {
        execFileSync('chattr', ['-i', ...files]);
      }
      t.diagnostic(`changes go on after ${(await untilItGoesOn()).toFixed(0)} ms`);
      await expectNormal(prober, 'writable');
      await prober.stop();
      t.diagnostic(prober.table());
    });

    test('locked for 10 s by another process: decisions and reads go on, changes are 503 within 4 s and not made later', async (t) => {
      const all = subject.get();
      const { stack, file } = all;
      const prober = startProber(stack, all.kinds);
      await expectNormal(prober, 'before');
      const lock = await lockInAnotherProcess(file);
      const lockedAt = performance.now();
      const phase = 'locked';
      prober.begin(phase);
      // at once, so that they wait for each other too
      await Promise.all(Array.from({ length: 6 }, expectRefused));
      const env = { DATABASE_URL: `sqlite:${file}` };
      const [list, change] = await Promise.all([
        runCli(['clients', 'list'], { env }),
        runCli(['clients', 'disable', '1000'], { env }),
        stack.manage('GET', all.adminKey).then(({ status }) => {
          assert.equal(status, 200);
        }),
      ]);
      assert.deepEqual([list.exitCode, change.exitCode], [0, 69], `${list.stderr}${change.stderr}`);
      assert.match(change.stderr, /The database does not answer/);
      await until('10 s are over', () => performance.now() - lockedAt > 10_000, 15_000);
      await prober.rounds(1);
      for (const good of ['remembered', 'never seen']) only(200, prober.count(phase, good));
      for (const bad of ['unknown id', 'wrong secret', 'deleted']) only(401, prober.count(phase, bad));
      assert.match(stack.output(), /SQLITE_BUSY: database is locked/);
      lock.kill('SIGKILL');
      t.diagnostic(`changes go on after ${(await untilItGoesOn()).toFixed(0)} ms`);
      await expectNormal(prober, 'unlocked');
      await prober.stop();
      t.diagnostic(`${prober.table()}\nslowest decision while locked: ${prober.slowest(phase).toFixed(0)} ms`);
    });

    test('with a damaged page: whoever is on it is "cannot tell", everybody else is decided on; a start refuses it', async (t) => {
      const all = subject.get();
      const { stack, file } = all;
      const backup = await backUp(file);
      const database = openTestDatabase(all.databaseDir);
      // everything into the file itself, of which a page is overwritten
      await database.raw('pragma wal_checkpoint(truncate)');
      const pages: { pageno: number }[] = await database.raw(
        "select pageno from dbstat where name = 'api_clients' and pagetype = 'leaf' order by pageno",
      );
      const [{ page_size: size } = { page_size: 0 }]: { page_size: number }[] = await database.raw('pragma page_size');
      const page = pages[Math.floor(pages.length / 2)]?.pageno ?? 0;
      const repair = damage(file, page, size);
      // a change by another process, with which nobody's cached pages count any more
      const touch = () => database.raw('update revision set value = value + 1');
      await touch();
      // a connection of its own, which has seen nothing before
      const fresh = openTestDatabase(all.databaseDir);
      const isOnIt = async ({ id }: KnownClient) =>
        fresh('api_clients')
          .where({ id })
          .first()
          .then(
            () => false,
            () => true,
          );
      const onIt: KnownClient[] = [];
      for (const client of [...all.neverSeen]) if (await isOnIt(client)) onIt.push(client);
      assert.ok(onIt.length > 10, `${onIt.length} clients are on the page`);
      all.neverSeen.splice(0, all.neverSeen.length, ...all.neverSeen.filter((client) => !onIt.includes(client)));
      const asked = [...onIt];
      const prober = startProber(stack, [
        ...all.kinds,
        { name: 'on the damaged page', isGood: true, next: () => asked.pop()?.key ?? onIt[0]?.key },
        { name: 'wrong, on that page', isGood: false, next: () => madeUpKey(onIt[1]?.id ?? 0) },
      ]);
      const phase = 'a page is damaged';
      await expectNormal(prober, phase);
      for (const kind of ['on the damaged page', 'wrong, on that page']) only(503, prober.count(phase, kind));
      assert.match(stack.output(), /SQLITE_CORRUPT: database disk image is malformed/);
      const { status, json } = await stack.manage('GET', all.adminKey, `/${onIt[0]?.id ?? 0}`);
      assert.deepEqual([status, json['reason']], [503, 'store_unavailable']);
      await fresh.destroy();

      await database.raw('pragma wal_checkpoint(truncate)');
      const refusal = expectStartRefused(file, backup, onIt[0]?.key ?? '');

      const feedPages: { pageno: number }[] = await database.raw("select pageno from dbstat where name = 'revision'");
      repair();
      const said = stack.output().length;
      const repairFeed = damage(file, feedPages[0]?.pageno ?? 0, size);
      await database('audit_events').insert({ at: 0, action: 'x', outcome: 'x' });
      const damagedAt = performance.now();
      prober.begin('the revision is damaged');
      await until('it is said', () => /does not answer; .*remembered for 5 s at most/.test(stack.output().slice(said)));
      await expectRefused();
      await refusal;
      const beyond = 'the revision, beyond 5 s';
      await until('memory counts no more, and all is asked', () => performance.now() - damagedAt > 5_200);
      await expectNormal(prober, beyond);
      repairFeed();
      t.diagnostic(`changes go on after ${(await untilItGoesOn()).toFixed(0)} ms`);

      await database.raw('pragma wal_checkpoint(truncate)');
      const repairHead = damage(file, 1, size);
      prober.begin('the head is damaged');
      await until('it is no database', () => /SQLITE_NOTADB/.test(stack.output().slice(said)));
      await expectRefused();
      repairHead();
      t.diagnostic(`the head: changes go on after ${(await untilItGoesOn()).toFixed(0)} ms`);
      await database.destroy();
      await expectNormal(prober, 'mended');
      only(200, prober.count('mended', 'on the damaged page'));
      await prober.stop();
      t.diagnostic(`${onIt.length} clients on the page\n${prober.table()}`);
    });

    test('has everything that was acknowledged when its gateway is killed after all this', () =>
      subject.expectNothingLost());
  });

  suite('that may not be written', { concurrency: false }, () => {
    test('is refused at the start, by name, and nothing is made', { skip: isRoot && needsMount }, async () => {
      const first = await startGateway();
      await stopGateway(first);
      const file = join(first.dir, 'apigw.db');
      const env = { DATABASE_URL: `sqlite:${file}` };
      // a start makes its sockets elsewhere
      const other = makeTempDir();
      if (isRoot) mountReadOnly(first.dir);
      else chmodSync(file, 0o400);
      const second = spawnGateway(other, env);
      const ended = await second.ended;
      const list = await runCli(['clients', 'list'], { env });
      if (isRoot) unmount(first.dir);
      else chmodSync(file, 0o600);
      assert.deepEqual(ended, [1, null]);
      const why = isRoot ? /apigw\.db is on a file system that is mounted read-only/ : /may not read and write/;
      assert.match(second.output(), why);
      assert.match(list.stderr, why);
      const third = await startGateway(other, env);
      await stopGateway(third);
      rmSync(first.dir, { recursive: true });
      rmSync(other, { recursive: true });
    });
  });

  suite('on a disk', { concurrency: false, skip: needsMount }, () => {
    test('that is full, with database and logs on it: decisions go on, changes are 503, and room is enough to go on', async (t) => {
      const mounted = mountTmpfs('12m');
      const all = await startWithClients(join(mounted, 'state'), join(mounted, 'state'), 400);
      const { stack, file, adminKey, kinds } = all;
      const prober = startProber(stack, kinds);
      await expectNormal(prober, 'before');
      const database = openTestDatabase(all.databaseDir);
      // so that a change needs room at once
      await database.raw('pragma wal_checkpoint(truncate)');
      await database.destroy();
      const said = stack.output().length;
      fillUp(mounted);
      const phase = 'full';
      prober.begin(phase);
      for (let index = 0; index < 20; index++) {
        const { status, json } = await stack.manage('POST', adminKey, '', { json: { name: 'refused' } });
        assert.deepEqual([status, json['reason']], [503, 'store_unavailable'], JSON.stringify(json));
      }
      // a refused call leaves an event, which has no room
      const [someone] = all.neverSeen;
      const refused = await stack.manage('GET', someone?.key ?? '');
      assert.deepEqual([refused.status, refused.json['reason']], [403, 'admin_required']);
      assert.equal((await stack.manage('GET', adminKey)).status, 200);
      await until('times of last use have been tried to be written', () =>
        stack.output().slice(said).includes('times of last use could not be stored'),
      );
      await prober.rounds(1);
      for (const good of ['remembered', 'never seen']) only(200, prober.count(phase, good));
      for (const bad of ['unknown id', 'wrong secret', 'deleted']) only(401, prober.count(phase, bad));
      assert.match(stack.output().slice(said), /SQLITE_FULL: database or disk is full/);
      assert.match(stack.output().slice(said), /the audit event could not be stored/);

      rmSync(join(mounted, 'filler'));
      const freedAt = performance.now();
      const { status, json } = await stack.manage('POST', adminKey, '', { json: { name: 'kept' } });
      assert.equal(status, 201);
      t.diagnostic(`the first change after there is room: ${(performance.now() - freedAt).toFixed(0)} ms`);
      await expectNormal(prober, 'room again');
      await prober.stop();
      t.diagnostic(prober.table());
      assert.deepEqual((await stack.manage('GET', adminKey, '?name=refused')).json, []);
      assert.equal((await stack.ask('/', { key: json['token'] as string })).status, 200);
      const after = openTestDatabase(all.databaseDir);
      assert.deepEqual(await after.raw('pragma integrity_check'), [{ integrity_check: 'ok' }]);
      await after.destroy();
      assert.ok(readFileSync(file).length > 0);
      await stack.stop();
      unmount(mounted);
    });

    test('that is full, with the log of the gateway on it: decisions go on, and so does the log when there is room', async () => {
      const mounted = mountTmpfs('1m');
      const log = openSync(join(mounted, 'log'), 'a');
      const gateway = spawnGateway(makeTempDir(), { API_KEY_CREATE: 'true' }, 'gateway', log);
      const logged = () => readFileSync(join(mounted, 'log'), 'utf8');
      await until('it is ready', () => logged().includes('"msg":"ready"'));
      const key = /^NEWLY GENERATED API KEY: (.*)$/m.exec(logged())?.[1] ?? '';
      fillUp(mounted);
      // what is refused is a line each, more than is left in the last page of the file
      for (let id = 1_000; id < 1_100; id++) assert.equal(await gateway.decide(madeUpKey(id)), 401);
      assert.equal(await gateway.decide(key), 204);
      assert.equal((await gateway.manage('POST', '', key, {})).status, 201);
      const full = logged();
      rmSync(join(mounted, 'filler'));
      assert.equal(await gateway.decide(madeUpKey(2_000)), 401);
      await until('it is logged again', () => logged().length > full.length);
      assert.deepEqual(await stopGateway(gateway), [0, null]);
      closeSync(log);
      unmount(mounted);
    });
  });

  suite('that takes 10,000 writes of 20 clients, with kill -9 on the way', { concurrency: false }, () => {
    const goal = 10_000;
    const perApply = 100;
    const killAt = [0.15, 0.35, 0.55, 0.75, 0.9].map((part) => part * goal);

    test('loses nothing that was acknowledged, and has nothing half-done', async (t) => {
      // what a killed process has written is in the kernel: memory serves as well as a disk, and leaves more of the time to kills
      const mounted = mayMount ? mountTmpfs('256m') : undefined;
      const dir = mounted ?? makeTempDir();
      let gateway = await startGateway(dir, { API_KEY_CREATE: 'true' });
      const admin = gateway.firstKey();
      const expected = new Map<number, Expected>();
      const refusedKeys: string[] = [];
      /** By the beginning of their names, whether all of them were acknowledged. */
      const applied = new Map<string, boolean>();
      const counts: Record<string, number> = {};
      let [written, kills, unanswered] = [0, 0, 0];
      let restart = Promise.resolve();

      async function killAndRestart(): Promise<void> {
        kills++;
        await stopGateway(gateway, 'SIGKILL');
        gateway = await startGateway(dir);
      }

      /** Undefined when the gateway died before it could answer. */
      async function call(operation: string, weight: number, method: string, path: string, body?: unknown) {
        await restart;
        const answer = await gateway.call(method, path, admin, body).catch(() => undefined);
        if (!answer) {
          unanswered++;
          return undefined;
        }
        if (answer.status === 503) {
          // too many were waiting, on a slow machine
          counts['503'] = (counts['503'] ?? 0) + 1;
          return undefined;
        }
        assert.ok(answer.status < 300, `${operation}: ${answer.status} ${JSON.stringify(answer.json)}`);
        counts[operation] = (counts[operation] ?? 0) + 1;
        written += weight;
        if (written >= (killAt[kills] ?? Infinity)) restart = killAndRestart();
        return answer.json;
      }

      const set = (client: Expected, changes: Partial<Expected>) => {
        expected.set(client.id, { ...client, ...changes });
      };
      const of = (id: number) => expected.get(id) as Expected;

      async function createOne(name: string): Promise<number | undefined> {
        const json = await call('create', 1, 'POST', '/api-clients', { name });
        if (!json) return undefined;
        const id = json['id'] as number;
        expected.set(id, { id, name, key: json['token'] as string, isThere: true });
        return id;
      }
      async function update(id: number, name: string): Promise<void> {
        const json = await call('update', 1, 'PUT', `/api-clients/${id}`, { name });
        set(of(id), { name: json ? name : undefined });
      }
      async function rotate(id: number): Promise<void> {
        const { key } = of(id);
        const json = await call('rotate', 1, 'POST', `/api-clients/${id}/rotate`, { overlap: 0 });
        set(of(id), { key: json && (json['token'] as string) });
        if (json && key !== undefined) refusedKeys.push(key);
      }
      async function remove(id: number): Promise<void> {
        const { key } = of(id);
        const json = await call('delete', 1, 'DELETE', `/api-clients/${id}`);
        set(of(id), { isThere: json ? false : undefined });
        if (json && key !== undefined) refusedKeys.push(key);
      }
      async function apply(name: string): Promise<void> {
        const clients = Array.from({ length: perApply }, (_, index) => ({ api_client_id: `${name}-${index}` }));
        const json = await call('apply', perApply, 'POST', '/apply', { version: 1, clients });
        applied.set(name, json !== undefined);
      }

      let isOver = false;
      async function work(worker: number): Promise<void> {
        for (let turn = 0; !isOver; turn++) {
          const name = `w${worker}-${turn}`;
          const id = await createOne(name);
          const other = await createOne(`${name}-other`);
          await apply(`a${worker}-${turn}`);
          if (id === undefined || other === undefined) continue;
          await update(id, `${name}-new`);
          await rotate(id);
          await update(other, `${name}-gone`);
          await remove(other);
          isOver ||= written >= goal;
        }
      }
      const workUntilItFails = (worker: number) =>
        work(worker).finally(() => {
          isOver = true;
        });
      const startedAt = performance.now();
      await Promise.all(Array.from({ length: 20 }, (_, worker) => workUntilItFails(worker)));
      await restart;
      const duration = (performance.now() - startedAt) / 1_000;
      await stopGateway(gateway, 'SIGKILL');
      assert.equal(kills, killAt.length);

      const database = openTestDatabase(dir);
      t.after(async () => {
        await database.destroy();
      });
      assert.deepEqual(await database.raw('pragma integrity_check'), [{ integrity_check: 'ok' }]);
      assert.deepEqual(await database.raw('pragma foreign_key_check'), []);
      const clients = await database<{ id: number; name: string; api_client_id: string }>('api_clients');
      const byId = new Map(clients.map((client) => [client.id, client]));
      for (const { id, name, isThere } of expected.values()) {
        if (isThere !== undefined) assert.equal(byId.has(id), isThere, `client ${id}`);
        if (isThere === true && name !== undefined) assert.equal(byId.get(id)?.name, name);
      }
      for (const [name, isAcknowledged] of applied) {
        const found = clients.filter((client) => client.api_client_id.startsWith(`${name}-`)).length;
        if (isAcknowledged) assert.equal(found, perApply, name);
        else assert.ok(found === 0 || found === perApply, `${found} of ${name}`);
      }
      // one that was created has one key that lives, whatever else was done to it
      const live: { client_id: number; count: number }[] = await database('api_keys')
        .select('client_id')
        .count('* as count')
        .whereRaw('(expires_at is null or expires_at > ?)', [Date.now()])
        .whereNull('revoked_at')
        .groupBy('client_id');
      assert.ok(live.every(({ count }) => count === 1));
      assert.equal(live.length, clients.filter((client) => !/^a\d+-\d+-\d+$/.test(client.api_client_id)).length);
      // each revision has its event, and there is no gap
      const revision = await database<{ value: number }>('revision').first('value');
      const [events]: { revisions: number; last: number }[] = await database.raw(
        'select count(distinct revision) as revisions, max(revision) as last from audit_events where revision is not null',
      );
      assert.deepEqual([events?.revisions, events?.last], [revision?.value, revision?.value]);

      gateway = await startGateway(dir);
      const accepted = [...expected.values()].flatMap(({ key, isThere }) =>
        isThere === true && key !== undefined ? [key] : [],
      );
      const decided = { accepted: 0, refused: 0 };
      const decideAll = async (keys: string[], status: number, count: keyof typeof decided) => {
        await Promise.all(
          Array.from({ length: 20 }, async () => {
            for (let key = keys.pop(); key !== undefined; key = keys.pop()) {
              assert.equal(await gateway.decide(key), status);
              decided[count]++;
            }
          }),
        );
      };
      await decideAll(accepted, 204, 'accepted');
      await decideAll(refusedKeys, 401, 'refused');
      assert.equal(await gateway.decide(admin), 204);
      await stopGateway(gateway);
      if (mounted) unmount(mounted);
      t.diagnostic(
        `${written} writes in ${JSON.stringify(counts)} calls (apply: ${perApply} each), ${duration.toFixed(1)} s, ${kills + 1} kills, ` +
          `${unanswered} calls without an answer; afterwards ${decided.accepted} keys are accepted and ${decided.refused} refused`,
      );
    });
  });
});
