import assert from 'node:assert/strict';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { addLocations } from '../support/settings.ts';
import { startTestStack, until, type TestStack } from '../support/stack.ts';

/** The longest time in milliseconds that a client waits for its refusal. */
const patience = 5_000;

suite('while the gateway does not answer', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  async function expectUnavailable(path: string): Promise<void> {
    const calls = stack.application.seen.length;
    const { status, json, headers, duration } = await stack.ask(path, { key: stack.adminKey });
    assert.equal(status, 503);
    assert.equal(json['status'], 503);
    assert.equal(json['title'], 'Service Unavailable');
    assert.equal(json['reason'], 'gateway_unavailable');
    assert.equal(headers['retry-after'], '1');
    assert.equal(headers['content-type'], 'application/problem+json');
    assert.equal(headers['x-request-id'], json['request_id']);
    assert.ok(duration < patience, `${duration} ms`);
    assert.equal(stack.application.seen.length, calls);
  }

  const works = async () => (await stack.ask('/', { key: stack.adminKey })).status === 200;

  test('stopped (SIGSTOP): 503 within 5 seconds, and all is well when it goes on', async () => {
    assert.ok(await works());
    const pids = stack.gatewayPids();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      await Promise.all([
        expectUnavailable('/'),
        expectUnavailable('/other'),
        expectUnavailable('/v1/management/api-clients'),
      ]);
    } finally {
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    }
    await until('the gateway decides again', works);
  });

  test('killed (SIGKILL): 503 at once; it is started again, knows its clients and prints no further key', async () => {
    const before = stack.output();
    process.kill(stack.stack.gateway.pid ?? 0, 'SIGKILL');
    await until('the gateway is gone', () => stack.output().includes('the gateway ended (SIGKILL)'));
    await expectUnavailable('/');
    await expectUnavailable('/v1/management/api-clients');
    await until('the gateway decides again', works);
    assert.equal(stack.output().slice(before.length).includes('NEWLY GENERATED'), false);
  });
});

