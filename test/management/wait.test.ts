import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { runCli } from '../support/cli.ts';
import { changesFollowed, startGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { sharedPostgres } from '../support/postgres.ts';
import { makeTempDir, until } from '../support/stack.ts';

type Json = Record<string, unknown>;

interface Listed {
  readonly gateway: string;
  readonly applied_revision: number;
  readonly last_seen_at: string;
}

interface Waited {
  readonly revision: number;
  readonly pending: readonly Listed[];
}

/** Of a folder with its database, or of another database; the first makes the tables and the key. */
async function startAll(count: number, env: Record<string, string> = {}): Promise<Gateways> {
  const dir = makeTempDir();
  const first = await startGateway(dir, { ...env, API_KEY_CREATE: 'true' }, 'g1');
  const others = await Promise.all(
    Array.from({ length: count - 1 }, (_, index) => startGateway(dir, env, `g${index + 2}`)),
  );
  const { json } = await first.manage('POST', '', first.firstKey(), { is_admin: true });
  const key = json['token'] as string;
  const newClient = async () => {
    const made = (await first.manage('POST', '', key, { generate_api_key: true })).json;
    return { id: made['id'] as number, token: made['token'] as string };
  };
  return {
    env: { DATABASE_URL: `sqlite:${join(dir, 'apigw.db')}`, ...env },
    first,
    others,
    key,
    newClient,
    async rememberedClient() {
      const client = await newClient();
      for (const gateway of [first, ...others]) {
        await until('it is known', async () => (await gateway.decide(client.token)) === 204);
        await statuses(gateway, client.token);
      }
      return client;
    },
    list: async () => {
      const answer = await first.call('GET', '/gateways', key);
      assert.equal(answer.status, 200);
      return answer.json['gateways'] as Listed[];
    },
    followed: () => changesFollowed(first, key),
    stop: async () => {
      await Promise.all([...others, first].map((gateway) => stopGateway(gateway)));
    },
  };
}

interface Gateways {
  /** Of the command line. */
  readonly env: Readonly<Record<string, string>>;
  readonly first: GatewayProcess;
  readonly others: readonly GatewayProcess[];
  readonly key: string;
  readonly newClient: () => Promise<{ readonly id: number; readonly token: string }>;
  /** That all have in memory. */
  readonly rememberedClient: Gateways['newClient'];
  readonly list: () => Promise<readonly Listed[]>;
  /** Resolves to the revision that all have followed. */
  readonly followed: () => Promise<number>;
  readonly stop: () => Promise<void>;
}

/** Many at once, so that every worker is asked. */
const statuses = async ({ decide }: GatewayProcess, token: string) =>
  new Set(await Promise.all(Array.from({ length: 8 }, () => decide(token))));

const onSqlite = 'two gateways on one SQLite file';
const kinds: Record<string, () => Promise<readonly [count: number, env: Record<string, string>]>> = {
  [onSqlite]: () => Promise.resolve([2, {}]),
  'three gateways on one PostgreSQL': async () => {
    const server = await sharedPostgres();
    return [3, { DATABASE_URL: server.url(await server.createDatabase()) }];
  },
};

/** Tests one after the other: else they would inherit it. */
const inTurn = { concurrency: 1 };

function whenOneIsStopped(getAll: () => Gateways): void {
  suite('a gateway that is stopped in its tracks', inTurn, () => {
    let all: Gateways;
    let behind: GatewayProcess;
    let name: string;
    before(async () => {
      all = getAll();
      [behind] = all.others as [GatewayProcess];
      name = (await all.list()).map(({ gateway }) => gateway).find((one) => one.endsWith(`/${behind.child.pid}`)) ?? '';
      assert.notEqual(name, '');
    });
    after(() => {
      behind.child.kill('SIGCONT');
    });
    const isNamed = (json: Json, appliedBefore: number) => {
      const { pending, revision } = json['propagation'] as Waited;
      assert.deepEqual(
        pending.map(({ gateway }) => gateway),
        [name],
      );
      assert.ok((pending[0]?.applied_revision ?? Infinity) < revision);
      assert.ok(revision > appliedBefore);
    };

    test('is named by 202 in time, with everything that the answer has otherwise; and no more when it is dead', async (t) => {
      const { first, key } = all;
      const doomed = await Promise.all(Array.from({ length: 8 }, all.newClient));
      const next = () => doomed.pop()?.id ?? assert.fail();
      // nothing is left to be written by it: on SQLite whoever is stopped in a write keeps all others from writing
      const applied = await all.followed();
      behind.child.kill('SIGSTOP');
      const stoppedAt = performance.now();

      const deleted = await first.manage('DELETE', `/${next()}?wait=1s`, key);
      assert.ok(performance.now() - stoppedAt < 2_500);
      assert.equal(deleted.status, 202);
      assert.deepEqual(Object.keys(deleted.json), ['propagation']);
      isNamed(deleted.json, applied);

      const rotated = await first.manage('POST', `/${next()}/rotate?wait=0`, key);
      assert.equal(rotated.status, 202);
      assert.equal(await first.decide(rotated.json['token'] as string), 204, 'its key counts');
      isNamed(rotated.json, applied);
      const made = await first.manage('POST', '?wait=0', key, {});
      assert.deepEqual([made.status, await first.decide(made.json['token'] as string)], [202, 204]);
      const changed = await first.manage('PUT', `/${next()}?wait=0`, key, { name: 'changed' });
      assert.deepEqual([changed.status, changed.json['name']], [202, 'changed']);

      const cli = await runCli(['clients', 'rotate', String(next()), '--wait', '0'], { env: all.env });
      assert.equal(cli.exitCode, 6, cli.stderr);
      assert.equal(await first.decide(cli.stdout.trim()), 204, 'standard output has the key and nothing else');
      assert.match(cli.stderr, new RegExp(`^not followed yet by ${name}: `, 'm'));
      // without wait nobody is waited for
      assert.equal((await first.manage('DELETE', `/${next()}`, key)).status, 204);

      await until('it is taken for dead', async () => (await all.list()).length === 1, 30_000);
      t.diagnostic(`taken for dead after ${((performance.now() - stoppedAt) / 1_000).toFixed(1)} s`);
      assert.ok(performance.now() - stoppedAt > 6_000, 'not before it has forgotten what it knew');
      assert.equal((await first.manage('DELETE', `/${next()}?wait=1s`, key)).status, 204);
    });

    test('comes back by itself, refuses what it has missed, and is waited for again', async () => {
      const { first, key } = all;
      behind.child.kill('SIGCONT');
      await until('it is there', async () => (await all.list()).length === 2, 20_000);
      const { id, token } = await all.rememberedClient();
      const cli = await runCli(['clients', 'delete', String(id), '--yes', '--wait', '2s'], { env: all.env });
      assert.equal(cli.exitCode, 0, cli.stderr);
      assert.equal(await behind.decide(token), 401);
      assert.equal(await first.decide(token), 401);
      await stopGateway(behind);
      assert.deepEqual((await all.list()).length, 1, 'who stops in order leaves the list');
      const other = await all.newClient();
      assert.equal((await first.manage('DELETE', `/${other.id}?wait=1s`, key)).status, 204);
    });

    test('a wait that is none is refused, and nothing is done', async () => {
      const { first, key } = all;
      const { id } = await all.newClient();
      for (const wait of ['4s', '1m', '-1', '1.5s', 'soon', '', '2s&wait=2s']) {
        for (const [method, path, body] of [
          ['DELETE', `/${id}`, undefined],
          ['PUT', `/${id}`, { name: 'changed' }],
          ['POST', '', {}],
          ['POST', `/${id}/keys`, {}],
          ['POST', `/${id}/rotate`, {}],
        ] as const) {
          const { status, json } = await first.manage(method, `${path}?wait=${wait}`, key, body);
          assert.deepEqual([status, json['reason']], [400, 'invalid_parameter'], `${method} ${path} ${wait}`);
        }
      }
      const { json } = await first.manage('GET', `/${id}/keys`, key);
      assert.equal((json as unknown as Json[]).length, 1);
      assert.notEqual((await first.manage('GET', `/${id}`, key)).json['name'], 'changed');
      const cli = await runCli(['clients', 'delete', '1', '--yes', '--wait', '9s'], {});
      assert.equal(cli.exitCode, 2);
    });
  });
}

// one of them waits for a gateway to be taken for dead
suite('?wait', { concurrency: 2 }, () => {
  for (const [kind, prepare] of Object.entries(kinds))
    suite(`with ${kind}`, inTurn, () => {
      let all: Gateways;
      let processes: number;
      before(async () => {
        const [count, env] = await prepare();
        processes = count;
        all = await startAll(count, env);
      });
      after(() => all.stop());

      test('answers when every gateway refuses what was deleted, disabled, rotated or declared otherwise', async (t) => {
        const { first, others, key } = all;
        const changes: Record<string, (id: number) => Promise<readonly [number, number]>> = {
          DELETE: async (id) => [(await first.manage('DELETE', `/${id}?wait=2s`, key)).status, 204],
          PUT: async (id) => [(await first.manage('PUT', `/${id}?wait=2s`, key, { enabled: false })).status, 200],
          rotate: async (id) => [
            (await first.manage('POST', `/${id}/rotate?wait=2s`, key, { overlap: 0 })).status,
            201,
          ],
          'DELETE of the key': async (id) => {
            const [made] = (await first.manage('GET', `/${id}/keys`, key)).json as unknown as [Json];
            return [(await first.manage('DELETE', `/${id}/keys/${String(made['id'])}?wait=2s`, key)).status, 204];
          },
          apply: async (id) => {
            const { api_client_id: name } = (await first.manage('GET', `/${id}`, key)).json;
            const document = { version: 1, clients: [{ api_client_id: name, enabled: false }] };
            return [(await first.call('POST', '/apply?wait=2s', key, document)).status, 200];
          },
        };
        const times: number[] = [];
        for (const [what, change] of Object.entries(changes)) {
          const { id, token } = await all.rememberedClient();
          const startedAt = performance.now();
          const [status, expected] = await change(id);
          times.push(performance.now() - startedAt);
          assert.equal(status, expected, what);
          for (const gateway of others)
            assert.ok(!(await statuses(gateway, token)).has(204), `${what}: granted by another one after the answer`);
        }
        t.diagnostic(`waited for ${times.map((time) => time.toFixed(0)).join(', ')} ms`);
      });

      test('is told which gateways there are: each process, at the revision of the database', async () => {
        await until('all are there', async () => {
          const { json } = await all.first.call('GET', '/gateways', all.key);
          const gateways = json['gateways'] as Listed[];
          return gateways.length === processes && gateways.every((one) => one.applied_revision === json['revision']);
        });
        assert.equal(new Set((await all.list()).map(({ gateway }) => gateway)).size, processes);
      });

      test('makes no revision and no event besides the change', async () => {
        const { first, key } = all;
        const revision = async () => (await first.call('GET', '/gateways', key)).json['revision'] as number;
        const { id } = await all.newClient();
        const earlier = await revision();
        assert.equal((await first.manage('PUT', `/${id}?wait=2s`, key, { name: 'x' })).status, 200);
        assert.equal(await revision(), earlier + 1);
        const events = (await first.call('GET', `/audit-events?client_id=${id}`, key)).json as unknown as Json[];
        assert.deepEqual(
          events.map(({ action }) => action),
          ['api_client.update', 'api_client.create'],
        );
      });

      // the last, because in it one of the two comes to its end
      if (kind === onSqlite) whenOneIsStopped(() => all);
    });
  suite('with a gateway of two workers', inTurn, () => {
    let all: Gateways;
    before(async () => {
      all = await startAll(1, { APIGW_WORKERS: '2' });
    });
    after(() => all.stop());

    test('the command line, on the same database, ends when both refuse', async () => {
      assert.equal((await all.list()).length, 2);
      for (let round = 0; round < 2; round++) {
        const { id, token } = await all.rememberedClient();
        const cli = await runCli(['clients', 'disable', String(id), '--wait', '3s'], { env: all.env });
        assert.equal(cli.exitCode, 0, cli.stderr);
        assert.deepEqual(await statuses(all.first, token), new Set([403]));
      }
      const { id, token } = await all.rememberedClient();
      assert.equal((await all.first.manage('DELETE', `/${id}?wait=2s`, all.key)).status, 204);
      assert.deepEqual(await statuses(all.first, token), new Set([401]));
    });
  });
});
