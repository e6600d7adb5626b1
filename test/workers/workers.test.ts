import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { openTestDatabase } from '../support/database.ts';
import { startGateway, spawnGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { readSamples, sumOf } from '../support/metrics.ts';
import { makeTempDir, startTestStack, until, withoutLimits, type TestStack } from '../support/stack.ts';

const two = { APIGW_WORKERS: '2' };

/** Processes whose parent is this one. */
function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((pid) => /^[0-9]+$/.test(pid))
    .filter((pid) => {
      try {
        const [, , ppid] = / (\S) ([0-9]+) /.exec(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\)/, '')) ?? [];
        return Number(ppid) === parent;
      } catch {
        return false;
      }
    })
    .map(Number);
}

const isAlive = (pid: number) => existsSync(`/proc/${pid}`);

suite('two workers behind nginx', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack({ env: two, editLimits: withoutLimits });
    await until('all are ready', () => stack.output().includes('"msg":"ready"'));
  });
  after(() => stack.stop());

  const management = () => join(stack.stack.runDir, 'management.sock');
  const workers = () => childrenOf(stack.stack.gateway.pid ?? 0);

  /** The statuses of this many requests, on a connection of its own each, as many at once as are given. */
  async function flood(key: string, count: number, atOnce = 50): Promise<Record<number, number>> {
    const statuses: Record<number, number> = {};
    let asked = 0;
    const client = async () => {
      while (asked++ < count) {
        const { status } = await stack.ask('/', { key });
        statuses[status] = (statuses[status] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: atOnce }, client));
    return statuses;
  }

  const create = async () => {
    const { json } = await stack.manage('POST', stack.adminKey, '', { json: {} });
    return { id: String(json['id']), key: json['token'] as string };
  };

  test('say once that they are ready, make one bootstrap key, and own sockets that no stranger may use', () => {
    assert.equal(workers().length, 2);
    assert.equal(stack.output().match(/NEWLY GENERATED API KEY/g)?.length, 1);
    assert.equal(stack.output().match(/a bootstrap key is alive/g)?.length, 1);
    assert.equal(stack.output().match(/"workers":2,.*"msg":"ready"/g)?.length, 1);
    for (const name of ['decision', 'management'])
      assert.equal(statSync(join(stack.stack.runDir, `${name}.sock`)).mode & 0o777, 0o660);
  });

  test('grant none of 2,000 requests after a deletion is acknowledged, although both knew the client', async () => {
    const refusedBy = new Set<string>();
    for (let round = 0; round < 10; round++) {
      const { id, key } = await create();
      const missed = async () =>
        sumOf(await readSamples(management()), 'apigw_cache_lookups_total', { cache: 'clients', result: 'miss' });
      const missedBefore = await missed();
      await until('both workers remember the client', async () => {
        assert.deepEqual(Object.keys(await flood(key, 20, 20)), ['200']);
        return (await missed()) >= missedBefore + 2;
      });
      const said = stack.output().length;
      assert.equal((await stack.manage('DELETE', stack.adminKey, `/${id}`)).status, 204);
      assert.deepEqual(await flood(key, 200), { 401: 200 });
      const denials = stack
        .output()
        .slice(said)
        .matchAll(/"worker":([0-9]+),.*"reason":"unknown_key"/g);
      for (const [, worker = ''] of denials) refusedBy.add(worker);
    }
    assert.equal(refusedBy.size, 2, 'both workers were asked');
    assert.doesNotMatch(stack.output(), /a worker does not answer/);
  });

  test('say the numbers of both at /metrics', async () => {
    const decisions = async () => sumOf(await readSamples(management()), 'apigw_decisions_total');
    const earlier = await decisions();
    await flood(stack.adminKey, 100);
    for (let round = 0; round < 4; round++) assert.equal((await decisions()) - earlier, 100);
  });

  test('are replaced when they are killed, one or all, and requests go on', async () => {
    for (const count of [1, 2]) {
      const before = workers();
      const killed = before.slice(0, count);
      for (const pid of killed) process.kill(pid, 'SIGKILL');
      await until('there are two again', () => {
        const now = workers();
        return now.length === 2 && killed.every((pid) => !now.includes(pid));
      });
      await until('requests are answered', async () => (await stack.ask('/', { key: stack.adminKey })).status === 200);
      await until(
        'both take part',
        // they decide before they can be asked
        async () => sumOf(await readSamples(management()).catch(() => []), 'process_cpu_seconds_total') > 0,
      );
      assert.deepEqual(await flood(stack.adminKey, 200), { 200: 200 });
    }
    assert.equal(statSync(management()).mode & 0o777, 0o660);
    assert.equal(stack.output().match(/NEWLY GENERATED API KEY/g)?.length, 1);
  });
});

