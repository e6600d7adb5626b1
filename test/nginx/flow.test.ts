import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, suite, test } from 'node:test';
import { promisify } from 'node:util';
import { openTestDatabase } from '../support/database.ts';
import { startTestStack, until, type TestStack } from '../support/stack.ts';
import { madeUpKey } from '../support/keys.ts';

const run = promisify(execFile);

suite('the flow of a new operator, by curl', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  /** The status and the body of a curl call. */
  async function curl(...args: string[]): Promise<{ status: number; body: string; json: Record<string, unknown> }> {
    const { stdout } = await run('curl', ['-k', '-sS', '--write-out', '\n%{http_code}', ...args]);
    const [, body = '', status] = /^([^]*)\n(\d{3})$/.exec(stdout) ?? [];
    return {
      status: Number(status),
      body,
      get json() {
        return JSON.parse(body) as Record<string, unknown>;
      },
    };
  }

  const collection = () => `${stack.url}/v1/management/api-clients`;
  const authorization = (key: string) => ['--header', `Authorization: apk ${key}`];
  let secondKey = '';

  test('1: the start prints the first key on a plain line of its own', () => {
    assert.match(stack.output(), /^NEWLY GENERATED API KEY: 1\.[A-Za-z0-9]{64}$/m);
    assert.match(stack.output(), /a bootstrap key is alive/);
  });

  test('2: the key reaches the application, which learns who is asking', async () => {
    const { status, json } = await curl(...authorization(stack.adminKey), `${stack.url}/`);
    assert.equal(status, 200);
    const headers = json['headers'] as Record<string, string[]>;
    assert.deepEqual(headers['x-client-name'], ['bootstrap']);
    assert.match(headers['x-client-id']?.[0] ?? '', /^[0-9a-f-]{36}$/);
    assert.equal(headers['authorization'], undefined);
  });

  test('2: without a key, or with a wrong one, the answer is 401 and the application is not called', async () => {
    const calls = stack.application.seen.length;
    const wrong = stack.adminKey.slice(0, -1) + (stack.adminKey.endsWith('x') ? 'y' : 'x');
    for (const headers of [[], authorization(wrong), authorization(`2${stack.adminKey.slice(1)}`)]) {
      assert.equal((await curl(...headers, `${stack.url}/`)).status, 401);
    }
    assert.equal(stack.application.seen.length, calls);
  });

  test('3: an administrator creates another one, and the key is shown once', async () => {
    const { status, json } = await curl(
      ...['--location', '--request', 'POST', collection()],
      ...['--header', 'Content-Type: application/json', '--header', 'Accept: application/json'],
      ...authorization(stack.adminKey),
      ...['--data-raw', '{"name": "admin-secure-key", "is_admin": true, "generate_api_key": true}'],
    );
    assert.equal(status, 201);
    assert.equal(json['api_key_id'], 2);
    secondKey = json['token'] as string;
    assert.match(secondKey, /^2\.[A-Za-z0-9]{64}$/);
  });

  test('4: the new key deletes the old client, whose key is refused from that moment on', async () => {
    const contentType = ['--header', 'Content-Type: application/json'];
    const { status } = await curl(
      '--request',
      'DELETE',
      `${collection()}/1`,
      ...contentType,
      ...authorization(secondKey),
    );
    assert.equal(status, 204);
    assert.equal((await curl(...authorization(stack.adminKey), `${stack.url}/`)).status, 401);
    assert.equal((await curl(...authorization(stack.adminKey), collection())).status, 401);
    assert.equal((await curl(...authorization(secondKey), `${stack.url}/`)).status, 200);
  });

  test('6: a client for access tokens is created without a key', async () => {
    const { status, json } = await curl(
      ...['--request', 'POST', collection(), '--header', 'Content-Type: application/json', ...authorization(secondKey)],
      '--data-raw',
      '{"name": "oauth2-test-api-client", "is_admin": true, "api_client_id": "abc123", "generate_api_key": false}',
    );
    assert.equal(status, 201);
    assert.equal('token' in json, false);
    assert.equal(json['api_client_id'], 'abc123');
  });

  test('5: the list, with and without the trailing slash, shows the clients and no secret', async () => {
    for (const url of [collection(), `${collection()}/`]) {
      const { status, body } = await curl('--request', 'GET', url, ...authorization(secondKey));
      assert.equal(status, 200);
      const clients = JSON.parse(body) as Record<string, unknown>[];
      assert.deepEqual(
        clients.map(({ id, api_client_entity_id, name, is_admin }) => [id, api_client_entity_id, name, is_admin]),
        [
          [2, 2, 'admin-secure-key', true],
          [3, 3, 'oauth2-test-api-client', true],
        ],
      );
      assert.doesNotMatch(body, /token|digest|secret"|[A-Za-z0-9]{40}/);
    }
  });

  test('8: plain HTTP redirects, and no credential is looked at', async () => {
    const calls = stack.application.seen.length;
    const target = `http://localhost:${stack.httpPort}/deep/path?q=1`;
    const { status, body } = await curl(...authorization(secondKey), target);
    assert.equal(status, 308);
    assert.doesNotMatch(body, /application/);
    const { stdout } = await run('curl', ['-sS', '-o', '/dev/null', '--write-out', '%{redirect_url}', target]);
    assert.equal(stdout, `${stack.url}/deep/path?q=1`);
    const bad = await curl(...authorization('1.wrong'), target);
    assert.equal(bad.status, 308);
    assert.equal(stack.application.seen.length, calls);
  });

  test('each request is one line of the access log, with who and why and without query strings', async () => {
    await curl(...authorization(secondKey), `${stack.url}/logged?password=hunter2`);
    await curl('--request', 'POST', `${stack.url}/refused?password=hunter2`);
    // nginx writes the line when the answer is out
    await until('the request is logged', () => stack.accessLog().some(({ path }) => path === '/refused'));
    const lines = stack.accessLog();
    const granted = lines.find(({ path }) => path === '/logged');
    const refused = lines.find(({ path }) => path === '/refused');
    assert.equal(granted?.['client_name'], 'admin-secure-key');
    assert.equal(granted['auth_method'], 'api_key');
    assert.match(granted['client_id'] as string, /^[0-9a-f-]{36}$/);
    assert.match(granted['request_id'] as string, /^[0-9a-f]{32}$/);
    assert.equal(refused?.['auth_reason'], 'no_credential');
    assert.deepEqual([refused['client_id'], refused['method']], ['', 'POST']);
    const managed = lines.find(({ method, path }) => method === 'DELETE' && path === '/v1/management/api-clients/1');
    assert.equal(managed?.['client_name'], 'admin-secure-key');
    assert.doesNotMatch(JSON.stringify(lines), /hunter2|apk /);
  });

  test('a credential in a path is in no log and in no audit event', async () => {
    const token = `eyJhbGciOiJSUzI1NiJ9.${Buffer.from('{"sub":"abc123"}').toString('base64url')}.c2lnbmF0dXJl`;
    const paths = [`/keys/${secondKey}/x`, `/keys/${secondKey.replace('.', '%2E')}`, `/keys/${token}`];
    for (const path of paths) {
      await curl(...authorization(secondKey), `${stack.url}${path}`);
      await curl(...authorization(secondKey), `${stack.url}/v1/management/api-clients${path}`);
    }
    await until('the requests are logged', () => {
      const logged = stack.accessLog().map(({ path }) => path);
      return logged.filter((path) => path === '/keys/[redacted]').length === paths.length;
    });
    const [secret = '-', payload = '-'] = [secondKey.split('.')[1], token.split('.')[1]];
    const database = openTestDatabase(stack.stateDir);
    const stored: unknown = await database('audit_events').select('details');
    await database.destroy();
    for (const text of [JSON.stringify(stack.accessLog()), stack.output(), JSON.stringify(stored)]) {
      assert.ok(!text.includes(secret) && !text.includes(payload), text);
    }
    assert.match(JSON.stringify(stored), /keys\/\[redacted\]/);
  });

  test('the request id is the same in nginx, gateway, problem and answer, and reaches the application', async () => {
    const { headers, json } = await stack.ask('/');
    assert.equal(headers['cache-control'], 'no-store');
    const id = json['request_id'];
    assert.equal(headers['x-request-id'], id);
    await until('the request is logged', () => stack.accessLog().some(({ request_id }) => request_id === id));
    const record = `"reason":"no_credential","request_id":"${String(id)}"`;
    await until('the denial is logged', () => stack.output().includes(record));
    const granted = await stack.ask('/', { key: secondKey, headers: { 'X-Request-Id': 'mine' } });
    assert.deepEqual(stack.application.seen.at(-1)?.headers['x-request-id'], [granted.headers['x-request-id']]);
    assert.notEqual(granted.headers['x-request-id'], 'mine');
  });

  test('an unknown id and a wrong secret are refused with the same bytes', async () => {
    const constant = ({ body, headers }: Awaited<ReturnType<TestStack['ask']>>) => {
      const withoutId = { ...headers, date: '', 'x-request-id': '' };
      return JSON.stringify([body.replace(/"request_id":"[0-9a-f]{32}"/, ''), withoutId]);
    };
    for (const path of ['/', '/v1/management/api-clients']) {
      const wrongSecret = await stack.ask(path, { key: madeUpKey('2') });
      const unknownId = await stack.ask(path, { key: madeUpKey('987654321') });
      const hugeId = await stack.ask(path, { key: madeUpKey('9223372036854775807') });
      const deleted = await stack.ask(path, { key: stack.adminKey });
      assert.equal(wrongSecret.status, 401);
      for (const other of [unknownId, hugeId, deleted]) assert.equal(constant(other), constant(wrongSecret));
      assert.equal(wrongSecret.headers['www-authenticate'], 'apk realm="apigw"');
    }
  });
});
