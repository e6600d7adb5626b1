import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test, type TestContext } from 'node:test';
import { WebSocket } from 'ws';
import { startGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { countStatuses, spanOf, startLoad, type Load } from '../support/load.ts';
import { startProxy, type Proxy } from '../support/proxy.ts';
import { form, makeTempDir, startTestStack, until, type TestStack } from '../support/stack.ts';

/** The longest time in milliseconds that a client waits for its refusal. */
const patience = 5_000;
const isAlone = form !== 'workers';
const ms = (duration: number) => `${Math.round(duration)} ms`;

/** Resolves once the loop no longer turns; it does so again after these milliseconds. */
async function blockEventLoop(inspector: string, milliseconds: number): Promise<void> {
  const socket = new WebSocket(inspector);
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  const started = new Promise((resolve) => socket.once('message', resolve));
  const expression = `setImmediate(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${milliseconds});
  })`;
  socket.send(JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression } }));
  await started;
  socket.on('error', () => undefined);
  socket.close();
}

const isGranted = ({ status }: { status: number }) => status === 200;

/** What stands in for the gateway: what it says, and whether it closes then. */
interface Impostor {
  readonly says: string | ((socket: Socket) => void);
  readonly stays?: true;
  /** What the client gets, when that is not 503. */
  readonly status?: number;
}

const noContent = 'HTTP/1.1 204 No Content\r\n';
const marker = 'X-Auth-Decision: granted\r\n';
const empty = 'Content-Length: 0\r\n\r\n';