suite('a primary', () => {
  test('whose first worker cannot start says why once and ends with 1; a mistake in the environment is 78', async () => {
    const nowhere = spawnGateway(undefined, { ...two, DATABASE_URL: 'sqlite:/dev/null/apigw.db' });
    assert.deepEqual(await nowhere.ended, [1, null]);
    assert.equal(nowhere.output().match(/\/dev\/null\/apigw\.db/g)?.length, 1, nowhere.output());
    const mistaken = spawnGateway(undefined, { APIGW_WORKERS: '0' });
    assert.deepEqual(await mistaken.ended, [78, null]);
    assert.match(mistaken.output(), /APIGW_WORKERS is "0"/);
  });

  test('takes no socket from another gateway that answers there', async () => {
    const dir = makeTempDir();
    const other = createServer().listen(join(dir, 'gateway-d.sock'));
    const gateway = spawnGateway(dir, two);
    assert.deepEqual(await gateway.ended, [1, null]);
    assert.match(gateway.output(), /Cannot listen on .*another process answers there/);
    other.close();
  });

  test('is not there with one worker: the process is alone', async () => {
    const gateway = await startGateway();
    assert.deepEqual(childrenOf(gateway.child.pid ?? 0), []);
    assert.doesNotMatch(gateway.output(), /"worker":/);
    await stopGateway(gateway);
  });
});

suite('a primary that is killed, and the next one', () => {
  const dir = makeTempDir();
  let orphans: number[];
  let next: GatewayProcess;
  before(async () => {
    const killed = await startGateway(dir, two);
    orphans = childrenOf(killed.child.pid ?? 0);
    await stopGateway(killed, 'SIGKILL');
    await until('no worker is left', () => !orphans.some(isAlive));
    assert.ok(existsSync(join(dir, 'gateway-d.sock')));
    next = await startGateway(dir, { ...two, API_KEY_CREATE: 'true' });
  });
  after(() => stopGateway(next));

  test('takes its workers with it, and the next one starts over its sockets', async () => {
    assert.equal(orphans.length, 2);
    assert.equal(await next.decide(next.firstKey()), 204);
  });

  test('ends a worker that is silent before a change is acknowledged, and says so', async () => {
    const [first = 0, second = 0] = childrenOf(next.child.pid ?? 0).sort((a, b) => a - b);
    // only one of them is given the connection; the other, halted, is handed those that come next
    process.kill(second, 'SIGSTOP');
    try {
      const statuses = await Promise.all(
        [1, 2].map(() =>
          Promise.race([
            next.manage('POST', '', next.firstKey(), {}).then(({ status }) => status),
            new Promise<undefined>((resolve) => setTimeout(resolve, 3_000, undefined)),
          ]),
        ),
      );
      assert.ok(statuses.includes(201), `${statuses.join()} by ${first}`);
      assert.match(next.output(), /a worker does not answer; it is ended/);
      assert.ok(!childrenOf(next.child.pid ?? 0).includes(second), 'the silent worker is gone');
    } finally {
      if (isAlive(second)) process.kill(second, 'SIGCONT');
    }
  });

  test('leaves neither a worker nor a socket behind after SIGTERM, and ends with 0', async () => {
    let workers: number[] = [];
    await until('there are two workers', () => {
      workers = childrenOf(next.child.pid ?? 0);
      return workers.length === 2;
    });
    const { id, token } = (await next.manage('POST', '', next.firstKey(), {})).json;
    assert.equal(await next.decide(token as string), 204);
    assert.deepEqual(await stopGateway(next), [0, null]);
    assert.ok(!workers.some(isAlive));
    // each worker has ended by itself, with all that it had to write
    const database = openTestDatabase(dir);
    const keys = await database<{ last_used_at: number }>('api_keys').where('client_id', Number(id));
    await database.destroy();
    assert.ok((keys[0]?.last_used_at ?? 0) > 0, 'the last use is kept');
    assert.deepEqual(
      readdirSync(next.dir).filter((name) => name.endsWith('.sock')),
      [],
    );
    assert.equal(next.output().match(/"msg":"stopped"/g)?.length, 1);
  });
});
