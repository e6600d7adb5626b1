import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, suite, test } from 'node:test';
import { startWay, type Way } from '../support/cut.ts';
import { changesFollowed } from '../support/gateway.ts';
import { startGateways, type Gateways } from '../support/gateways.ts';
import { openStore } from '../../src/store/open-store.ts';
import { createHostNames } from '../support/host-names.ts';
import { startPostgres, type Postgres } from '../support/postgres.ts';
import { until } from '../support/stack.ts';
import { addressOf } from '../support/stores.ts';

const outage = Number(process.env['OUTAGE_SECONDS'] ?? 10) * 1_000;

/** Milliseconds for which an API client in memory is decided on without the database. */
const bound = 5_000;
/** nginx gives up then. */
const patience = 4_000;
const slack = 1_000;

interface Decision {
  readonly status: number;
  readonly sentAt: number;
  readonly duration: number;
}

/** Asks one gateway again and again. */
function watch(gateways: Gateways, index: number, nextKey: () => string) {
  const decisions: Decision[] = [];
  let isOver = false;
  async function ask(): Promise<void> {
    while (!isOver) {
      const sentAt = performance.now();
      const status = await gateways.at(index).decide(nextKey());
      decisions.push({ status, sentAt, duration: performance.now() - sentAt });
      await delay(20);
    }
  }
  const asking = ask();
  return {
    decisions,
    async stop() {
      isOver = true;
      await asking;
      return decisions;
    },
  };
}

const between = (decisions: readonly Decision[], from: number, to = Infinity) =>
  decisions.filter(({ sentAt }) => sentAt >= from && sentAt < to);
const slowestOf = (decisions: readonly Decision[]) => Math.max(0, ...decisions.map(({ duration }) => duration));
const lastOf = (decisions: readonly Decision[], status: number) =>
  Math.max(-Infinity, ...decisions.filter((one) => one.status === status).map(({ sentAt }) => sentAt));
const statusesOf = (decisions: readonly Decision[]) => [...new Set(decisions.map(({ status }) => status))].sort();
const seconds = (milliseconds: number) => `${(milliseconds / 1_000).toFixed(2)} s`;

async function newClient(gateways: Gateways, key: string): Promise<{ id: number; token: string }> {
  const { status, json } = await gateways.at(0).manage('POST', '', key, {});
  assert.equal(status, 201, JSON.stringify(json));
  return { id: json['id'] as number, token: json['token'] as string };
}

function expectNoRestart(gateways: Gateways): void {
  for (const { child } of gateways.all()) assert.equal(child.exitCode, null);
}

