import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { audienceOf, startProvider } from '../support/provider.ts';
import { addLocations, setSettings } from '../support/settings.ts';
import { freePorts, startTestStack, until } from '../support/stack.ts';

suite('keys that change', () => {
  test('are followed while everything runs', async () => {
    const [port = 0] = await freePorts(1);
    const provider = await startProvider(port, ['abc123']);
    const settings = {
      open_id_connect_enabled: 'on',
      api_keys_enabled: 'off',
      oidc_discovery: `${provider.url}/.well-known/openid-configuration`,
      oidc_audience: audienceOf('RS256'),
    };
    const stack = await startTestStack({
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) =>
        addLocations(
          setSettings(conf, settings),
          `  location = /_apigw/decision/keys {
    include snippets/decision.conf;
    proxy_set_header X-Policy-Api-Keys-Enabled on;
  }
  location /keys/ {   # protected
    auth_request /_apigw/decision/keys;
    proxy_pass http://\${if_granted}application;
  }`,
        ),
    });
    try {
      const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
      // API keys are off on this server, the management API included: the client is registered by the location's key
      assert.equal((await stack.ask('/keys/x', { key: stack.adminKey })).status, 200);
      const unregistered = await stack.ask('/', bearer(await provider.token('RS256')));
      assert.equal(unregistered.status, 403);
      const old = await provider.token('RS256');
      assert.equal((await stack.ask('/', bearer(old))).status, 403);
      await provider.rotate();
      const fresh = await provider.token('RS256');
      // within the cool-down the new key is unknown; it is found by one fetch after that
      await until('the new key is known', async () => (await stack.ask('/', bearer(fresh))).status === 403, 20_000);
      const refused = await stack.ask('/', bearer(old));
      assert.deepEqual([refused.status, refused.json['reason']], [401, 'unknown_signing_key']);
    } finally {
      await stack.stop();
      await provider.stop();
    }
  });
});
