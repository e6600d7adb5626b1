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
import { makeTempDir, root, startTestStack, until, type TestStack } from '../support/stack.ts';

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

suite('the database, behind nginx', () => {
  let all: WithClients;
  let stack: TestStack;
  let file: string;
  const kept: string[] = [];
  before(async () => {
    const stateDir = makeTempDir();
    const databaseDir = join(stateDir, 'database');
    mkdirSync(databaseDir);
    all = await startWithClients(stateDir, databaseDir);
    ({ stack, file } = all);
  });
  after(() => stack.stop());

  const create = (name: string) => stack.manage('POST', all.adminKey, '', { json: { name } });
  async function expectRefused(): Promise<void> {
    const { status, json, duration } = await create('refused');
    assert.deepEqual([status, json['reason']], [503, 'store_unavailable'], JSON.stringify(json));
    assert.ok(duration < 4_000);
  }
  async function untilItGoesOn(): Promise<number> {
    const startedAt = performance.now();
    await until('changes are made again, without a restart', async () => {
      const { status, json } = await create('kept');
      if (status === 201) kept.push(json['token'] as string);
      return status === 201;
    });
    return performance.now() - startedAt;
  }
  /** None that was refused is there, and each that was acknowledged is. */
  async function expectNothingLost(): Promise<void> {
    const { json } = await stack.manage('GET', all.adminKey, '?name=refused');
    assert.deepEqual(json, [], 'what was answered by 503 has not been done');
    for (const key of kept) assert.equal((await stack.ask('/', { key })).status, 200);
  }
  const logged = () => stack.output();

  test('taken away, its log alone, all files, or its folder: no change that would be lost, no 401, no restart', async (t) => {
    const prober = startProber(stack, all.kinds);
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
    for (const [what, take] of [
      ['file away', several([''])],
      ['its log away', several(['-wal'])],
      ['all three away', several(['', '-wal', '-shm'])],
      ['a copy in its place', otherInItsPlace],
      ['folder away', away(all.databaseDir)],
    ] as const) {
      const said = logged().length;
      await expectNormal(prober, `before: ${what}`);
      const takenAt = performance.now();
      const putBack = take();
      await expectRefused();
      // lookups believe in the file for a tenth of a second
      await prober.rounds(2);
      await expectCannotTell(prober, what);
      await until('it is said', () => /apigw\.db(?:-wal)? is not the file that was opened/.test(logged().slice(said)));
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
      await prober.rounds(3);
      await expectNormal(prober, `after: ${what}`);
    }
    await prober.stop();
    t.diagnostic(prober.table());
    await expectNothingLost();
  });

  test('read-only while it runs: decisions go on, changes are 503, and are made again afterwards', async (t) => {
    const files = [file, `${file}-wal`];
    if (!makeImmutable(t, files)) return;
    const prober = startProber(stack, all.kinds);
    const said = logged().length;
    try {
      await expectRefused();
      await expectNormal(prober, 'read-only');
      assert.match(logged().slice(said), /"The database does not answer: SQLITE_[A-Z]+: [^"]+"/);
    } finally {
      execFileSync('chattr', ['-i', ...files]);
    }
    t.diagnostic(`changes go on after ${(await untilItGoesOn()).toFixed(0)} ms`);
    await expectNormal(prober, 'writable');
    await prober.stop();
    t.diagnostic(prober.table());
    await expectNothingLost();
  });

  test('locked for 10 s by another process: decisions and reads go on, changes are 503 within 4 s and not made later', async (t) => {
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
    assert.match(logged(), /SQLITE_BUSY: database is locked/);
    lock.kill('SIGKILL');
    t.diagnostic(`changes go on after ${(await untilItGoesOn()).toFixed(0)} ms`);
    await expectNormal(prober, 'unlocked');
    await prober.stop();
    t.diagnostic(`${prober.table()}\nslowest decision while locked: ${prober.slowest(phase).toFixed(0)} ms`);
    await expectNothingLost();
  });

  test('with a damaged page: whoever is on it is "cannot tell", everybody else is decided on; a start refuses it', async (t) => {
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
    await expectStartRefused(file, backup, onIt[0]?.key ?? '');

    const feedPages: { pageno: number }[] = await database.raw("select pageno from dbstat where name = 'revision'");
    repair();
    const repairFeed = damage(file, feedPages[0]?.pageno ?? 0, size);
    await database('audit_events').insert({ at: 0, action: 'x', outcome: 'x' });
    const damagedAt = performance.now();
    const beyond = 'its page of the revision';
    prober.begin(beyond);
    await until('memory counts no more', () => stack.output().includes('does not answer; API clients are remembered'));
    await expectRefused();
    repairFeed();
    await database('audit_events').insert({ at: 0, action: 'x', outcome: 'x' });
    t.diagnostic(
      `damage of the revision is noticed and mended in ${(performance.now() - damagedAt).toFixed(0)} ms; changes go on after ${(await untilItGoesOn()).toFixed(0)} ms`,
    );
    await database.destroy();
    await expectNormal(prober, 'mended');
    only(200, prober.count('mended', 'on the damaged page'));
    await prober.stop();
    t.diagnostic(`${onIt.length} clients on the page\n${prober.table()}`);
    await expectNothingLost();
  });

  test('of a gateway that is killed after all this has everything that was acknowledged', async () => {
    const [pid] = stack.gatewayPids();
    assert.ok(pid !== undefined);
    process.kill(pid, 'SIGKILL');
    await until('it is back', async () => (await stack.ask('/', { key: all.adminKey })).status === 200, 20_000);
    await expectNothingLost();
    const database = openTestDatabase(all.databaseDir);
    assert.deepEqual(await database.raw('pragma integrity_check'), [{ integrity_check: 'ok' }]);
    await database.destroy();
  });
});

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
  assert.ok(page > 1);
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

suite('a database that may not be written', () => {
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

suite('a disk', { skip: needsMount }, () => {
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
    const fillUp = () => {
      const filler = openSync(join(mounted, 'filler'), 'a');
      for (const size of [1024 * 1024, 4096, 1])
        try {
          for (;;) writeSync(filler, Buffer.alloc(size));
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
        }
      closeSync(filler);
    };
    fillUp();
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
});
