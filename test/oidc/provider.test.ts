import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { audienceOf, startProvider, type Algorithm, type RealProvider } from '../support/provider.ts';
import { addLocations, example, setSettings } from '../support/settings.ts';
import { freePorts, startTestStack, until, type TestStack } from '../support/stack.ts';

const algorithms: Algorithm[] = ['RS256', 'ES256', 'EdDSA'];
const audiences = algorithms.map(audienceOf).join(' ');

suite('access tokens of a real OpenID Provider', () => {
  let provider: RealProvider;
  let partner: RealProvider;
  let stack: TestStack;
  before(async () => {
    const [port, partnerPort] = await freePorts(2);
    provider = await startProvider(port, ['abc123', 'stranger', 'ordinary', 'short-lived']);
    partner = await startProvider(partnerPort, ['abc123']);
    stack = await startTestStack({
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) => {
        const examples = ['location = /status', 'location /admin/', 'location /partner/', 'location /orders/'];
        const locations = examples
          .map((head) => example(conf, head))
          .join('\n')
          .replace('https://login.partner.example', partner.url)
          .replace('https://api.example.com/partner', `"${audiences}"`);
        const settings = { open_id_connect_enabled: 'true', oidc_discovery: provider.url, oidc_audience: audiences };
        return addLocations(setSettings(conf, settings), locations);
      },
    });
    for (const json of [
      { name: 'oauth2-test-api-client', is_admin: true, api_client_id: 'abc123', generate_api_key: false },
      { name: 'ordinary client', api_client_id: 'ordinary', generate_api_key: false },
    ]) {
      await stack.manage('POST', stack.adminKey, '', { json });
    }
  });
  after(async () => {
    await stack.stop();
    await provider.stop();
    await partner.stop();
  });

  const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

  for (const algorithm of algorithms) {
    test(`signed with ${algorithm} reach the application, which learns the client`, async () => {
      const token = await provider.token(algorithm);
      const { status } = await stack.ask('/', bearer(token));
      assert.equal(status, 200);
      const seen = stack.application.seen.at(-1)?.headers;
      assert.deepEqual(seen?.['x-client-id'], ['abc123']);
      assert.deepEqual(seen['x-client-name'], ['abc123']);
      assert.deepEqual(seen['x-auth-method'], ['jwt']);
      assert.deepEqual(seen['authorization'], [`Bearer ${token}`]);
      assert.equal((await stack.ask('/', bearer(token))).status, 200);
    });
  }

  test('and API keys work beside each other; the challenge names both', async () => {
    assert.equal((await stack.ask('/', { key: stack.adminKey })).status, 200);
    const { status, headers } = await stack.ask('/');
    assert.equal(status, 401);
    assert.equal(headers['www-authenticate'], 'apk realm="apigw", Bearer realm="apigw"');
    assert.equal(headers['x-jwt-error'], undefined);
  });

  test('manage when their client is an administrator, and only then', async () => {
    const admin = await stack.ask('/v1/management/api-clients', bearer(await provider.token('RS256')));
    assert.equal(admin.status, 200);
    const ordinary = await stack.ask('/v1/management/api-clients', bearer(await provider.token('RS256', 'ordinary')));
    assert.deepEqual([ordinary.status, ordinary.json['reason']], [403, 'admin_required']);
  });

  test('of a client that is not registered are 403, until it is; and again once it is deleted', async () => {
    const token = await provider.token('ES256', 'stranger');
    const ask = async () => (await stack.ask('/', bearer(token))).status;
    const refused = await stack.ask('/', bearer(token));
    assert.deepEqual([refused.status, refused.json['reason']], [403, 'unknown_client']);
    const { json } = await stack.manage('POST', stack.adminKey, '', { json: { api_client_id: 'stranger' } });
    assert.equal(await ask(), 200);
    await stack.manage('PUT', stack.adminKey, `/${String(json['id'])}`, { json: { api_client_id: 'renamed' } });
    assert.equal(await ask(), 403);
    await stack.manage('PUT', stack.adminKey, `/${String(json['id'])}`, { json: { api_client_id: 'stranger' } });
    assert.equal(await ask(), 200);
    await stack.manage('DELETE', stack.adminKey, `/${String(json['id'])}`);
    assert.equal(await ask(), 403);
  });

  test('that are opaque are 401, with a reason that says so', async () => {
    const { status, json, headers } = await stack.ask('/', bearer(await provider.opaqueToken()));
    assert.deepEqual([status, json['reason']], [401, 'opaque_token']);
    assert.match(
      headers['www-authenticate'] ?? '',
      /Bearer realm="apigw", error="invalid_token", error_description="The access token is not a JWT/,
    );
    assert.match(String(headers['x-jwt-error']), /not a JWT/);
  });

  test('open an admin-only location to administrators alone', async () => {
    assert.equal((await stack.ask('/admin/x', bearer(await provider.token('RS256')))).status, 200);
    assert.equal((await stack.ask('/admin/x', { key: stack.adminKey })).status, 200);
    const { status, json } = await stack.ask('/admin/x', bearer(await provider.token('RS256', 'ordinary')));
    assert.deepEqual([status, json['reason']], [403, 'admin_required']);
    assert.equal((await stack.ask('/', bearer(await provider.token('RS256', 'ordinary')))).status, 200);
  });

  test('open a location that needs a scope only with that scope', async () => {
    const without = await stack.ask('/orders/x', bearer(await provider.token('RS256')));
    assert.deepEqual([without.status, without.json['reason']], [403, 'insufficient_scope']);
    assert.equal(
      without.headers['www-authenticate'],
      'Bearer realm="apigw", error="insufficient_scope", scope="orders.read"',
    );
    const scoped = await provider.token('RS256', 'abc123', 'orders.read');
    assert.equal((await stack.ask('/orders/x', bearer(scoped))).status, 200);
    assert.equal((await stack.ask('/orders/x', { key: stack.adminKey })).status, 401);
  });

  test("of one issuer do not open another issuer's location, however often they were good elsewhere", async () => {
    const [ours, theirs] = [await provider.token('RS256'), await partner.token('RS256')];
    for (let round = 0; round < 3; round++) {
      assert.equal((await stack.ask('/', bearer(ours))).status, 200);
      assert.equal((await stack.ask('/partner/x', bearer(theirs))).status, 200);
      assert.equal((await stack.ask('/partner/x', bearer(ours))).status, 401);
      assert.equal((await stack.ask('/', bearer(theirs))).status, 401);
    }
    assert.equal((await stack.ask('/partner/x', { key: stack.adminKey })).status, 401);
  });

  test('are not asked for on the public exact path', async () => {
    assert.equal((await stack.ask('/status')).status, 200);
    assert.equal((await stack.ask('/status/x')).status, 401);
  });

  test('need an issuer whose state /readyz tells in words', async () => {
    const { json } = await stack.ask('/readyz');
    const state = json['open_id_connect'] as Record<string, unknown>;
    assert.deepEqual(
      [state['issuer'], state['reachable'], state['keys'], state['last_error']],
      [provider.url, true, 3, null],
    );
    assert.equal(typeof state['age'], 'number');
  });

  test('are refused in the log by reason, issuer and key id, never by their text', async () => {
    const token = await provider.token('RS256');
    const forged = `${token.slice(0, -8)}AAAAAAAA`;
    assert.equal((await stack.ask('/', bearer(forged))).status, 401);
    await until('it is logged', () => /"kid":"first-RS256","msg":"Invalid token: bad_signature"/.test(stack.output()));
    assert.ok(stack.output().includes(`"discovery":"${provider.url}/.well-known/openid-configuration"`));
    const signature = token.split('.')[2] ?? '-';
    assert.equal(stack.output().includes(signature.slice(0, 40)), false);
  });

  test('work on while the issuer is away, new keys do not, and all is well when it is back', async () => {
    const token = await provider.token('ES256');
    await provider.stop();
    assert.equal((await stack.ask('/', bearer(token))).status, 200);
    await provider.start();
    await until(
      'a new token works',
      async () => (await stack.ask('/', bearer(await provider.token('ES256')))).status === 200,
    );
  });
});

suite('keys that change', () => {
  test('are followed while everything runs', async () => {
    const [port] = await freePorts(2);
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
          '  location /keys/ {   # protected\n    set $api_keys_enabled on;\n    proxy_pass http://${if_granted}application;\n    include snippets/proxy.conf;\n  }',
        ),
    });
    try {
      const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
      // API keys are off on this server, the management API included: the client is registered by the location's key
      assert.equal((await stack.ask('/keys/x', { key: stack.adminKey })).status, 200);
      const unregistered = await stack.ask('/', bearer(await provider.token('RS256')));
      assert.equal(unregistered.status, 403);
      const old = await provider.token('RS256');
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