const impostors: Record<string, Impostor> = {
  'closes without a word': { says: '' },
  'never answers': { says: '', stays: true },
  'sends a byte a second': { says: drip, stays: true },
  'sends garbage': { says: '\u0000\u0001garbage\r\n\r\n' },
  'sends 100 KB of garbage': { says: '\u00ff\u0000'.repeat(50_000) },
  'sends half a status line, and closes': { says: 'HTTP/1.1 20' },
  'sends half a status line, and no more': { says: 'HTTP/1.1 20', stays: true },
  'sends half a header, and closes': { says: `${noContent}X-Auth-Deci` },
  'sends half a header, and no more': { says: `${noContent}X-Auth-Deci`, stays: true },
  'sends the marker but not the end of the head, and closes': { says: `${noContent}${marker}` },
  'sends the marker but not the end of the head, and no more': { says: `${noContent}${marker}`, stays: true },
  'speaks HTTP/0.9': { says: '<p>granted</p>' },
  'speaks HTTP/0.9 with the marker': { says: `${marker}\r\n` },
  'speaks HTTP/2': { says: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\u0000\u0000\u0000\u0004\u0000\u0000\u0000\u0000\u0000' },
  'speaks TLS': { says: '\u0015\u0003\u0003\u0000\u0002\u0002\u0028' },
  'answers 100 and nothing else': { says: 'HTTP/1.1 100 Continue\r\n\r\n' },
  'answers 100 with the marker, and no more': { says: `HTTP/1.1 100 Continue\r\n${marker}\r\n`, stays: true },
  'answers 101 with the marker': {
    says: `HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n${marker}\r\n`,
    stays: true,
  },
  'answers 102, and no more': { says: 'HTTP/1.1 102 Processing\r\n\r\n', stays: true },
  'answers 103 with the marker, then 204 without': {
    says: `HTTP/1.1 103 Early Hints\r\n${marker}\r\n${noContent}\r\n`,
  },
  'answers 100, then 204 without the marker': { says: `HTTP/1.1 100 Continue\r\n\r\n${noContent}\r\n` },
  'answers 200 without the marker': { says: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok' },
  'answers 200 with the marker as its body': { says: `HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n${marker}` },
  'answers 200 with the marker in a trailer': {
    says: `HTTP/1.1 200 OK\r\nTrailer: X-Auth-Decision\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n${marker}\r\n`,
  },
  'answers 200 with garbage for chunks': {
    says: `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n${marker}\r\n`,
  },
  'answers 204 without the marker': { says: `${noContent}X-Client-Id: x\r\n\r\n` },
  'answers 204 without the marker, then 204 with it': { says: `${noContent}\r\n${noContent}${marker}\r\n` },
  'answers 204 with another marker': { says: `${noContent}X-Auth-Decision: denied\r\n\r\n` },
  'answers 204 with the marker in capitals': { says: `${noContent}X-Auth-Decision: GRANTED\r\n\r\n` },
  'answers 204 with an empty marker': { says: `${noContent}X-Auth-Decision:\r\n\r\n` },
  'answers 204 with a space in the marker': { says: `${noContent}X-Auth-Decision: gran ted\r\n\r\n` },
  'answers 204 with more after the marker': { says: `${noContent}X-Auth-Decision: granted, denied\r\n\r\n` },
  'answers 204 with a NUL in the marker': { says: `${noContent}X-Auth-Decision: granted\u0000\r\n\r\n` },
  'answers 204 with a NUL in another header': { says: `${noContent}X-Client-Id: a\u0000b\r\n\r\n` },
  'answers 204 with the marker under a name with a space': { says: `${noContent}X-Auth-Decision : granted\r\n\r\n` },
  'answers 204 with the marker in two lines': { says: `${noContent}X-Auth-Decision: gran\r\n ted\r\n\r\n` },
  'answers 204 with the marker twice': {
    says: `${noContent}X-Auth-Decision: granted,\r\nX-Auth-Decision: x\r\n\r\n`,
  },
  'answers 204 with two lengths': { says: `${noContent}Content-Length: 0\r\nContent-Length: 1\r\n\r\n` },
  'answers 299': { says: `HTTP/1.1 299 Fine\r\n${empty}` },
  'answers 302 to the application': { says: `HTTP/1.1 302 Found\r\nLocation: /\r\n${empty}` },
  'answers 302 with the marker': { says: `HTTP/1.1 302 Found\r\nLocation: /\r\n${marker}${empty}` },
  'answers 304': { says: 'HTTP/1.1 304 Not Modified\r\n\r\n' },
  'answers 307 to another gateway': {
    says: `HTTP/1.1 307 Temporary Redirect\r\nLocation: http://gateway/decision\r\n${empty}`,
  },
  'answers 400': { says: `HTTP/1.1 400 Bad Request\r\n${empty}` },
  'answers 401 without a reason': { says: `HTTP/1.1 401 Unauthorized\r\n${empty}`, status: 401 },
  'answers 401 with the marker': { says: `HTTP/1.1 401 No\r\n${marker}${empty}`, status: 401 },
  'answers 403 without a reason': { says: `HTTP/1.1 403 Forbidden\r\n${empty}`, status: 403 },
  'answers 403 with the marker': { says: `HTTP/1.1 403 No\r\n${marker}${empty}`, status: 403 },
  'answers 404': { says: `HTTP/1.1 404 Not Found\r\n${empty}` },
  'answers 407 with the marker': { says: `HTTP/1.1 407 No\r\n${marker}${empty}` },
  'answers 500 with the marker': { says: `HTTP/1.1 500 No\r\n${marker}${empty}` },
  'answers 999 with the marker': { says: `HTTP/1.1 999 No\r\n${marker}${empty}` },
  'answers 2040 with the marker': { says: `HTTP/1.1 2040 No\r\n${marker}${empty}` },
  'sends the client elsewhere inside nginx': { says: `HTTP/1.1 200 OK\r\nX-Accel-Redirect: /\r\n${empty}` },
  'sends 100 KB in one header': { says: `${noContent}X-Filler: ${'x'.repeat(100_000)}\r\n${marker}\r\n` },
  'sends 200 KB of headers': { says: `${noContent}${`X-Filler: ${'x'.repeat(1000)}\r\n`.repeat(200)}\r\n` },
};

function drip(socket: Socket): void {
  const timer = setInterval(() => socket.write('H'), 1_000);
  socket.on('close', () => {
    clearInterval(timer);
  });
}

const others: Record<string, Impostor> = {
  'too many': { says: `HTTP/1.1 403 No\r\nX-Auth-Reason: rate_limited\r\nRetry-After: 7\r\n${empty}` },
  'no code': { says: `HTTP/1.1 403 No\r\nX-Auth-Reason: "},{"x\\\r\n${empty}` },
};

suite('while the gateway does not answer', () => {
  let stack: TestStack;
  before(async () => {
    // opened by SIGUSR1 alone; node:cluster takes no port 0
    stack = await startTestStack(isAlone ? { env: { NODE_OPTIONS: '--inspect-port=0' } } : {});
  });
  after(() => stack.stop());

  async function expectUnavailable(path: string): Promise<number> {
    const calls = stack.application.seen.length;
    const { status, json, headers, duration } = await stack.ask(path, { key: stack.adminKey });
    assert.equal(status, 503);
    assert.equal(json['status'], 503);
    assert.equal(json['title'], 'Service Unavailable');
    assert.equal(json['reason'], 'gateway_unavailable');
    assert.equal(headers['retry-after'], '1');
    assert.equal(headers['content-type'], 'application/problem+json');
    assert.equal(headers['x-request-id'], json['request_id']);
    assert.ok(duration < patience, ms(duration));
    assert.equal(stack.application.seen.length, calls);
    return duration;
  }

  async function expectNobodyDecides(t: TestContext): Promise<void> {
    const paths = ['/', '/other', '/v1/management/api-clients'];
    const durations = await Promise.all(paths.map((path) => expectUnavailable(path)));
    t.diagnostic(`503 after ${ms(Math.min(...durations))} to ${ms(Math.max(...durations))}`);
  }

  async function expectRecovery(t: TestContext): Promise<void> {
    const startedAt = performance.now();
    await until('the gateway decides again', works);
    t.diagnostic(`200 again after ${ms(performance.now() - startedAt)}`);
  }

  const works = async () => (await stack.ask('/', { key: stack.adminKey })).status === 200;

  test('stopped (SIGSTOP): 503 within 5 seconds, and all is well when it goes on', async (t) => {
    assert.ok(await works());
    const pids = stack.gatewayPids();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      await expectNobodyDecides(t);
    } finally {
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    }
    await expectRecovery(t);
  });

  test('killed (SIGKILL): 503 at once; it is started again, knows its clients and prints no further key', async (t) => {
    const before = stack.output();
    process.kill(stack.stack.gateway.pid ?? 0, 'SIGKILL');
    await until('the gateway is gone', () => stack.output().includes('the gateway ended (SIGKILL)'));
    await expectNobodyDecides(t);
    await expectRecovery(t);
    assert.equal(stack.output().slice(before.length).includes('NEWLY GENERATED'), false);
  });

  const skip = !isAlone;
  test('with its event loop blocked: 503 within 5 seconds, and all is well when it goes on', { skip }, async (t) => {
    const before = stack.output().length;
    const pids = stack.gatewayPids();
    for (const pid of pids) process.kill(pid, 'SIGUSR1');
    const inspectors = () => [
      ...stack
        .output()
        .slice(before)
        .matchAll(/Debugger listening on (ws:\S+)/g),
    ];
    await until('the inspectors are there', () => inspectors().length === pids.length);
    await Promise.all(inspectors().map(([, url = '']) => blockEventLoop(url, patience + 1_000)));
    await expectNobodyDecides(t);
    await expectRecovery(t);
  });
});

test('a gateway that is restarted (SIGTERM) under 200 requests/s: what comes meanwhile is answered with 503, for a second at most', async (t) => {
  // one that has ended a moment before is not started again at once
  const stack = await startTestStack();
  try {
    const calls = stack.application.seen.length;
    const said = stack.output().length;
    const load = startLoad(stack, stack.adminKey, 200);
    await until('the load is there', () => load.samples.length > 100, 30_000);
    process.kill(stack.stack.gateway.pid ?? 0, 'SIGTERM');
    await until('it is started again', () => stack.output().slice(said).includes('"msg":"ready"'), 30_000);
    const answered = load.samples.length;
    await until('it decides', () => load.samples.slice(answered).filter(isGranted).length > 100, 30_000);
    // under the same load: a start takes longer than a second on a machine that is busy with something else
    const startedAt = performance.now();
    await stopGateway(await startGateway());
    const oneStart = performance.now() - startedAt;
    await load.stop();
    const counts = countStatuses(load.samples);
    const span = spanOf(load.samples.filter((sample) => !isGranted(sample)));
    t.diagnostic(`503 for ${ms(span)} (one start and stop: ${ms(oneStart)}); ${JSON.stringify(counts)}`);
    assert.ok(span <= Math.max(1_000, 2 * oneStart), ms(span));
    assert.deepEqual(Object.keys(counts), ['200', '503']);
    assert.equal(stack.application.seen.length - calls, counts[200]);
  } finally {
    await stack.stop();
  }
});

suite('something else in the place of the gateway', { concurrency: 8 }, () => {
  let stack: TestStack;
  let leave: () => Promise<void>;
  before(async () => {
    stack = await startTestStack();
    await stack.stack.gateway.stop();
    leave = await impersonate(join(stack.stack.runDir, 'decision.sock'));
  });
  after(async () => {
    await leave();
    await stack.stop();
  });

  /** Answers by the credential, which names one of the impostors. */
  async function impersonate(path: string): Promise<() => Promise<void>> {
    rmSync(path, { force: true });
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('data', (head: Buffer) => {
        const name = /^Authorization: (.*)\r$/m.exec(head.toString('latin1'))?.[1] ?? '';
        const { says, stays } = { ...impostors, ...others }[name] ?? { says: '' };
        if (typeof says !== 'string') says(socket);
        else if (stays) socket.write(says, 'latin1');
        else socket.end(says, 'latin1');
      });
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    chmodSync(path, 0o666);
    return () =>
      new Promise<void>((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => {
          resolve();
        });
      });
  }

  for (const [name, { status: expected = 503 }] of Object.entries(impostors)) {
    test(`that ${name}: ${expected} within 5 seconds, and never the application`, async (t) => {
      const headers = { Authorization: name };
      const answers = await Promise.all([
        stack.ask('/secret', { headers }),
        stack.ask('/secret', { method: 'POST', headers, body: 'x'.repeat(100_000) }),
      ]);
      for (const { status, headers: answered, json, duration } of answers) {
        assert.equal(status, expected);
        assert.equal(answered['content-type'], 'application/problem+json');
        assert.equal(json['status'], expected);
        assert.ok(duration < patience, ms(duration));
        await until('the log says why', () =>
          stack
            .accessLog()
            .some(({ request_id, auth_reason }) => request_id === json['request_id'] && auth_reason === json['reason']),
        );
      }
      const reached = stack.application.seen.filter(({ headers: seen }) => seen['authorization']?.includes(name));
      assert.deepEqual(reached, []);
      t.diagnostic(ms(Math.max(...answers.map(({ duration }) => duration))));
    });
  }

  test('that says "too many": 429 with its Retry-After, as a problem', async () => {
    const { status, headers, json } = await stack.ask('/', { headers: { Authorization: 'too many' } });
    assert.deepEqual([status, headers['retry-after'], json['status'], json['reason']], [429, '7', 429, 'rate_limited']);
  });

  test('whose reason is not a code: it reaches neither the problem nor the log', async () => {
    const { json } = await stack.ask('/', { headers: { Authorization: 'no code' } });
    assert.equal(json['reason'], 'forbidden');
  });
});

