import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { after, before, suite, test } from 'node:test';
import { startTestStack, type TestStack } from '../support/stack.ts';

const publicLocations = `
  location = /public {   # public
    auth_request off;
    proxy_pass http://application/public;
    include snippets/proxy.conf;
  }
  location /own-headers/ {   # protected
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
    proxy_set_header X-Tenant blue;
  }
`;

const spellings = [
  'X-Client-Id',
  'x-client-id',
  'X-CLIENT-ID',
  'X_Client_Id',
  'X-Client_Id',
  'X_CLIENT-ID',
  'X.Client.Id',
  'X-Client-Name',
  'X_Client_Name',
  'X.Client.Name',
  'X-Auth-Method',
  'X_Auth_Method',
  'X-Auth-Decision',
  'X-Auth-Reason',
  'X-Policy-Api-Keys-Enabled',
];

suite('identity headers', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack({
      edit: (conf) => conf.replace('  location / {   # protected', `${publicLocations}\n  location / {   # protected`),
    });
  });
  after(() => stack.stop());

  /** What the application saw of anything that looks like an identity. */
  const identities = () =>
    Object.entries(stack.application.seen.at(-1)?.headers ?? {})
      .filter(([name]) => /client.(?:id|name)|auth.(?:method|decision|reason)|policy/.test(name))
      .map(([name, values]) => [name, ...values]);

  const genuine = () =>
    identities().every(([name, value, second]) => {
      const isOurs = name === 'x-client-id' || name === 'x-client-name' || name === 'x-auth-method';
      return isOurs && value !== 'spoofed' && second === undefined;
    });

  for (const spelling of spellings) {
    test(`${spelling} from a client reaches no application, on any location`, async () => {
      for (const path of ['/', '/own-headers/x', '/public']) {
        const calls = stack.application.seen.length;
        const { status } = await stack.ask(path, { key: stack.adminKey, headers: { [spelling]: 'spoofed' } });
        assert.equal(status, 200);
        assert.equal(stack.application.seen.length, calls + 1);
        assert.ok(genuine(), JSON.stringify(identities()));
        assert.equal(identities().length, path === '/public' ? 0 : 3);
      }
    });
  }

  test('repeated, before Host, and with white space around the name they do not pass either', async () => {
    const authorization = `Authorization: apk ${stack.adminKey}\r\nConnection: close\r\n\r\n`;
    const heads = [
      'X-Client-Id: spoofed\r\nX-Client-Id: spoofed\r\nHost: localhost\r\n',
      'X_Client_Id: spoofed\r\nX.Client.Id: spoofed\r\nHost: localhost\r\n',
      'Host: localhost\r\nX-Client-Id : spoofed\r\n',
      'Host: localhost\r\n X-Client-Id: spoofed\r\n',
      'Host: localhost\r\nX-Client-Id:\tspoofed\r\n',
      'Host: localhost\r\nFoo: bar\r\n X-Client-Id: spoofed\r\n',
    ];
    for (const head of heads) {
      const calls = stack.application.seen.length;
      await stack.sendRaw(`GET / HTTP/1.1\r\n${head}${authorization}`);
      if (stack.application.seen.length > calls) assert.ok(genuine(), JSON.stringify(identities()));
    }
  });

  test('over HTTP/2 they do not pass', async () => {
    const session = connectHttp2(stack.url, { rejectUnauthorized: false });
    try {
      const stream = session.request({
        ':path': '/',
        authorization: `apk ${stack.adminKey}`,
        'x-client-id': ['spoofed', 'spoofed'],
        x_client_id: 'spoofed',
        'x-client-name': 'spoofed',
      });
      stream.resume();
      const status = await new Promise((resolve, reject) => {
        stream.on('response', (headers) => {
          resolve(headers[':status']);
        });
        stream.on('error', reject);
      });
      assert.equal(status, 200);
      assert.ok(genuine(), JSON.stringify(identities()));
      await new Promise((resolve) => stream.on('close', resolve));
    } finally {
      session.close();
    }
  });

  test('a location with a proxy_set_header of its own keeps the identity', async () => {
    await stack.ask('/own-headers/x', { key: stack.adminKey });
    const seen = stack.application.seen.at(-1)?.headers;
    assert.deepEqual(seen?.['x-tenant'], ['blue']);
    assert.deepEqual(seen['x-client-name'], ['bootstrap']);
  });

  test('a public location needs no credential and tells the application of no client', async () => {
    const { status } = await stack.ask('/public', { headers: { 'X-Client-Id': 'spoofed' } });
    assert.equal(status, 200);
    assert.deepEqual(identities(), []);
  });

  for (const spelling of [
    '/admin/../public',
    '/admin/%2e%2e/public',
    '/admin/..%2fpublic',
    '//public',
    '/%70ublic?x=1',
  ])
    test(`a public location spelt ${spelling} is that path to the application too`, async () => {
      const { status } = await stack.ask(spelling);
      assert.equal(status, 200);
      assert.equal(stack.application.seen.at(-1)?.url, spelling.endsWith('?x=1') ? '/public?x=1' : '/public');
    });

  test('names of any script arrive percent-encoded and decode to what was stored', async () => {
    const names = ['Zoë & Søn', 'ünï cödé 100%', '日本語の名前', 'Ω≈ç√'];
    for (const name of names) {
      const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name, api_client_id: name } });
      await stack.ask('/', { key: json['token'] as string });
      const seen = stack.application.seen.at(-1)?.headers;
      assert.match(seen?.['x-client-name']?.[0] ?? '', /^[!-~ ]+$/);
      assert.equal(decodeURIComponent(seen?.['x-client-name']?.[0] ?? ''), name);
      assert.equal(decodeURIComponent(seen?.['x-client-id']?.[0] ?? ''), name);
    }
  });

  test('the API key stays at the gateway; other schemes pass on a public location', async () => {
    await stack.ask('/', { key: stack.adminKey });
    assert.equal(stack.application.seen.at(-1)?.headers['authorization'], undefined);
    await stack.ask('/public', { headers: { Authorization: 'APK  whatever' } });
    assert.equal(stack.application.seen.at(-1)?.headers['authorization'], undefined);
    await stack.ask('/public', { headers: { Authorization: 'Basic dXNlcjpwYXNz' } });
    assert.deepEqual(stack.application.seen.at(-1)?.headers['authorization'], ['Basic dXNlcjpwYXNz']);
  });

  test('the application learns the address, scheme and host of the request from nginx alone', async () => {
    await stack.ask('/', {
      key: stack.adminKey,
      headers: {
        'X-Forwarded-For': '1.2.3.4',
        'X-Real-IP': '1.2.3.4',
        'X-Forwarded-Host': 'evil.example',
        'X-Original-URL': '/admin',
        'X-Rewrite-URL': '/admin',
        Proxy: 'http://evil.example',
        Forwarded: 'for=1.2.3.4',
        Host: 'app.test:9443',
      },
    });
    const seen = stack.application.seen.at(-1)?.headers;
    assert.deepEqual(seen?.['x-forwarded-for'], ['127.0.0.1']);
    assert.deepEqual(seen['x-real-ip'], ['127.0.0.1']);
    assert.equal(seen['forwarded'], undefined);
    assert.deepEqual(seen['x-forwarded-proto'], ['https']);
    assert.deepEqual(seen['host'], ['app.test:9443']);
    assert.deepEqual(seen['x-forwarded-host'], ['app.test:9443']);
    for (const name of ['x-original-url', 'x-rewrite-url', 'proxy']) assert.equal(seen[name], undefined);
    const absolute = `GET https://chosen.test/ HTTP/1.1\r\nHost: other.test\r\nAuthorization: apk ${stack.adminKey}\r\nConnection: close\r\n\r\n`;
    assert.match(await stack.sendRaw(absolute), /^HTTP\/1\.1 200 /);
    assert.deepEqual(stack.application.seen.at(-1)?.headers['host'], ['chosen.test']);
  });
});

suite('handing on the key', () => {
  test('is switched on by one line of default.conf', async () => {
    const stack = await startTestStack({
      edit: (conf) => conf.replace('# "~*^apk " $http_authorization;', '"~*^apk " $http_authorization;'),
    });
    try {
      await stack.ask('/', { key: stack.adminKey });
      assert.deepEqual(stack.application.seen.at(-1)?.headers['authorization'], [`apk ${stack.adminKey}`]);
    } finally {
      await stack.stop();
    }
  });
});
