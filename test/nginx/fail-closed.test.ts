import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { addLocations } from '../support/settings.ts';
import { startTestStack, until } from '../support/stack.ts';

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
