import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { makeTempDir, startTestStack, type TestStack } from '../support/stack.ts';

const challenges = '/.well-known/acme-challenge';
const answer = 'token_of-an-order.thumbprint-of-an-account';

suite('the plain HTTP side, as shipped', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  for (const target of ['/', '/a?b', `${challenges}/token`, '/_apigw/decision', '/livez', '//x']) {
    test(`sends ${target} to HTTPS and serves nothing`, async () => {
      for (const method of ['GET', 'POST', 'OPTIONS', 'PROPFIND'])
        assert.equal((await stack.askInClear(target, { method })).status, 308, method);
      assert.deepEqual(stack.application.seen, []);
    });
  }

  for (const line of [
    'OPTIONS * HTTP/1.1',
    'GET * HTTP/1.1',
    'GET http://localhost HTTP/1.1',
    'CONNECT a:1 HTTP/1.1',
  ]) {
    test(`serves nothing for ${line}`, async () => {
      const head = `${line}\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
      assert.match(await stack.sendRaw(head, { tls: false }), /^HTTP\/1\.1 (?:308|40[05]) /);
    });
  }
});

suite('the example for ACME challenges in default.conf', () => {
  const webroot = makeTempDir();
  let stack: TestStack;
  before(async () => {
    const folder = join(webroot, challenges);
    mkdirSync(join(folder, 'folder'), { recursive: true });
    // nginx's workers are another user when root starts them
    chmodSync(webroot, 0o755);
    writeFileSync(join(folder, 'token_of-an-order'), answer);
    for (const secret of ['secret', `${challenges}/.secret`, `${challenges}/folder/secret`])
      writeFileSync(join(webroot, secret), 'secret');
    stack = await startTestStack({
      edit: (conf) => {
        const example = / {2}# location ~ [^\n]*acme-challenge[^]*?\n {2}# \}\n/;
        return conf.replace(example, (lines) => lines.replace(/^( *)# /gm, '$1').replace('/var/www/acme', webroot));
      },
    });
  });
  after(() => stack.stop());

  test('answers a challenge in clear, without a credential, and asks nobody', async () => {
    const { status, body, headers } = await stack.askInClear(`${challenges}/token_of-an-order`);
    assert.deepEqual([status, body], [200, answer]);
    assert.match(String(headers['x-request-id']), /^[0-9a-f]{32}$/);
    assert.equal((await stack.askInClear(`${challenges}/token_of-no-order`)).status, 404);
  });

  for (const path of [
    '/',
    '/secret',
    challenges,
    `${challenges}/`,
    `${challenges}/.secret`,
    `${challenges}/folder/secret`,
    `${challenges}/../../secret`,
    `${challenges}/..%2f..%2fsecret`,
    `${challenges}/%2e%2e/%2e%2e/secret`,
    `${challenges}/token_of-an-order%0a`,
  ]) {
    test(`sends ${path} to HTTPS as before`, async () => {
      assert.equal((await stack.askInClear(path)).status, 308);
    });
  }

  test('lists no folder, and takes nothing', async () => {
    const folder = await stack.askInClear(`${challenges}/folder`);
    assert.ok(folder.status === 301 || folder.status === 403, String(folder.status));
    assert.equal((await stack.askInClear(`${challenges}/token_of-an-order`, { method: 'PUT' })).status, 405);
  });

  test('opens nothing over TLS', async () => {
    assert.equal((await stack.ask(`${challenges}/token_of-an-order`)).status, 401);
    assert.deepEqual(stack.application.seen, []);
  });
});