// each with servers of its own, and mostly waiting
suite('gateways whose PostgreSQL fails', { concurrency: true }, () => {
  suite('two gateways, the second over a network that can be cut', { concurrency: false }, () => {
    let server: Postgres;
    let way: Way;
    let gateways: Gateways;
    let key: string;
    /** Keys that no gateway has in memory, and that are good. */
    let unknown: string[];
    before(async () => {
      server = await startPostgres();
      const database = await server.createDatabase();
      way = await startWay(server.port);
      const url = server.url(database);
      gateways = await startGateways([url, url.replace(`:${server.port}/`, `:${way.port}/`)]);
      key = gateways.at(0).firstKey();
      unknown = [];
      for (let count = 0; count < 20; count++) unknown.push((await newClient(gateways, key)).token);
    });
    after(async () => {
      await gateways.stop();
      await way.close();
    });
    const bothRemember = async (token: string) => {
      await changesFollowed(gateways.at(0), key);
      assert.ok(await gateways.everybodySays(token, 204));
    };
    const nextUnknown = () => {
      unknown.push(unknown.shift() ?? '');
      return unknown[0] ?? '';
    };

    test(`the network is cut (nothing arrives, nothing is refused): stale for 5 s at most, then 503 in time`, async (t) => {
      const { id, token } = await newClient(gateways, key);
      await bothRemember(token);
      const known = watch(gateways, 1, () => token);
      way.cut();
      const cutAt = performance.now();
      const others = watch(gateways, 1, nextUnknown);
      assert.equal((await gateways.at(0).manage('DELETE', `/${id}`, key)).status, 204);
      const revokedAt = performance.now();
      assert.equal(await gateways.at(0).decide(token), 401);
      await until('the one that is cut off refuses it', () => (known.decisions.at(-1)?.status ?? 204) !== 204, 15_000);
      await until('it says so', async () => (await gateways.at(1).ask('/readyz')).status === 503);
      way.mend();
      const mendedAt = performance.now();
      await until('it knows', () => known.decisions.at(-1)?.status === 401, 15_000);
      const knowsAt = performance.now();
      await until('it decides', async () => (await gateways.at(1).decide(nextUnknown())) === 204);
      const decidesAt = performance.now();
      await Promise.all([known.stop(), others.stop()]);
      expectNoRestart(gateways);

      const staleFor = lastOf(known.decisions, 204) - cutAt;
      const lost = between(others.decisions, cutAt, mendedAt - patience);
      t.diagnostic(
        `cut for ${seconds(mendedAt - cutAt)}, revoked after ${seconds(revokedAt - cutAt)}: last grant ${seconds(staleFor)} after the cut; ` +
          `503 within ${seconds(slowestOf(between(known.decisions, cutAt, mendedAt)))}; mended, it knows of the revocation after ` +
          `${seconds(knowsAt - mendedAt)}, and decides on all after ${seconds(decidesAt - mendedAt)}`,
      );
      assert.ok(staleFor <= bound + slack, seconds(staleFor));
      assert.ok(lastOf(known.decisions, 204) < mendedAt);
      assert.ok(slowestOf(between(known.decisions, cutAt, mendedAt)) < patience + slack);
      t.diagnostic(`${lost.length} keys that it did not have in memory: 503 within ${seconds(slowestOf(lost))}`);
      assert.deepEqual(statusesOf(lost), [503]);
    });

    test(`PostgreSQL is away for ${seconds(outage)}: keys in memory go on within the bound, others get 503, all is well without a restart`, async (t) => {
      const { token } = await newClient(gateways, key);
      await bothRemember(token);
      const known = watch(gateways, 0, () => token);
      await server.stop();
      const stoppedAt = performance.now();
      const others = watch(gateways, 0, nextUnknown);
      await delay(outage);
      const { status, json } = await gateways.at(0).manage('POST', '', key, {});
      assert.deepEqual([status, json['reason']], [503, 'store_unavailable']);
      const startedAt = performance.now();
      await server.start();
      const isThereAt = performance.now();
      await until('the first decides', async () => (await gateways.at(0).decide(nextUnknown())) === 204, 15_000);
      const decidesAt = performance.now();
      await until('both decide', () => gateways.everybodySays(token, 204), 15_000);
      await newClient(gateways, key);
      await Promise.all([known.stop(), others.stop()]);
      expectNoRestart(gateways);

      const away = between(known.decisions, stoppedAt, startedAt);
      const wentOn = lastOf(away, 204) - stoppedAt;
      const lost = between(others.decisions, stoppedAt, startedAt);
      t.diagnostic(
        `a key in memory was granted for ${seconds(wentOn)}, then 503 within ${seconds(slowestOf(away))}; ` +
          `${lost.length} keys that it did not have in memory: 503 within ${seconds(slowestOf(lost))}; ` +
          `decisions again ${seconds(decidesAt - isThereAt)} after PostgreSQL takes connections`,
      );
      assert.ok(wentOn > bound / 2 && wentOn <= bound + slack, seconds(wentOn));
      assert.deepEqual(statusesOf(away), [204, 503]);
      assert.deepEqual(statusesOf(lost), [503]);
      assert.ok(slowestOf([...away, ...lost]) < patience);
    });
  });

  suite('a primary with a synchronous standby', { concurrency: false }, () => {
    let primary: Postgres;
    let standby: Postgres;
    let database: string;
    let gateways: Gateways;
    let key: string;
    const names = createHostNames();
    before(async () => {
      primary = await startPostgres();
      database = await primary.createDatabase();
      standby = await startPostgres({ standbyOf: primary, address: '127.0.0.2', port: primary.port });
      await primary.sql('postgres', "alter system set synchronous_standby_names = '*'");
      await primary.sql('postgres', 'select pg_reload_conf()');
      await until('the standby is synchronous', async () => {
        const [row] = await primary.sql<{ sync_state: string }>(
          'postgres',
          'select sync_state from pg_stat_replication',
        );
        return row?.sync_state === 'sync';
      });
      names.set('database.test', '127.0.0.1');
      const url = primary.url(database);
      const listed = url.replace(`:${primary.port}/`, `:${primary.port},127.0.0.2:${primary.port}/`);
      gateways = await startGateways([listed, url.replace('127.0.0.1', 'database.test')], names.env);
      key = gateways.at(0).firstKey();
    });
    after(() => gateways.stop());

    test('is asked, and its standby by itself is not, which may be behind', async () => {
      await assert.rejects(openStore(addressOf(standby.url(database))), /it is a standby, .*may be behind/);
    });

    test('dies, and the standby takes over, in a list of hosts and as the new address of a name: nothing acknowledged is lost, and no gateway is restarted', async (t) => {
      const acknowledged: string[] = [];
      const revoked: string[] = [];
      let isOver = false;
      const write = async (index: number) => {
        while (!isOver) {
          const { status, json } = await gateways.at(index).manage('POST', '', key, {});
          if (status !== 201) {
            await delay(20);
            continue;
          }
          const token = json['token'] as string;
          // every third is deleted as well; whether one was that got another answer, nobody knows
          if (acknowledged.length <= revoked.length * 2) acknowledged.push(token);
          else if ((await gateways.at(index).manage('DELETE', `/${String(json['id'])}`, key)).status === 204)
            revoked.push(token);
        }
      };
      const writers = [write(0), write(1)];
      const watches = [0, 1].map((index) => watch(gateways, index, () => key));
      await until('changes are made', () => acknowledged.length > 20, 30_000);
      await primary.stop('immediate');
      const diedAt = performance.now();
      const before = acknowledged.length + revoked.length;
      await standby.sql('postgres', 'select pg_promote()');
      names.set('database.test', '127.0.0.2');
      const promotedAt = performance.now();
      await until('changes are made again', () => acknowledged.length + revoked.length > before + 4, 30_000);
      await until('through both', async () =>
        (await Promise.all([0, 1].map((index) => gateways.at(index).manage('POST', '', key, {})))).every(
          ({ status }) => status === 201,
        ),
      );
      const changesAt = performance.now();
      await until('both decide', () => gateways.everybodySays(key, 204));
      isOver = true;
      await Promise.all([...writers, ...watches.map((one) => one.stop())]);
      expectNoRestart(gateways);

      const refusals = watches.flatMap(({ decisions }) => decisions.filter(({ status }) => status !== 204));
      assert.deepEqual(
        statusesOf(refusals).filter((status) => status !== 503),
        [],
      );
      assert.ok(revoked.length > 5);
      for (const index of [0, 1]) {
        for (const token of acknowledged) assert.equal(await gateways.at(index).decide(token), 204);
        for (const token of revoked) assert.equal(await gateways.at(index).decide(token), 401);
      }
      t.diagnostic(
        `promoted after ${seconds(promotedAt - diedAt)}, changes again ${seconds(changesAt - promotedAt)} later; of a key in memory ` +
          `${refusals.length} decisions failed; ${acknowledged.length} clients and ${revoked.length} deletions were acknowledged, none is lost`,
      );
    });
  });
});
