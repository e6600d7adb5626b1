import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { openTestDatabase } from '../support/database.ts';
import { acceptTokensOf, startProvider, type RealProvider } from '../support/provider.ts';
import { setSettings } from '../support/settings.ts';
import { form, freePorts, startTestStack, until, withoutLimits, type TestStack } from '../support/stack.ts';

/** With plain HTTP, so that the load is one on nginx; and two with the same name that accept something else. */
const servers = (port: number) =>
  ['plain.test', 'admins.test']
    .map(
      (name) => `
server {   # HTTP
  listen 127.0.0.1:${port};
  server_name ${name};
  include snippets/gateway.conf;
  include snippets/decision-cache.conf;
  location / {   # protected
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
  location = /nginx-status {   # public
    auth_request off;
    stub_status;
  }
}
`,
    )
    .join('');

// with several workers there are none, see docs/nginx.md
suite('decisions that nginx keeps', { skip: form === 'workers' }, () => {
  let provider: RealProvider;
  let stack: TestStack;
  let port: number;
  let token: string;
  let expiresAt: number;
  const clients: { id: number; key: string }[] = [];
  /** With a limit, and with a network. */
  const restricted: { id: number; key: string }[] = [];
  /** Of a client of the above, and not asked with so far. */
  const secondKey = { id: 0, key: '' };
  const jwt = { id: 0 };
  const connections = new Agent({ keepAlive: true, maxSockets: 40 });
  const next = () => {
    const client = clients.pop();
    assert.ok(client);
    return client;
  };
  const voucher = (name: string) => join(stack.stack.runDir, 'decision-cache', name);
  const entries = () =>
    (readdirSync(stack.stack.cacheDir, { recursive: true }) as string[])
      .map((file) => join(stack.stack.cacheDir, file))
      .filter((file) => statSync(file).isFile());

  before(async () => {
    const [issuerPort, plainPort] = await freePorts(2);
    port = plainPort;
    provider = await startProvider(issuerPort, ['abc123']);
    stack = await startTestStack({
      editLimits: withoutLimits,
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) =>
        setSettings(conf, acceptTokensOf(provider, 'ES256')).replace(
          /(map \$server_name \$require_admin[^}]*)\}/,
          '$1 admins.test on; }',
        ) + servers(port),
    });
    for (let index = 0; index < 16; index++) {
      const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name: `client ${index}` } });
      clients.push({ id: json['id'] as number, key: `apk ${json['token'] as string}` });
    }
    // the first one's keys end soon
    const [, second] = clients;
    assert.ok(second);
    const more = await stack.manage('POST', stack.adminKey, `/${second.id}/keys`, { json: {} });
    Object.assign(secondKey, { id: second.id, key: `apk ${more.json['token'] as string}` });
    for (const restriction of [{ rate_limit: '60/h' }, { allowed_cidrs: ['127.0.0.0/8'] }]) {
      const { json } = await stack.manage('POST', stack.adminKey, '', { json: restriction });
      restricted.push({ id: json['id'] as number, key: `apk ${json['token'] as string}` });
    }
    const { json } = await stack.manage('POST', stack.adminKey, '', {
      json: { name: 'by token', api_client_id: 'abc123', generate_api_key: false },
    });
    jwt.id = json['id'] as number;
    token = `Bearer ${await provider.token('ES256')}`;
    const database = openTestDatabase(stack.stateDir);
    expiresAt = Date.now() + 16_000;
    await database('api_keys').where({ client_id: clients[0]?.id }).update({ expires_at: expiresAt });
    await database.destroy();
    await until('everybody has a voucher', vouched, 20_000);
  });
  after(async () => {
    connections.destroy();
    await stack.stop();
    await provider.stop();
  });

  async function vouched(): Promise<boolean> {
    for (const { key } of clients) await ask(key);
    await ask(token);
    return clients.every(({ id }) => existsSync(voucher(`client-${id}`))) && existsSync(voucher('tokens'));
  }

  function ask(authorization: string, host = 'plain.test'): Promise<number> {
    return new Promise((resolve, reject) => {
      const headers = { Host: host, Authorization: authorization };
      const call = request({ host: '127.0.0.1', port, path: '/', agent: connections, headers }, (response) => {
        response.resume().on('end', () => {
          resolve(response.statusCode ?? 0);
        });
      });
      call.on('error', reject);
      call.end();
    });
  }

  /** nginx's own count: requests whose head has been read, and that are not answered. */
  async function requestsUnderWay(): Promise<number> {
    const status = await fetch(`http://127.0.0.1:${port}/nginx-status`);
    return Number(/Writing: ([0-9]+)/.exec(await status.text())?.[1]);
  }

  /** What is answered while the gateway answers nothing. */
  async function whileStopped<T>(act: () => Promise<T>): Promise<T> {
    process.kill(stack.stack.gateway.pid ?? 0, 'SIGSTOP');
    try {
      return await act();
    } finally {
      process.kill(stack.stack.gateway.pid ?? 0, 'SIGCONT');
    }
  }

  /** Asks on many connections at once, again and again; counts grants of requests that began after the acknowledgement. */
  async function grantedAfter(key: string, revoke: () => Promise<unknown>, wanted = 3_500) {
    let acknowledgedAt = Infinity;
    const counts = { before: 0, after: 0, granted: 0 };
    const askAll = async () => {
      while (counts.after < wanted) {
        const startedAt = performance.now();
        const status = await ask(key);
        if (startedAt < acknowledgedAt) counts.before++;
        else counts.after++;
        if (startedAt > acknowledgedAt && status === 200) counts.granted++;
      }
    };
    const load = Promise.all(Array.from({ length: 30 }, askAll));
    await until('the load is there', () => counts.before > 300);
    await revoke();
    acknowledgedAt = performance.now();
    await load;
    return counts;
  }

  /** Replaces nginx's workers by some with another snippet, which no check would let through. */
  async function useSnippet(text: string): Promise<void> {
    const pid = stack.stack.nginx.pid ?? 0;
    const children = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    const old = children();
    writeFileSync(join(stack.stack.runDir, 'nginx/current/snippets/decision-cache.conf'), text);
    process.kill(pid, 'SIGHUP');
    await until('nginx has other workers', () => children().every((child) => !old.includes(child)));
    // those that the old workers have closed, and that nobody here has noticed yet
    connections.destroy();
  }

  test('answer for a hot credential, with the same identity, without the gateway', async () => {
    const { key } = next();
    await ask(key);
    await ask(key);
    const identity = () => {
      const { headers } = stack.application.seen.at(-1) ?? {};
      return ['x-client-id', 'x-client-name', 'x-auth-method', 'authorization'].map((name) => headers?.[name]);
    };
    const asked = identity();
    const kept = await whileStopped(async () => [await ask(key), await ask(key), await ask(key)]);
    assert.deepEqual(kept, [200, 200, 200]);
    assert.deepEqual(identity(), asked);
  });

  test('are in a directory of nginx alone', () => {
    assert.equal(statSync(stack.stack.cacheDir).mode & 0o777, 0o700);
    assert.ok(entries().length > 0);
    for (const file of entries()) assert.equal(statSync(file).mode & 0o077, 0, file);
  });

  test('are not those of a server that accepts something else', async () => {
    const { key } = next();
    for (let index = 0; index < 3; index++) {
      assert.deepEqual([await ask(key), await ask(key, 'admins.test')], [200, 403]);
    }
  });

  test('are of exactly one form of a credential', async () => {
    const { key } = next();
    for (const form of [key.replace(' ', '  '), `${key} `.trim().replace('apk ', 'APK   ')]) {
      assert.deepEqual([await ask(form), await ask(form)], [200, 200]);
    }
    assert.ok(!entries().some((file) => /apk {2}/i.test(readFileSync(file, 'latin1'))));
  });

  test('end with the key', async () => {
    const { key } = clients.shift() ?? next();
    let last = 0;
    for (let now = Date.now(); now < expiresAt + 1_500; now = Date.now()) {
      const status = await ask(key);
      if (status === 200) last = now;
      await delay(5);
    }
    assert.ok(last > expiresAt - 1_000, `the last grant was ${expiresAt - last} ms before the end`);
    assert.ok(last < expiresAt, `${last - expiresAt} ms after the end`);
  });

  test('are none of a client with limits or a network: each of its requests is decided on', async () => {
    // made with the others, which have vouchers by now
    const [limited, local] = restricted as [(typeof restricted)[0], (typeof restricted)[0]];
    for (const { id, key } of restricted) {
      assert.deepEqual([await ask(key), await ask(key)], [200, 200]);
      assert.equal(existsSync(voucher(`client-${id}`)), false);
    }
    const statuses = await Promise.all(Array.from({ length: 70 }, () => ask(limited.key)));
    assert.equal(statuses.filter((status) => status === 429).length, 12);
    assert.equal(await ask(local.key), 200);
  });

  test('are no refusals: a client that is enabled again is let in at once', async () => {
    const { id, key } = next();
    await stack.manage('PUT', stack.adminKey, `/${id}`, { json: { enabled: false } });
    assert.deepEqual([await ask(key), await ask(key)], [403, 403]);
    await stack.manage('PUT', stack.adminKey, `/${id}`, { json: { enabled: true } });
    assert.equal(await ask(key), 200);
  });

  test('are used for nobody whose change is acknowledged, under load', async () => {
    const [deleted, disabled, rotated] = [next(), next(), next()];
    const put = (id: number) => stack.manage('PUT', stack.adminKey, `/${id}`, { json: { enabled: false } });
    assert.ok([deleted, disabled, rotated].every(({ id }) => existsSync(voucher(`client-${id}`))));
    const results = [
      await grantedAfter(deleted.key, () => stack.manage('DELETE', stack.adminKey, `/${deleted.id}`)),
      await grantedAfter(disabled.key, () => put(disabled.id)),
      await grantedAfter(rotated.key, () =>
        stack.manage('POST', stack.adminKey, `/${rotated.id}/rotate`, { json: { overlap: 0 } }),
      ),
    ];
    await until(
      'the tokens have a voucher',
      async () => (await ask(token)) === 200 && existsSync(voucher('tokens')),
      15_000,
    );
    results.push(await grantedAfter(token, () => put(jwt.id)));
    assert.deepEqual(
      results.map(({ granted }) => granted),
      [0, 0, 0, 0],
    );
    assert.ok(results.reduce((sum, counts) => sum + counts.after, 0) >= 10_000);
  });

  test('of a question that is under way while the client is deleted count for nothing', async () => {
    // the client has a voucher, and nothing is kept for this key of it yet
    const { id, key } = secondKey;
    assert.ok(existsSync(voucher(`client-${id}`)));
    let deletion: Promise<unknown> = Promise.resolve();
    let questions: Promise<number>[] = [];
    await whileStopped(async () => {
      questions = Array.from({ length: 10 }, () => ask(key));
      deletion = stack.manage('DELETE', stack.adminKey, `/${id}`);
      // they and this question itself; nginx has handed them on in the same turn
      await until('all of them wait for the gateway', async () => (await requestsUnderWay()) >= 10 + 1 + 1);
    });
    await Promise.all([deletion, ...questions]);
    for (let index = 0; index < 100; index++) assert.equal(await ask(key), 401);
  });

  test('would let a deleted client through without vouchers, so that the tests above can fail', async () => {
    const snippet = join(stack.stack.runDir, 'nginx/current/snippets/decision-cache.conf');
    const shipped = readFileSync(snippet, 'utf8');
    const { id, key } = next();
    assert.ok(existsSync(voucher(`client-${id}`)));
    await useSnippet(
      shipped.replace(/set \$decision_cache_voucher absent;[^]*/, 'set $decision_cache_voucher present;'),
    );
    try {
      const { granted } = await grantedAfter(key, () => stack.manage('DELETE', stack.adminKey, `/${id}`), 1_000);
      assert.ok(granted > 0);
      process.stdout.write(`granted after the acknowledgement without vouchers: ${granted}\n`);
    } finally {
      await useSnippet(shipped);
    }
  });

  test('go on as the database says when the gateway is killed while clients are deleted', async () => {
    const doomed = [next(), next(), next(), next()];
    for (const { key } of doomed) await ask(key);
    const acknowledged = new Set<number>();
    const deletions = doomed.map(async ({ id }, index) => {
      await delay(index * 8);
      const { status } = await stack.manage('DELETE', stack.adminKey, `/${id}`);
      if (status === 204 || status === 200) acknowledged.add(id);
    });
    await delay(20);
    process.kill(stack.stack.gateway.pid ?? 0, 'SIGKILL');
    await Promise.all(deletions);
    for (const { id, key } of doomed) if (acknowledged.has(id)) assert.notEqual(await ask(key), 200);
    await until('it is back', async () => (await stack.manage('GET', stack.adminKey)).status === 200);
    for (const { id, key } of doomed) {
      const { status } = await stack.manage('GET', stack.adminKey, `/${id}`);
      assert.ok(status === 200 || status === 404);
      assert.equal(await ask(key), status === 200 ? 200 : 401);
    }
  });

  test('need a voucher: with none to be had everything is asked, and a client is revoked at once', async () => {
    const directory = join(stack.stack.runDir, 'decision-cache');
    rmSync(directory, { recursive: true, force: true });
    writeFileSync(directory, 'in the way');
    const { id, key } = next();
    assert.equal(await ask(key), 200);
    const { granted } = await grantedAfter(key, () => stack.manage('DELETE', stack.adminKey, `/${id}`), 300);
    assert.equal(granted, 0);
  });
});