suite('one of two gateways that is restarted under 200 requests/s, then the other', () => {
  const dir = makeTempDir();
  const dirs = { a: join(dir, 'a'), b: join(dir, 'b') };
  const gateways: Partial<Record<'a' | 'b', GatewayProcess>> = {};
  let proxy: Proxy;
  let key: string;

  async function start(name: 'a' | 'b', env: Record<string, string> = {}): Promise<GatewayProcess> {
    const listens = ['decision', 'management'].map((listener) => [
      `APIGW_${listener.toUpperCase()}_LISTEN`,
      `unix:${join(dirs[name], `${listener}.sock`)}`,
    ]);
    const gateway = await startGateway(dir, { ...(Object.fromEntries(listens) as Record<string, string>), ...env });
    gateways[name] = gateway;
    return gateway;
  }

  before(async () => {
    for (const name of Object.values(dirs)) mkdirSync(name);
    key = (await start('a', { API_KEY_CREATE: 'true' })).firstKey();
    await start('b');
    proxy = await startProxy(`${dirs.a} ${dirs.b}`);
  });
  after(async () => {
    await proxy.stop();
    for (const gateway of Object.values(gateways)) await stopGateway(gateway);
  });

  async function underLoad(work: (load: Load) => Promise<void>, perSecond = 200): Promise<Load> {
    const calls = proxy.application.seen.length;
    const load = startLoad(proxy, key, perSecond);
    await until('the load is there', () => load.samples.length > 100, 30_000);
    await work(load);
    const answered = load.samples.length;
    await until('it goes on', () => load.samples.length > answered + 100, 30_000);
    await load.stop();
    assert.equal(proxy.application.seen.length - calls, countStatuses(load.samples)[200]);
    return load;
  }

  test('no request fails', async (t) => {
    const { samples } = await underLoad(async () => {
      for (const name of ['a', 'b'] as const) {
        const gateway = gateways[name];
        assert.ok(gateway);
        assert.deepEqual(await stopGateway(gateway), [0, null]);
        await start(name);
      }
    });
    const slowest = Math.max(...samples.map(({ duration }) => duration));
    t.diagnostic(`2 restarts; ${JSON.stringify(countStatuses(samples))}, slowest ${ms(slowest)}`);
    assert.deepEqual(countStatuses(samples), { 200: samples.length });
  });

  test('no request fails when one is killed (SIGKILL)', async (t) => {
    const { samples } = await underLoad(async () => {
      const { a } = gateways;
      assert.ok(a);
      await stopGateway(a, 'SIGKILL');
      await start('a');
    });
    t.diagnostic(JSON.stringify(countStatuses(samples)));
    assert.deepEqual(countStatuses(samples), { 200: samples.length });
  });

  test('a change that one of them has acknowledged counts at the other within a second', async (t) => {
    const { json } = await proxy.manage('POST', key, '', { json: { name: 'short-lived' } });
    const [id, token] = [json['id'] as number, json['token'] as string];
    const status = async () => (await proxy.ask('/', { key: token })).status;
    for (let count = 0; count < 4; count++) assert.equal(await status(), 200);
    assert.equal((await proxy.manage('DELETE', key, `/${id}`)).status, 204);
    const deletedAt = performance.now();
    let lastGrant = deletedAt;
    await until('both refuse', async () => {
      const sentAt = performance.now();
      const statuses = await Promise.all(Array.from({ length: 8 }, status));
      if (statuses.includes(200)) lastGrant = sentAt;
      return statuses.every((one) => one === 401);
    });
    t.diagnostic(`the last grant was asked for ${ms(lastGrant - deletedAt)} after the acknowledgement`);
    assert.ok(lastGrant - deletedAt < 1_000, ms(lastGrant - deletedAt));
  });

  test('one that hangs (SIGSTOP) costs what it has taken 503 within 5 seconds; then the other answers all', async (t) => {
    const { a } = gateways;
    assert.ok(a);
    try {
      const { samples } = await underLoad(async (load) => {
        a.child.kill('SIGSTOP');
        const stoppedAt = performance.now();
        await until('nginx has noticed', () => load.samples.some(({ status }) => status === 503), 30_000);
        const answered = load.samples.length;
        await until('the other answers', () => load.samples.slice(answered).filter(isGranted).length > 400, 30_000);
        t.diagnostic(`nginx asks it no more after ${ms(performance.now() - stoppedAt)} at most`);
        // what hangs at 200/s is as much as one address may have under way
      }, 100);
      const refused = samples.filter(({ status }) => status !== 200);
      const longest = Math.max(...refused.map(({ duration }) => duration));
      t.diagnostic(`${JSON.stringify(countStatuses(samples))}, the 503 after ${ms(longest)} at most`);
      assert.ok(longest < patience, ms(longest));
      assert.deepEqual(Object.keys(countStatuses(samples)), ['200', '503']);
    } finally {
      a.child.kill('SIGCONT');
    }
  });
});