/** What stands in for the gateway, and the status that the client gets; the application is never reached. */
const impostors: Record<string, { answer: string | ((socket: Socket) => void); status: number }> = {
  'closes without a word': { answer: '', status: 503 },
  'sends garbage': { answer: '\u0000\u0001garbage\r\n\r\n', status: 503 },
  'sends half a header': { answer: 'HTTP/1.1 204 No Content\r\nX-Auth-Deci', status: 503 },
  'answers 200 without the marker': { answer: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', status: 503 },
  'answers 204 without the marker': { answer: 'HTTP/1.1 204 No Content\r\nX-Client-Id: x\r\n\r\n', status: 503 },
  'answers 204 with another marker': {
    answer: 'HTTP/1.1 204 No Content\r\nX-Auth-Decision: denied\r\n\r\n',
    status: 503,
  },
  'answers 204 with the marker twice': {
    answer: 'HTTP/1.1 204 No Content\r\nX-Auth-Decision: granted,\r\nX-Auth-Decision: x\r\n\r\n',
    status: 503,
  },
  'answers 299': { answer: 'HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n', status: 503 },
  'answers 100 and nothing else': { answer: 'HTTP/1.1 100 Continue\r\n\r\n', status: 503 },
  'answers 302 to the application': {
    answer: 'HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n',
    status: 503,
  },
  'answers 304': { answer: 'HTTP/1.1 304 Not Modified\r\n\r\n', status: 503 },
  'answers 400': { answer: 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n', status: 503 },
  'answers 404': { answer: 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', status: 503 },
  'answers 500 with the marker': {
    answer: 'HTTP/1.1 500 No\r\nX-Auth-Decision: granted\r\nContent-Length: 0\r\n\r\n',
    status: 503,
  },
  'answers 401 with the marker': {
    answer: 'HTTP/1.1 401 No\r\nX-Auth-Decision: granted\r\nContent-Length: 0\r\n\r\n',
    status: 401,
  },
  'answers 403 with the marker': {
    answer: 'HTTP/1.1 403 No\r\nX-Auth-Decision: granted\r\nContent-Length: 0\r\n\r\n',
    status: 403,
  },
  'sends the client elsewhere inside nginx': {
    answer: 'HTTP/1.1 200 OK\r\nX-Accel-Redirect: /\r\nContent-Length: 0\r\n\r\n',
    status: 503,
  },
  'sends 200 KB of headers': {
    answer: `HTTP/1.1 204 No Content\r\n${`X-Filler: ${'x'.repeat(1000)}\r\n`.repeat(200)}\r\n`,
    status: 503,
  },
  'never answers': { answer: () => undefined, status: 503 },
  'sends a byte a second': { answer: drip, status: 503 },
};

function drip(socket: Socket): void {
  const timer = setInterval(() => socket.write('H'), 1_000);
  socket.on('close', () => {
    clearInterval(timer);
  });
}

suite('something else in the place of the gateway', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
    await stack.stack.gateway.stop();
  });
  after(() => stack.stop());

  async function impersonate(name: 'decision' | 'management', answer: string | ((socket: Socket) => void)) {
    const path = join(stack.stack.runDir, `${name}.sock`);
    rmSync(path, { force: true });
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('data', () => {
        if (typeof answer === 'string') socket.end(answer);
        else answer(socket);
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

  for (const [what, { answer, status: expected }] of Object.entries(impostors)) {
    test(`that ${what}: ${expected} within 5 seconds, and never the application`, async () => {
      const leave = await impersonate('decision', answer);
      try {
        const asks = [
          stack.ask('/secret', { key: stack.adminKey }),
          stack.ask('/secret'),
          stack.ask('/secret', { method: 'POST', key: stack.adminKey, body: 'x'.repeat(100_000) }),
        ];
        for (const { status, headers, json, duration } of await Promise.all(asks)) {
          assert.equal(status, expected);
          assert.equal(headers['content-type'], 'application/problem+json');
          assert.equal(json['status'], expected);
          assert.ok(duration < patience, `${duration} ms`);
          await until('the log says why', () =>
            stack
              .accessLog()
              .some(
                ({ request_id, auth_reason }) => request_id === json['request_id'] && auth_reason === json['reason'],
              ),
          );
        }
        assert.deepEqual(stack.application.seen, []);
      } finally {
        await leave();
      }
    });
  }

  test('that says "too many": 429 with its Retry-After, as a problem', async () => {
    const leave = await impersonate(
      'decision',
      'HTTP/1.1 403 No\r\nX-Auth-Reason: rate_limited\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n',
    );
    try {
      const { status, headers, json } = await stack.ask('/', { key: stack.adminKey });
      assert.deepEqual(
        [status, headers['retry-after'], json['status'], json['reason']],
        [429, '7', 429, 'rate_limited'],
      );
    } finally {
      await leave();
    }
  });

  test('whose reason is not a code: it reaches neither the problem nor the log', async () => {
    const leave = await impersonate(
      'decision',
      'HTTP/1.1 403 No\r\nX-Auth-Reason: "},{"x\\\r\nContent-Length: 0\r\n\r\n',
    );
    try {
      const { json } = await stack.ask('/', { key: stack.adminKey });
      assert.equal(json['reason'], 'forbidden');
    } finally {
      await leave();
    }
  });
});

suite('a mistake in default.conf', () => {
  test('a typo in auth_request does not open the application', async () => {
    const typo =
      '  location /typo {\n    auth_request /_apigw/decison;\n    proxy_pass http://${if_granted}application;\n    include snippets/proxy.conf;\n  }\n\n';
    const stack = await startTestStack({
      edit: (conf) => conf.replace('  location / {   # protected', `${typo}  location / {   # protected`),
    });
    try {
      for (const key of [undefined, stack.adminKey]) {
        const { status } = await stack.ask('/typo', { key });
        assert.equal(status, 503);
      }
      assert.deepEqual(stack.application.seen, []);
    } finally {
      await stack.stop();
    }
  });

  test('a location that forgets the headers of the identity has them nevertheless', async () => {
    const stack = await startTestStack({
      edit: (conf) =>
        addLocations(conf, '  location /bare { proxy_pass http://${if_granted}application; }   # protected'),
    });
    try {
      await stack.ask('/bare', { key: stack.adminKey, headers: { 'X-Client-Id': 'spoofed', 'X-Auth-Method': 'jwt' } });
      const seen = stack.application.seen.at(-1)?.headers;
      assert.deepEqual([seen?.['x-client-name'], seen?.['x-auth-method']], [['bootstrap'], ['api_key']]);
      assert.equal(seen?.['x-client-id']?.includes('spoofed'), false);
      assert.equal(seen['authorization'], undefined);
    } finally {
      await stack.stop();
    }
  });

  for (const value of ['off', 'of', '""', 'false']) {
    test(`$api_keys_enabled ${value}: no key opens anything`, async () => {
      const stack = await startTestStack({ edit: (conf) => conf.replace('  default on;', `  default ${value};`) });
      try {
        for (const path of ['/', '/v1/management/api-clients']) {
          const { status, json } = await stack.ask(path, { key: stack.adminKey });
          assert.deepEqual([status, json['reason']], [403, 'authentication_disabled']);
        }
        assert.deepEqual(stack.application.seen, []);
      } finally {
        await stack.stop();
      }
    });
  }
});

test('an application that is away is 502, not a refusal', async () => {
  const stack = await startTestStack();
  try {
    await stack.application.close();
    const { status, json } = await stack.ask('/', { key: stack.adminKey });
    assert.deepEqual([status, json['reason']], [502, 'application_unavailable']);
    await until('the log says why', () =>
      stack.accessLog().some(({ auth_reason }) => auth_reason === 'application_unavailable'),
    );
  } finally {
    await stack.stop();
  }
});
