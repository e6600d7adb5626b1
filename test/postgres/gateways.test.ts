import assert from 'node:assert/strict';
import { performance } from 'node:perf_hooks';
import { after, before, suite, test } from 'node:test';
import { spawnGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { startPooler } from '../support/pooler.ts';
import { startPostgres, type Postgres } from '../support/postgres.ts';
import { until } from '../support/stack.ts';

const create = { API_KEY_CREATE: 'true' };

/** Several processes that start at once take their time on a machine with few cores. */
async function startAtLeisure(...args: Parameters<typeof spawnGateway>): Promise<GatewayProcess> {
  const gateway = spawnGateway(...args);
  await until('the gateway is ready', () => gateway.output().includes('"msg":"ready"'), 60_000);
  return gateway;
}

/** Until the answer is that one, in milliseconds. */
async function timeUntil(holds: () => Promise<boolean>): Promise<number> {
  const startedAt = performance.now();
  while (!(await holds())) assert.ok(performance.now() - startedAt < 10_000, 'not within 10 s');
  return performance.now() - startedAt;
}

suite('gateways on one PostgreSQL', () => {
  let server: Postgres;
  let database: string;
  let gateways: GatewayProcess[];
  let key: string;
  before(async () => {
    server = await startPostgres();
    database = await server.createDatabase();
    gateways = await Promise.all(
      [1, 2, 3].map((index) =>
        startAtLeisure(undefined, { DATABASE_URL: server.url(database), ...create }, `g${index}`),
      ),
    );
    // of the three bootstrap keys the newest is alive
    const newest =
      gateways
        .map((gateway) => gateway.firstKey())
        .sort()
        .at(-1) ?? '';
    const [first] = gateways as [GatewayProcess];
    await until('the newest key counts', async () => (await first.decide(newest)) === 204);
    key = (await first.manage('POST', '', newest, { is_admin: true })).json['token'] as string;
  });
  after(async () => {
    await Promise.all(gateways.map((gateway) => stopGateway(gateway)));
  });
  const newClient = async (): Promise<{ id: number; token: string }> => {
    const { status, json } = await (gateways[0] as GatewayProcess).manage('POST', '', key, {});
    assert.equal(status, 201);
    return { id: json['id'] as number, token: json['token'] as string };
  };
  const everybodySays = async (token: string, status: number) =>
    (await Promise.all(gateways.map((gateway) => gateway.decide(token)))).every((one) => one === status);

  test('that start at once make its tables once, and each its key, in one order', async () => {
    assert.deepEqual(await server.sql(database, 'select count(*)::int as count from schema_version'), [{ count: 1 }]);
    const ids = gateways.map((gateway) => Number(gateway.firstKey().split('.')[0]));
    assert.deepEqual(ids.sort(), [1, 2, 3]);
    const revisions = await server.sql<{ revision: string }>(
      database,
      'select distinct revision from audit_events where revision is not null order by revision',
    );
    assert.deepEqual(
      revisions.map(({ revision }) => Number(revision)),
      revisions.map((_, index) => index + 1),
    );
  });

  test('of which one is killed (SIGKILL) while it makes the tables, leave that to the other', async () => {
    const slow = await server.createDatabase();
    await server.sql(
      slow,
      `create function slow() returns event_trigger language plpgsql as $$ begin perform pg_sleep(0.02); end $$`,
    );
    await server.sql(slow, 'create event trigger slow on ddl_command_end execute function slow()');
    const env = { DATABASE_URL: server.url(slow), ...create };
    const isMaking = async () =>
      (await server.sql(slow, "select from pg_locks where locktype = 'advisory' and granted")).length > 0;
    const killed = spawnGateway(undefined, env, 'killed');
    await until('it makes the tables', isMaking, 30_000);
    await stopGateway(killed, 'SIGKILL');
    const other = await startAtLeisure(undefined, env, 'other');
    try {
      assert.equal(killed.firstKey(), '');
      assert.deepEqual(await server.sql(slow, 'select count(*)::int as count from schema_version'), [{ count: 1 }]);
      assert.equal(await other.decide(other.firstKey()), 204);
    } finally {
      await stopGateway(other);
    }
  });

  test('know of a change by another, for they are told', async (t) => {
    const latencies: number[] = [];
    const [first, second] = gateways as [GatewayProcess, GatewayProcess];
    for (let time = 0; time < 8; time++) {
      const { id, token } = await newClient();
      await until('it is remembered', () => everybodySays(token, 204));
      assert.equal((await first.manage('DELETE', `/${id}`, key)).status, 204);
      latencies.push(await timeUntil(async () => (await second.decide(token)) === 401));
    }
    t.diagnostic(
      `from the answer until another gateway refuses: ${latencies.map((one) => one.toFixed(0)).join(', ')} ms`,
    );
    assert.match(await second.metrics(), /^apigw_feed_notified 1$/m);
  });

  test('follow a change too that nobody is notified of', async () => {
    const [first] = gateways as [GatewayProcess];
    const { id, token } = await newClient();
    await until('it is remembered', () => everybodySays(token, 204));
    // a change that nobody is notified of: made by hand
    await server.sql(database, 'delete from api_clients where id = $1', [id]);
    await server.sql(
      database,
      `with advanced as (update revision set value = value + 1 returning value)
        insert into audit_events (revision, at, action, client_id, outcome)
        select value, 0, 'api_client.delete', $1, 'done' from advanced`,
      [id],
    );
    assert.ok((await timeUntil(() => everybodySays(token, 401))) < 2_000);
    assert.equal((await first.ask('/readyz')).status, 200);
  });

  test('may be behind a pooler in transaction mode, and then follow changes without notices', async (t) => {
    const pooler = await startPooler(server);
    const [first] = gateways as [GatewayProcess];
    const pooled = await startAtLeisure(undefined, { DATABASE_URL: pooler.url(database) }, 'pooled');
    try {
      const latencies: number[] = [];
      for (let time = 0; time < 4; time++) {
        const { id, token } = await newClient();
        await until('it is remembered', async () => (await pooled.decide(token)) === 204);
        const { status, json } = await pooled.manage('PUT', `/${id}`, key, { name: `n${time}` });
        assert.equal(status, 200, JSON.stringify(json));
        assert.equal((await first.manage('DELETE', `/${id}`, key)).status, 204);
        latencies.push(await timeUntil(async () => (await pooled.decide(token)) === 401));
      }
      t.diagnostic(`from the answer until it refuses: ${latencies.map((one) => one.toFixed(0)).join(', ')} ms`);
      assert.ok(Math.max(...latencies) < 2_000);
      assert.match(await pooled.metrics(), /^apigw_feed_notified 0$/m);
      assert.doesNotMatch(pooled.output(), /"level":"error"/);
    } finally {
      await stopGateway(pooled);
    }
  });

  test('lose no last administrator between them, and no revision', async () => {
    const admins = await Promise.all(
      gateways.map(async (gateway) => (await gateway.manage('POST', '', key, { is_admin: true })).json),
    );
    const all = [key, ...admins.map((json) => json['token'] as string)];
    await until('all know all', async () =>
      (await Promise.all(all.map((one) => everybodySays(one, 204)))).every(Boolean),
    );
    const ids = all.map((one) => Number(one.split('.')[0]));
    // each is deleted by another one, through another gateway, all at once
    const answers = await Promise.all(
      ids.map((id, index) =>
        (gateways[index % 3] as GatewayProcess).manage('DELETE', `/${id}`, all[(index + 1) % all.length] ?? ''),
      ),
    );
    const kept = ids.filter((_, index) => answers[index]?.status !== 204);
    assert.ok(kept.length >= 1, JSON.stringify(answers));
    const left = await server.sql<{ id: string }>(database, 'select id from api_clients where is_admin order by id');
    assert.ok(left.some(({ id }) => kept.includes(Number(id))));
    key = all[ids.indexOf(kept[0] ?? 0)] ?? '';
  });

  test('answer 503 while it is away, and go on by themselves when it is back, without a restart', async (t) => {
    const { token } = await newClient();
    await until('it is remembered', () => everybodySays(token, 204));
    for (const how of ['fast', 'immediate'] as const) {
      await server.stop(how);
      const [first] = gateways as [GatewayProcess];
      const startedAt = performance.now();
      const { status, json } = await first.manage('POST', '', key, {});
      assert.deepEqual([status, json['reason']], [503, 'store_unavailable']);
      assert.ok(performance.now() - startedAt < 4_000);
      await until('nothing is answered from memory', () => everybodySays(token, 503), 12_000);
      await until('it says so', async () =>
        /^not followed for \d+ s: /.test(String((await first.ask('/readyz')).json['changes'])),
      );
      await server.start();
      t.diagnostic(
        `decisions again after ${(await timeUntil(() => everybodySays(token, 204))).toFixed(0)} ms (${how})`,
      );
      await until('changes again', async () => (await first.manage('POST', '', key, {})).status === 201);
    }
    for (const gateway of gateways) {
      assert.equal(gateway.child.exitCode, null);
      assert.doesNotMatch(gateway.output(), /select |insert into/);
    }
  });

  test('that cannot get an answer from a server which is stopped in its tracks say so in time', async () => {
    const [first] = gateways as [GatewayProcess];
    const { token } = await newClient();
    const frozen = await server.sql<{ pid: number }>(
      database,
      "select pid from pg_stat_activity where application_name = 'apigw'",
    );
    for (const { pid } of frozen) process.kill(pid, 'SIGSTOP');
    process.kill(server.pid(), 'SIGSTOP');
    try {
      const startedAt = performance.now();
      assert.equal(await first.decide(token), 503);
      assert.ok(performance.now() - startedAt < 4_000, `${performance.now() - startedAt}`);
    } finally {
      for (const { pid } of frozen) process.kill(pid, 'SIGCONT');
      process.kill(server.pid(), 'SIGCONT');
    }
    await until('it goes on', async () => (await first.decide(token)) === 204);
  });
});
