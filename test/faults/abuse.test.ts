import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect as connectHttp2, type ClientHttp2Session, type IncomingHttpHeaders } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test, type TestContext } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { memoryOfTrees } from '../../bench/proc.ts';
import { compare, sendLoad, wrongKeys, type Comparison } from '../support/wrk.ts';
import { acceptTokensOf, startProvider, type RealProvider } from '../support/provider.ts';
import { setSettings } from '../support/settings.ts';
import { freePorts, startTestStack, until, type TestStack } from '../support/stack.ts';

/** Megabytes that all of nginx, and the gateway, may take under any of this. */
const bounds = { nginx: 256, gateway: 300 };

/** Three times, or so many milliseconds more: a base of 2 ms would make a bound of what else the machine does. */
function expectWithin({ base, attacked }: Comparison, floor = 15): void {
  assert.equal(attacked.refused + attacked.broken, 0, 'every request of the good client is answered with 200');
  assert.ok(attacked.p99 <= Math.max(3 * base.p99, base.p99 + floor), `p99 ${base.p99} ms became ${attacked.p99} ms`);
}

function say(t: TestContext, what: string, { base, attacked, attack }: Comparison): void {
  t.diagnostic(
    `${what}: ${attack.perSecond}/s answered; p99 ${base.p99.toFixed(1)} -> ${attacked.p99.toFixed(1)} ms, ` +
      `p50 ${base.p50.toFixed(1)} -> ${attacked.p50.toFixed(1)} ms`,
  );
}

