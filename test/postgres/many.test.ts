import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, suite, test, type TestContext } from 'node:test';
import { stopGateway } from '../support/gateway.ts';
import { startGateways, type Gateways } from '../support/gateways.ts';
import { countStatuses, startLoad, type Load, type Sample } from '../support/load.ts';
import { startPostgres, type Postgres } from '../support/postgres.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';
import { until } from '../support/stack.ts';

const revocations = Number(process.env['REVOCATIONS'] ?? 12);

function percentiles(values: readonly number[]): { p50: number; p99: number; max: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

const inWords = ({ p50, p99, max }: { p50: number; p99: number; max: number }) =>
  `p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms, max ${max.toFixed(0)} ms`;

suite('three gateways on one PostgreSQL, behind one nginx', () => {
  let server: Postgres;
  let database: string;
  let gateways: Gateways;
  let proxy: Proxy;
  let key: string;
  before(async () => {
    server = await startPostgres();
    database = await server.createDatabase();
    gateways = await startGateways(Array.from({ length: 3 }, () => server.url(database)));
    key = gateways.at(0).firstKey();
    proxy = await startProxy(gateways.socketDirs);
  });
  after(async () => {
    await proxy.stop();
    await gateways.stop();
  });

  async function underLoad(perSecond: number, work: (load: Load) => Promise<void>): Promise<readonly Sample[]> {
    const load = startLoad(proxy, key, perSecond);
    await until('the load is there', () => load.samples.length > perSecond / 2, 30_000);
    await work(load);
    const answered = load.samples.length;
    await until('it goes on', () => load.samples.length > answered + perSecond / 2, 30_000);
    await load.stop();
    return load.samples;
  }

  function tell(t: TestContext, what: string, samples: readonly Sample[]): void {
    const times = samples.map(({ sentAt }) => sentAt);
    const seconds = (Math.max(...times) - Math.min(...times)) / 1_000;
    const took = percentiles(samples.map(({ duration }) => duration));
    t.diagnostic(
      `${what}: ${JSON.stringify(countStatuses(samples))} at ${(samples.length / seconds).toFixed(0)} requests/s, ${inWords(took)}`,
    );
  }

  /** Of each other gateway, the milliseconds from the acknowledgement by the first until its refusal. */
  async function revoke(): Promise<number[]> {
    const created = await gateways.at(0).manage('POST', '', key, {});
    const [id, token] = [created.json['id'] as number, created.json['token'] as string];
    await until('all remember it', () => gateways.everybodySays(token, 204));
    const refusals = [1, 2].map(async (index) => {
      while ((await gateways.at(index).decide(token)) !== 401) await delay(1);
      return performance.now();
    });
    assert.equal((await gateways.at(0).manage('DELETE', `/${id}`, key)).status, 204);
    const acknowledgedAt = performance.now();
    const patience = delay(10_000, undefined, { ref: false }).then(() => {
      throw new Error('a gateway grants 10 s after the revocation');
    });
    // one that refuses before the acknowledgement has arrived does so at once
    const times = await Promise.race([Promise.all(refusals), patience]);
    return times.map((at) => Math.max(0, at - acknowledgedAt));
  }

  async function measureRevocations(t: TestContext, how: string, isNotified: boolean): Promise<void> {
    const latencies: number[] = [];
    const samples = await underLoad(100, async () => {
      for (let count = 0; count < revocations; count++) latencies.push(...(await revoke()));
    });
    const found = percentiles(latencies);
    t.diagnostic(`${revocations} revocations, ${how}, until another gateway refuses: ${inWords(found)}`);
    tell(t, 'meanwhile', samples);
    assert.deepEqual(Object.keys(countStatuses(samples)), ['200']);
    for (const gateway of gateways.all())
      assert.match(await gateway.metrics(), new RegExp(`^apigw_feed_notified ${Number(isNotified)}$`, 'm'));
    // the documented second, and as much again for a machine that is busy
    assert.ok(found.p50 < 1_000 && found.max < 2_000, inWords(found));
  }

  test('a revocation counts at the others, for they are notified', (t) => measureRevocations(t, 'with notices', true));

  test('one after the other is restarted at 300 requests/s: no request fails', async (t) => {
    const samples = await underLoad(300, async () => {
      for (const index of [0, 1, 2]) {
        assert.deepEqual(await stopGateway(gateways.at(index)), [0, null]);
        await gateways.restart(index);
      }
    });
    tell(t, '3 restarts', samples);
    assert.deepEqual(countStatuses(samples), { 200: samples.length });
  });

  test('one is killed (SIGKILL) at 300 requests/s: no request fails', async (t) => {
    const samples = await underLoad(300, async (load) => {
      await stopGateway(gateways.at(1), 'SIGKILL');
      const answered = load.samples.length;
      await until('the others answer', () => load.samples.length > answered + 300, 30_000);
    });
    await gateways.restart(1);
    tell(t, 'one of three killed', samples);
    assert.deepEqual(countStatuses(samples), { 200: samples.length });
  });

  // the last, for it changes the database
  test('a revocation counts at the others when the database has no notices', async (t) => {
    const rename = (from: string, to: string) =>
      server.sql(database, `set allow_system_table_mods = on; alter function pg_catalog.${from} rename to ${to}`);
    await rename('pg_notify', 'pg_notify_of_old');
    await Promise.all(
      [0, 1, 2].map(async (index) => {
        await stopGateway(gateways.at(index));
        await gateways.restart(index);
      }),
    );
    await measureRevocations(t, 'without notices', false);
  });
});
