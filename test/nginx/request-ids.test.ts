import assert from 'node:assert/strict';
import { createServer, type Socket } from 'node:net';
import { after, before, suite, test } from 'node:test';
import { addLocations, locationWithPolicy } from '../support/settings.ts';
import { form, startTestStack, until, type TestStack } from '../support/stack.ts';

interface Seen {
  readonly status: number;
  readonly requestId: string;
  readonly body: string;
}

interface Kind {
  readonly ask: () => Promise<Seen>;
  readonly status: number;
  /** What the gateway's log says of it; undefined when the gateway is not asked. */
  readonly logged?: string;
  /** False for an answer of the application, a redirect, a page without a body. */
  readonly isProblem?: boolean;
  /** False for probes, which nginx does not log. */
  readonly isInAccessLog?: boolean;
}

/** Takes connections and says nothing. */
async function startSilence() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on('error', () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port: (server.address() as { port: number }).port, close };
}

const locations = `
${locationWithPolicy('admins', { 'Require-Admin': 'on' })}
${locationWithPolicy('broken', { 'Open-Id-Connect-Enabled': 'on', 'Oidc-Discovery': 'nonsense' }, 'none')}
  location /typo/ {   # protected
    auth_request /nowhere;
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
  location = /_apigw/decision/dead {
    internal;
    auth_request off;
    proxy_pass http://unix:/nonexistent/gateway.sock:/decision;
  }
  location /dead/ {   # protected
    auth_request /_apigw/decision/dead;
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
  location /away/ {   # protected
    proxy_pass http://\${if_granted}away;
    include snippets/proxy.conf;
  }
  location /silent/ {   # protected
    proxy_pass http://\${if_granted}silent;
    include snippets/proxy.conf;
    proxy_read_timeout 100ms;
  }
`;
const upstreams = (silentPort: number) => `
upstream away { server unix:/nonexistent/application.sock; }
upstream silent { server 127.0.0.1:${silentPort}; }
server {
  include runtime/listen-https.conf;
  server_name cached.test;
  include snippets/gateway.conf;
  include snippets/decision-cache.conf;
  location / {   # protected
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
}
`;

