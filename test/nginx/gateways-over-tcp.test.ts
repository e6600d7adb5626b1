import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { spawnGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { madeUpKey } from '../support/keys.ts';
import { countStatuses, startLoad } from '../support/load.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';
import { freePorts, makeTempDir, root, until } from '../support/stack.ts';

suite('a proxy that asks gateways by host and port', () => {
  const dir = makeTempDir();
  let gateway: GatewayProcess;
  let proxy: Proxy;
  let key: string;
  let addresses: { decision: string; management: string };

  async function start(env: Record<string, string> = {}): Promise<void> {
    gateway = spawnGateway(dir, {
      APIGW_DECISION_LISTEN: addresses.decision,
      APIGW_MANAGEMENT_LISTEN: addresses.management,
      ...env,
    });
    await until('it is ready', () => gateway.output().includes('"msg":"ready"'), 30_000);
  }

  before(async () => {
    const [decision, management] = await freePorts(2);
    addresses = { decision: `127.0.0.1:${decision}`, management: `127.0.0.1:${management}` };
    await start({ API_KEY_CREATE: 'true' });
    key = gateway.firstKey();
    proxy = await startProxy({
      APIGW_DECISION_UPSTREAM: addresses.decision,
      APIGW_MANAGEMENT_UPSTREAM: `localhost:${management}`,
    });
  });
  after(async () => {
    await proxy.stop();
    await stopGateway(gateway);
  });

  test('decides, and manages, as over sockets', async () => {
    const granted = await proxy.ask('/', { key });
    assert.equal(granted.status, 200);
    assert.equal(proxy.application.seen.at(-1)?.headers['x-client-id']?.length, 1);
    const calls = proxy.application.seen.length;
    assert.equal((await proxy.ask('/')).status, 401);
    assert.equal((await proxy.ask('/', { key: madeUpKey(1) })).status, 401);
    assert.equal(proxy.application.seen.length, calls);
    assert.equal((await proxy.ask('/readyz')).status, 200);
    const created = await proxy.manage('POST', key, '', { json: {} });
    assert.equal(created.status, 201);
    assert.equal((await proxy.manage('DELETE', key, `/${String(created.json['id'])}`)).status, 204);
    assert.equal((await proxy.ask('/', { key: created.json['token'] as string })).status, 401);
  });

  test('answers 503 while there is none, and goes on by itself', async () => {
    const load = startLoad(proxy, key, 50);
    await until('the load is there', () => load.samples.length > 20, 30_000);
    await stopGateway(gateway, 'SIGKILL');
    await until('it is missed', () => load.samples.some(({ status }) => status === 503), 30_000);
    await start();
    const answered = load.samples.length;
    await until(
      'it decides',
      () => load.samples.slice(answered).filter(({ status }) => status === 200).length > 20,
      30_000,
    );
    await load.stop();
    assert.deepEqual(Object.keys(countStatuses(load.samples)), ['200', '503']);
  });

  test('says what is wrong with the addresses', () => {
    for (const [decision, management, said] of [
      ['a:1', '', 'APIGW_DECISION_UPSTREAM and APIGW_MANAGEMENT_UPSTREAM go together; one is empty'],
      ['a', 'a:2', 'APIGW_DECISION_UPSTREAM is "a"; allowed: host:port or [address]:port'],
      ['a:1', 'a:2; daemon on', 'APIGW_MANAGEMENT_UPSTREAM is "a:2; daemon on"; allowed: host:port or [address]:port'],
      ['a:1', 'unix:/x', 'APIGW_MANAGEMENT_UPSTREAM is "unix:/x"; allowed: host:port or [address]:port'],
      ['a:1', 'a:65536', 'the port of APIGW_MANAGEMENT_UPSTREAM is "65536"; allowed: a number from 1 to 65535'],
    ] as const) {
      const { status, stderr } = spawnSync('sh', [join(root, 'nginx/stage.sh')], {
        env: {
          PATH: process.env['PATH'],
          APIGW_PREFIX: join(dir, 'prefix'),
          APIGW_DECISION_UPSTREAM: decision,
          APIGW_MANAGEMENT_UPSTREAM: management,
        },
        encoding: 'utf8',
      });
      assert.deepEqual([status, stderr], [1, `proxy: ${said}\n`]);
    }
  });
});