suite('abuse', () => {
  let stack: TestStack;
  let provider: RealProvider;
  let key: string;
  before(async () => {
    const [port] = await freePorts(1);
    provider = await startProvider(port ?? 0, ['abc123']);
    stack = await startTestStack({
      edit: (conf) => setSettings(conf, acceptTokensOf(provider, 'ES256')),
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
    });
    key = (await stack.manage('POST', stack.adminKey, '', { json: { name: 'valid' } })).json['token'] as string;
    await stack.manage('POST', stack.adminKey, '', { json: { api_client_id: 'abc123', generate_api_key: false } });
    // nobody's first request is measured
    await sendLoad({ ...client(), connections: 4, pause: 5, seconds: 1 });
  });
  after(async () => {
    await stack.stop();
    await provider.stop();
  });

  const client = () => ({ url: stack.url, credentials: [`apk ${key}`] });
  const memory = () => ({
    nginx: Math.round(memoryOfTrees([stack.stack.nginx.pid ?? 0]) / 1e6),
    gateway: Math.round(memoryOfTrees([stack.stack.gateway.pid ?? 0]) / 1e6),
  });
  function expectBoundedMemory(t: TestContext): void {
    const { nginx, gateway } = memory();
    t.diagnostic(`memory: nginx ${nginx} MB, gateway ${gateway} MB`);
    assert.ok(nginx <= bounds.nginx && gateway <= bounds.gateway, `nginx ${nginx} MB, gateway ${gateway} MB`);
  }

  test('a flood of distinct wrong keys from one address: it is slowed down, and others do not notice', async (t) => {
    const found = await compare(client(), (round, seconds) =>
      sendLoad({
        url: stack.url,
        credentials: wrongKeys(20_000, 1_000_000 * (round + 1)),
        ...{ connections: 100, pause: 1, seconds, isNice: true },
      }),
    );
    say(t, 'wrong keys, 100 connections without a pause', found);
    expectWithin(found);
    expectBoundedMemory(t);
    assert.ok(found.attack.perSecond < 500, `${found.attack.perSecond} answers a second`);
  });

  test('a flood of tokens with unknown key ids: others do not notice', async (t) => {
    const token = await provider.token('ES256');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const [, payload = ''] = token.split('.');
    const made = Array.from({ length: 5_000 }, (_, index) => {
      const header = Buffer.from(JSON.stringify({ alg: 'ES256', typ: 'at+jwt', kid: `made-up-${index}` }));
      const text = `${header.toString('base64url')}.${payload}`;
      const signature = sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' });
      return `Bearer ${text}.${signature.toString('base64url')}`;
    });
    assert.equal((await stack.ask('/', { headers: { Authorization: made[0] ?? '' } })).status, 401);
    const found = await compare({ url: stack.url, credentials: [`Bearer ${token}`] }, (_, seconds) =>
      sendLoad({ url: stack.url, credentials: made, connections: 100, pause: 1, seconds, isNice: true }),
    );
    say(t, 'unknown key ids', found);
    expectWithin(found);
    expectBoundedMemory(t);
  });

  test('whoever fails too often is answered 429 with Retry-After; a good credential of that address is let in', async (t) => {
    const localAddress = '127.0.0.71';
    const answers = await Promise.all(Array.from({ length: 900 }, () => stack.ask('/', { localAddress })));
    const refused = answers.filter(({ status }) => status === 429);
    t.diagnostic(`of 900 at once ${refused.length} are answered with 429, the others with 401`);
    assert.ok(refused.length > 0 && answers.every(({ status }) => status === 429 || status === 401));
    const [{ json, headers } = assert.fail()] = refused;
    assert.deepEqual([json['reason'], json['status'], headers['retry-after']], ['too_many_failures', 429, '2']);
    assert.equal((await stack.ask('/', { localAddress, key })).status, 200);
    assert.equal((await stack.ask('/', { localAddress: '127.0.0.72' })).status, 401);
    const line = stack.accessLog().find((one) => one['status'] === 429);
    assert.equal(line?.['auth_reason'], 'too_many_failures');
  });

  test('calls of the management API are limited by address: later at first, then 429 with Retry-After', async (t) => {
    const path = '/v1/management/api-clients/1';
    const sessions = Array.from({ length: 8 }, () => connectHttp2(stack.url, { rejectUnauthorized: false }));
    const call = (session: ClientHttp2Session) =>
      new Promise<IncomingHttpHeaders>((resolve, reject) => {
        const request = session.request({ ':path': path });
        request.on('response', resolve);
        request.on('error', reject);
        request.resume();
      });
    const answers = await Promise.all(sessions.flatMap((session) => Array.from({ length: 120 }, () => call(session))));
    for (const session of sessions) session.close();
    const refused = answers.filter((headers) => Number(headers[':status']) === 429);
    t.diagnostic(`of ${answers.length} at once ${refused.length} are answered with 429, the others with 401`);
    assert.ok(refused.length > 0 && refused.length < answers.length);
    assert.equal(refused[0]?.['retry-after'], '2');
    await until('the address may ask again', async () => (await stack.ask(path)).status === 401);
    // a script that waits for its answers, a hundred at once even, is not
    const script = async () => {
      for (let call = 0; call < 5; call++)
        assert.equal((await stack.manage('GET', stack.adminKey, '/1', { localAddress: '127.0.0.74' })).status, 200);
    };
    await Promise.all(Array.from({ length: 100 }, script));
  });

  test('ten thousand connections that say nothing', async (t) => {
    const files = Number(/^Max open files +\d+ +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
    const count = Math.min(10_000, files - 2_000);
    const sockets: Socket[] = [];
    let closed = 0;
    for (let index = 0; index < count; index++) {
      // a range of ports each
      const socket = connect({ port: stack.httpsPort, host: '127.0.0.1', localAddress: `127.0.1.${1 + (index % 4)}` });
      socket.on('error', () => undefined);
      socket.once('close', () => closed++);
      sockets.push(socket);
      if (index % 500 === 499)
        await until('they are connected', () => sockets.every((one) => one.destroyed || !one.connecting));
    }
    const load = await sendLoad({ ...client(), connections: 4, pause: 20, seconds: 2 });
    t.diagnostic(`${count - closed} of ${count} are open; p99 ${load.p99.toFixed(1)} ms`);
    assert.equal(load.refused + load.broken, 0);
    assert.equal((await stack.ask('/', { key })).status, 200);
    expectBoundedMemory(t);
    await until('nginx has closed them', () => closed === count, 25_000);
  });

  test('five hundred that send their head or their body byte by byte', async (t) => {
    const heads = [
      'GET / HTTP/1.1\r\nHost: localhost\r\nX-',
      `POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: apk `,
    ];
    const sockets = Array.from({ length: 500 }, (_, index) => {
      const options = {
        host: '127.0.0.1',
        port: stack.httpsPort,
        rejectUnauthorized: false,
        ALPNProtocols: ['http/1.1'],
      };
      const socket = connectTls(options);
      socket.on('error', () => undefined);
      socket.resume();
      socket.write(index % 2 === 0 ? (heads[0] ?? '') : `${heads[1] ?? ''}${key}\r\nContent-Length: 100000\r\n\r\nx`);
      return socket;
    });
    const dripping = setInterval(() => {
      for (const socket of sockets) if (socket.writable) socket.write('x');
    }, 500);
    try {
      await until('the bodies have begun', () => stack.application.openRequests() >= 200);
      const load = await sendLoad({ ...client(), connections: 4, pause: 20, seconds: 2 });
      t.diagnostic(`p99 ${load.p99.toFixed(1)} ms`);
      assert.equal(load.refused + load.broken, 0);
      expectBoundedMemory(t);
    } finally {
      clearInterval(dripping);
      for (const socket of sockets) socket.destroy();
    }
  });

  test('three hundred headers pass to the application, and headers beyond 64 KB are refused', async () => {
    const many = (value: string) =>
      Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`X-Header-${index}`, value]));
    const passed = await stack.ask('/', { key, headers: many('value') });
    assert.equal(passed.status, 200);
    assert.equal(
      Object.keys(passed.json['headers'] as object).filter((name) => name.startsWith('x-header-')).length,
      300,
    );
    assert.equal((await stack.ask('/', { headers: many('value') })).status, 401);
    const refused = await stack.ask('/', { key, headers: many('x'.repeat(300)) });
    assert.deepEqual([refused.status, refused.json['reason']], [431, 'headers_too_large']);
  });

  test('an upload of 64 MB without a credential is refused before its body is read, and nothing is written', async (t) => {
    const temp = join(stack.stack.runDir, 'nginx/temp/client_body');
    const files = () => (existsSync(temp) ? readdirSync(temp, { recursive: true }).length : 0);
    let most = 0;
    const watching = setInterval(() => (most = Math.max(most, files())), 5);
    const size = 64 * 1024 * 1024;
    const chunk = Buffer.alloc(64 * 1024, 'x');
    const sent = await new Promise<{ bytes: number; answer: string }>((resolve) => {
      const socket = connectTls({ host: '127.0.0.1', port: stack.httpsPort, rejectUnauthorized: false });
      let answer = '';
      let bytes = 0;
      const push = () => {
        while (bytes < size && !socket.destroyed && answer === '') {
          bytes += chunk.length;
          if (!socket.write(chunk)) return;
        }
      };
      socket.on('drain', push);
      socket.on('error', () => undefined);
      socket.on('data', (data: Buffer) => {
        answer += data.toString();
        socket.end();
      });
      socket.on('close', () => {
        resolve({ bytes, answer });
      });
      socket.once('secureConnect', () => {
        socket.write(`POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${size}\r\n\r\n`);
        push();
      });
    });
    clearInterval(watching);
    t.diagnostic(`answered when ${(sent.bytes / 1e6).toFixed(1)} MB of ${(size / 1e6).toFixed(1)} were on their way`);
    assert.match(sent.answer, /^HTTP\/1\.1 401 /);
    assert.ok(sent.bytes < size, 'before the whole of it was there');
    assert.deepEqual([most, files()], [0, 0]);
    expectBoundedMemory(t);
  });
});