suite('a request has one id, in the answer, in its body, in the log of nginx and in that of the gateway', () => {
  let stack: TestStack;
  let silence: Awaited<ReturnType<typeof startSilence>>;
  let key: string;
  before(async () => {
    silence = await startSilence();
    stack = await startTestStack({
      env: { APIGW_LOG_GRANTED_EVERY: '1' },
      edit: (conf) => addLocations(conf, locations) + upstreams(silence.port),
    });
    key = await createKey({});
  });
  after(async () => {
    silence.close();
    await stack.stop();
  });

  async function createKey(json: object): Promise<string> {
    return (await stack.manage('POST', stack.adminKey, '', { json })).json['token'] as string;
  }
  // a client does not choose it
  const own = { 'X-Request-Id': 'of-the-client' };
  async function ask(path: string, options: Parameters<TestStack['ask']>[1] = {}, front = stack.ask.bind(stack)) {
    const { status, headers, body } = await front(path, { ...options, headers: { ...own, ...options.headers } });
    return { status, body, requestId: String(headers['x-request-id']) };
  }
  async function sendRaw(lines: string, options?: { tls: boolean }): Promise<Seen> {
    const answer = await stack.sendRaw(`${lines}\r\nConnection: close\r\n\r\n`, options);
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    const requestId = /^x-request-id: (.*)$/im.exec(head)?.[1] ?? '';
    return { status: Number(head.split(' ')[1]), requestId, body };
  }
  /** Of whom nginx has kept nothing. */
  const askAsNewcomer = async (path: string) => ask(path, { key: await createKey({}) });
  /** Nothing is kept for some seconds after a client has changed. */
  async function askUntilKept(): Promise<Seen> {
    const kept: Seen[] = [];
    await until(
      'nginx answers by itself',
      async () => {
        const seen = await ask('/x', { key, headers: { Host: 'cached.test' } });
        const later = await ask('/x');
        await until('the log is read so far', () => stack.output().includes(later.requestId));
        if (!stack.output().includes(seen.requestId)) kept.push(seen);
        return kept.length === 2;
      },
      20_000,
    );
    const [first, second] = kept;
    assert.ok(first && second);
    assert.notEqual(first.requestId, second.requestId);
    return second;
  }
  const head = 'GET /x HTTP/1.1\r\nHost: localhost';
  const manage = '/v1/management/api-clients';

  const kinds: Record<string, Kind> = {
    'a grant': { ask: () => askAsNewcomer('/x'), status: 200, logged: 'granted' },
    // with several workers none is kept
    ...(form !== 'workers' && { 'a grant that nginx has kept': { ask: askUntilKept, status: 200 } }),
    'no credential': { ask: () => ask('/x'), status: 401, logged: 'denied' },
    'a wrong key': { ask: () => ask('/x', { key: `${key.slice(0, -1)}-` }), status: 401, logged: 'denied' },
    'a key that may not': { ask: () => ask('/admins/x', { key }), status: 403, logged: 'denied' },
    'a client over its limit': {
      ask: async () => {
        const limited = await createKey({ rate_limit: '1/h' });
        await ask('/x', { key: limited });
        return ask('/x', { key: limited });
      },
      status: 429,
      logged: 'denied',
    },
    'what cannot be decided': {
      ask: () => ask('/broken/x', { headers: { Authorization: 'Bearer a.b.c' } }),
      status: 503,
      logged: 'cannot decide',
    },
    'a gateway that is away': { ask: () => ask('/dead/x', { key }), status: 503 },
    'a decision of somebody else': { ask: () => ask('/typo/x', { key }), status: 503 },
    'an application that is away': { ask: () => askAsNewcomer('/away/x'), status: 502, logged: 'granted' },
    'an application that is silent': { ask: () => askAsNewcomer('/silent/x'), status: 504, logged: 'granted' },
    'two Authorization lines': {
      ask: () => sendRaw(`${head}\r\nAuthorization: apk 1\r\nAuthorization: apk 1`),
      status: 400,
    },
    'a request line that is none': { ask: () => sendRaw('GET /\u0001 HTTP/1.1\r\nHost: localhost'), status: 400 },
    'a location of nginx alone': { ask: () => ask('/_apigw/decision', { key }), status: 404 },
    'a header that is too large': { ask: () => sendRaw(`${head}\r\nX-Filler: ${'x'.repeat(17_000)}`), status: 431 },
    'a body that is too large': { ask: () => sendRaw(`${head}\r\nContent-Length: 200000000`), status: 413 },
    'a management call': {
      ask: () => ask(`${manage}?limit=1`, { key: stack.adminKey }),
      status: 200,
      logged: 'management call',
    },
    'a management problem': {
      ask: () => ask(`${manage}/987654`, { key: stack.adminKey }),
      status: 404,
      logged: 'management call',
      isProblem: true,
    },
    'a management call with no credential': { ask: () => ask(manage), status: 401, logged: 'management call' },
    'a management call by no administrator': {
      ask: () => ask(manage, { key }),
      status: 403,
      logged: 'management call',
    },
    'a management call with a bad body': {
      ask: () => ask(manage, { method: 'POST', key: stack.adminKey, json: { name: 1 } }),
      status: 400,
      logged: 'management call',
    },
    'a management call that is too large': {
      ask: () => ask(manage, { method: 'POST', key: stack.adminKey, json: { name: 'x'.repeat(70_000) } }),
      status: 413,
    },
    'a management call with an unknown method': {
      ask: () => sendRaw(`PROPFIND ${manage} HTTP/1.1\r\nHost: localhost`),
      status: 501,
    },
    'questions about credentials that nginx slows down': {
      ask: async () => {
        let last = await ask('/v1/management/introspect', { method: 'POST' });
        for (let time = 0; time < 20 && last.status !== 429; time++)
          last = await ask('/v1/management/introspect', { method: 'POST' });
        return last;
      },
      status: 429,
    },
    'a probe': { ask: () => ask('/livez'), status: 200, isInAccessLog: false },
    'a redirect to HTTPS': { ask: () => ask('/x', {}, stack.askInClear.bind(stack)), status: 308, isProblem: false },
    'a bad request in clear': {
      ask: () => sendRaw('GET /x HTTP/1.1\r\nHost: a\r\nHost: b', { tls: false }),
      status: 400,
      isProblem: false,
    },
    'a request in clear to the TLS port': {
      ask: () => {
        const front = Object.assign(Object.create(stack) as TestStack, { httpPort: stack.httpsPort });
        return ask('/x', {}, front.askInClear.bind(front));
      },
      status: 400,
    },
  };

  for (const [what, { ask: askFor, status, logged, isProblem = status >= 400, isInAccessLog = true }] of Object.entries(
    kinds,
  )) {
    test(`${what}: ${status}`, async () => {
      const seen = await askFor();
      assert.equal(seen.status, status);
      assert.match(seen.requestId, /^[0-9a-f]{32}$/);
      if (isProblem) assert.equal((JSON.parse(seen.body) as Record<string, unknown>)['request_id'], seen.requestId);
      const inAccessLog = () => stack.accessLog().filter(({ request_id: id }) => id === seen.requestId);
      if (isInAccessLog) await until('the access log has it', () => inAccessLog().length > 0);
      assert.deepEqual(
        inAccessLog().map((line) => line['status']),
        isInAccessLog ? [status] : [],
      );
      if (logged === undefined) return;
      const isLogged = (line: string) => line.includes(`"${seen.requestId}"`) && line.endsWith(`"msg":"${logged}"}`);
      await until("the gateway's log has it", () => stack.output().split('\n').some(isLogged));
    });
  }

  test('the application is told the same', async () => {
    const { requestId } = await ask('/x', { key });
    assert.deepEqual(stack.application.seen.at(-1)?.headers['x-request-id'], [requestId]);
  });
});
