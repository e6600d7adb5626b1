import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { addLocations, addServer } from '../support/settings.ts';
import { startTestStack, until, type TestStack } from '../support/stack.ts';

const values = ['off', 'of', '', 'false'];
// nobody listens on port 1
const away = 'upstream away {\n  server 127.0.0.1:1;\n}\n';
const locations = `
  location /typo {
    auth_request /_apigw/decison;
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
  location /bare { proxy_pass http://\${if_granted}application; }   # protected
  location /away { proxy_pass http://\${if_granted}away; }   # protected
`;

suite('default.conf', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack({
      edit: (conf) =>
        values.reduce(
          (text, value, index) => addServer(text, `s${index}.example`, { api_keys_enabled: value }),
          addLocations(conf.replace('upstream application {', `${away}upstream application {`), locations),
        ),
    });
  });
  after(() => stack.stop());

  test('with a typo in auth_request does not open the application', async () => {
    const calls = stack.application.seen.length;
    for (const key of [undefined, stack.adminKey]) {
      const { status } = await stack.ask('/typo', { key });
      assert.equal(status, 503);
    }
    assert.equal(stack.application.seen.length, calls);
  });

  test('with a location that forgets the headers of the identity has them nevertheless', async () => {
    await stack.ask('/bare', { key: stack.adminKey, headers: { 'X-Client-Id': 'spoofed', 'X-Auth-Method': 'jwt' } });
    const seen = stack.application.seen.at(-1)?.headers;
    assert.deepEqual([seen?.['x-client-name'], seen?.['x-auth-method']], [['bootstrap'], ['api_key']]);
    assert.equal(seen?.['x-client-id']?.includes('spoofed'), false);
    assert.equal(seen['authorization'], undefined);
  });

  for (const [index, value] of values.entries()) {
    test(`with $api_keys_enabled ${JSON.stringify(value)} lets no key open anything`, async () => {
      const calls = stack.application.seen.length;
      for (const path of ['/', '/v1/management/api-clients']) {
        const { status, json } = await stack.ask(path, { key: stack.adminKey, headers: { Host: `s${index}.example` } });
        assert.deepEqual([status, json['reason']], [403, 'authentication_disabled']);
      }
      assert.equal(stack.application.seen.length, calls);
    });
  }

  test('with an application that is away answers 502, which is no refusal', async () => {
    const { status, json } = await stack.ask('/away', { key: stack.adminKey });
    assert.deepEqual([status, json['reason']], [502, 'application_unavailable']);
    await until('the log says why', () =>
      stack.accessLog().some(({ auth_reason }) => auth_reason === 'application_unavailable'),
    );
  });
});
