import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { startTestStack, type TestStack } from '../support/stack.ts';

const secret = 'A'.repeat(64);

suite('a bad request', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  /** Sends header lines as they are to the application's and to the management path. */
  async function sendHeaders(lines: string): Promise<{ status: number; body: string }[]> {
    const calls = stack.application.seen.length;
    const answers = [];
    for (const path of ['/', '/v1/management/api-clients']) {
      const answer = await stack.sendRaw(
        `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${lines}Connection: close\r\n\r\n`,
      );
      const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(answer) ?? [];
      answers.push({ status: Number(status), body: answer.slice(answer.indexOf('\r\n\r\n') + 4) });
    }
    assert.equal(stack.application.seen.length, calls);
    return answers;
  }

  const credentials: Record<string, string> = {
    'the id 01': `apk 01.${secret}`,
    'the id +1': `apk +1.${secret}`,
    'the id 1e0': `apk 1e0.${secret}`,
    'the id 0x1': `apk 0x1.${secret}`,
    'the id 2^63': `apk 9223372036854775808.${secret}`,
    'the id 10^100': `apk 1${'0'.repeat(100)}.${secret}`,
    'the id in full-width digits': Buffer.from(`apk １.${secret}`).toString('latin1'),
    'a secret of 63 characters': `apk 1.${secret.slice(1)}`,
    'a secret of 65 characters': `apk 1.${secret}A`,
    'two credentials in one header': `apk 1.${secret}, apk 1.${secret}`,
    'a control byte': `apk 1.${secret}\u0001`,
    'a tab inside': `apk\t1.${secret}`,
    'bytes beyond ASCII': `apk 1.${secret}\u00e9`,
    'no scheme': `1.${secret}`,
  };
  for (const [what, credential] of Object.entries(credentials)) {
    test(`with ${what} in its credential is 401 malformed_credential`, async () => {
      for (const { status, body } of await sendHeaders(`Authorization: ${credential}\r\n`)) {
        assert.equal(status, 401);
        assert.match(body, /"reason":"malformed_credential"/);
      }
    });
  }

  test('with another scheme is 401 unsupported_scheme, with an access token 401 method_disabled', async () => {
    for (const { status, body } of await sendHeaders('Authorization: Basic dXNlcjpwYXNz\r\n')) {
      assert.equal(status, 401);
      assert.match(body, /"reason":"unsupported_scheme"/);
    }
    for (const { status, body } of await sendHeaders('Authorization: Bearer a.b.c\r\n')) {
      assert.equal(status, 401);
      assert.match(body, /"reason":"method_disabled"/);
    }
  });

  const rejectedByNginx: Record<string, [string, number]> = {
    'two Authorization lines': [`Authorization: apk 1.${secret}\r\nAuthorization: apk 1.${secret}\r\n`, 400],
    'a NUL in a header': ['X-Filler: a\u0000b\r\n', 400],
    'a header line of 17 KB': [`X-Filler: ${'x'.repeat(17 * 1024)}\r\n`, 431],
    'an Authorization of 17 KB': [`Authorization: apk 1.${'A'.repeat(17 * 1024)}\r\n`, 431],
    'headers of 80 KB in all': [`X-Filler: ${'x'.repeat(15 * 1024)}\r\n`.repeat(6), 431],
    'a Host that is no host': ['Host: other\r\n', 400],
    'both lengths of a body': ['Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', 400],
    'an unknown transfer coding': ['Transfer-Encoding: gzip, chunked\r\n', 501],
    'a length that is no number': ['Content-Length: -1\r\n', 400],
  };
  for (const [what, [lines, expected]] of Object.entries(rejectedByNginx)) {
    test(`with ${what} is ${expected}, as a problem`, async () => {
      for (const { status, body } of await sendHeaders(lines)) {
        assert.equal(status, expected);
        assert.equal((JSON.parse(body) as Record<string, unknown>)['status'], expected);
      }
    });
  }

  test('with 16 KB in a header line, or with 300 headers, still gets an answer of the gateway', async () => {
    for (const { status } of await sendHeaders(`Authorization: Bearer ${'a'.repeat(15 * 1024)}\r\n`))
      assert.equal(status, 401);
    for (const { status } of await sendHeaders('X-Filler: x\r\n'.repeat(300))) assert.equal(status, 401);
  });

  const requestLines: Record<string, string> = {
    'a control byte in its path': 'GET /\u0001 HTTP/1.1',
    'a path above the root': 'GET /../../etc/passwd HTTP/1.1',
    'a broken escape in its path': 'GET /%zz HTTP/1.1',
    'an escaped NUL in its path': 'GET /%00 HTTP/1.1',
    'no path': 'GET HTTP/1.1',
    'an unknown version': 'GET / HTTP/3.7',
    'a target of 17 KB': `GET /${'x'.repeat(17 * 1024)} HTTP/1.1`,
    'a method in lower case': 'get / HTTP/1.1',
    'a CONNECT': 'CONNECT localhost:22 HTTP/1.1',
    'a TRACE': 'TRACE / HTTP/1.1',
  };
  for (const [what, line] of Object.entries(requestLines)) {
    test(`with ${what} is refused with a 4xx or 505, even with a good key`, async () => {
      const calls = stack.application.seen.length;
      const answer = await stack.sendRaw(
        `${line}\r\nHost: localhost\r\nAuthorization: apk ${stack.adminKey}\r\nConnection: close\r\n\r\n`,
      );
      assert.match(answer, /^HTTP\/1\.1 (?:4\d\d|505) /);
      assert.match(answer, /application\/problem\+json/);
      assert.equal(stack.application.seen.length, calls);
    });
  }

  test('in clear to the TLS port, or TLS to the clear port, is 400', async () => {
    const inClear = await stack.sendRaw('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', {
      tls: false,
    });
    assert.match(inClear, /^HTTP\/1\.1 308 /);
    const front = Object.assign(Object.create(Object.getPrototypeOf(stack) as object) as TestStack, {
      httpPort: stack.httpsPort,
    });
    assert.match(await front.sendRaw('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n', { tls: false }), /^HTTP\/1\.1 400 /);
  });

  test("does not reach nginx's internal locations", async () => {
    for (const path of [
      '/_apigw/decision',
      '/_apigw/problem',
      '/_apigw/forbidden',
      '/_apigw/no-upstream',
      '/x/../_apigw/decision',
    ]) {
      const { status, headers, json } = await stack.ask(path, { key: stack.adminKey });
      assert.deepEqual([status, json['reason']], [404, 'not_found']);
      assert.equal(headers['x-client-id'], undefined);
    }
  });

  test('that looks like an exempt path is not exempt', async () => {
    for (const path of [
      '/livez/',
      '/livezz',
      '/livez/..;/x',
      '/readyz/x',
      '/v1/management',
      '/v1/managementx',
      '//livez/x',
      '/v1/management/../../x',
    ]) {
      assert.equal((await stack.ask(path)).status, 401, path);
    }
    assert.deepEqual(stack.application.seen, []);
  });

  test('to the management API that breaks off, or has an unknown method, is a problem too', async () => {
    const head = `/v1/management/api-clients HTTP/1.1\r\nHost: localhost\r\nAuthorization: apk ${stack.adminKey}\r\nConnection: close\r\n`;
    const chunked = 'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n';
    for (const [request, expected] of [
      [`POST ${head}${chunked}`, 400],
      [`BREW ${head}\r\n`, 501],
      [`PATCH ${head}\r\n`, 405],
      [`PROPFIND ${head}\r\n`, 501],
    ] as const) {
      const answer = await stack.sendRaw(request);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${expected} `), answer);
      assert.match(answer, /application\/problem\+json/);
    }
  });

  test('that sends a large body to the management API is refused by nginx before anybody has read it', async () => {
    const { status } = await stack.ask('/v1/management/api-clients', { method: 'POST', body: 'x'.repeat(1_000_000) });
    assert.equal(status, 413);
  });

  test('OPTIONS without a credential is 401: preflights are not answered by default', async () => {
    const { status } = await stack.ask('/', {
      method: 'OPTIONS',
      headers: { Origin: 'https://x.example', 'Access-Control-Request-Method': 'GET' },
    });
    assert.equal(status, 401);
  });
});