test('a flood that no limit slows down: every good request is answered, and the log is bounded', async (t) => {
  const stack = await startTestStack({ editLimits: (conf) => conf.replace('default 1;', 'default 0;') });
  try {
    const made = await stack.manage('POST', stack.adminKey, '', { json: { name: 'valid' } });
    const client = { url: stack.url, credentials: [`apk ${made.json['token'] as string}`] };
    await sendLoad({ ...client, connections: 4, pause: 5, seconds: 1 });
    const found = await compare(
      client,
      (_, seconds) =>
        sendLoad({
          url: stack.url,
          credentials: wrongKeys(60_000, 5_000_000),
          ...{ connections: 100, pause: 1, seconds },
        }),
      { rounds: 1 },
    );
    say(t, 'wrong keys without a limit', found);
    assert.equal(found.attacked.refused + found.attacked.broken, 0);
    const gateway = memoryOfTrees([stack.stack.gateway.pid ?? 0]) / 1e6;
    t.diagnostic(`memory: gateway ${gateway.toFixed(0)} MB`);
    assert.ok(gateway <= bounds.gateway);
    await until('the log says how many are not in it', () => stack.output().includes('"left_out":'));
    const lines = stack.output().match(/"msg":"denied"/g)?.length ?? 0;
    t.diagnostic(`${found.attack.refused} refusals, ${lines} lines of the log`);
    assert.ok(lines <= 100 * 8, `${lines} lines`);
  } finally {
    await stack.stop();
  }
});
