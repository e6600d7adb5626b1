import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { commandLineOf, done } from '../support/cli.ts';
import { audienceOf, startProvider, type Algorithm, type RealProvider } from '../support/provider.ts';
import { addLocations, example, setSettings } from '../support/settings.ts';
import { form, freePorts, startTestStack, until, type TestStack } from '../support/stack.ts';

const algorithms: Algorithm[] = ['RS256', 'ES256', 'EdDSA'];
const audiences = algorithms.map(audienceOf).join(' ');

const examples = [
  'location = /status',
  'include snippets/strict-paths.conf;',
  ...['admin', 'partner', 'orders'].flatMap((name) => [`location = /_apigw/decision/${name}`, `location ~* ^/${name}`]),
];

/** Locations with the partner's policy that send the request on inside nginx, and one with a location of its own. */
const insideRedirects = `
  location ~* ^/partner-rewrites/(.*) {   # protected
    auth_request /_apigw/decision/partner;
    rewrite ^/partner-rewrites(/.*) $1 last;
  }
  location ^~ /partner-tries/ {   # protected
    auth_request /_apigw/decision/partner;
    root /nonexistent;
    try_files $uri /v1/management/api-clients;
  }
  location ^~ /partner-nested/ {   # protected
    auth_request /_apigw/decision/partner;
    proxy_pass http://\${if_granted}application;
    location ~ [.]csv$ {   # protected
      proxy_pass http://\${if_granted}application;
    }
  }
`;

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
        const locations = examples
          .map((head) => example(conf, head))
          .concat(insideRedirects)
          .join('\n')
          .replace('https://login.partner.example', partner.url)
          .replace('https://api.example.com/partner', `"${audiences}"`);
        const settings = { open_id_connect_enabled: 'true', oidc_discovery: provider.url, oidc_audience: audiences };
        return addLocations(setSettings(conf, settings), locations);
      },
    });
    for (const json of [
      { name: 'oauth2-test-api-client', is_admin: true, api_client_id: 'abc123', generate_api_key: false },
      { name: 'of the partner', api_client_id: 'partner:abc123', generate_api_key: false },
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

  const { local } = commandLineOf(() => stack);
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
      assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-id'], ['partner:abc123']);
      assert.equal((await stack.ask('/partner/x', bearer(ours))).status, 401);
      assert.equal((await stack.ask('/', bearer(theirs))).status, 401);
    }
    assert.equal((await stack.ask('/partner/x', { key: stack.adminKey })).status, 401);
  });

  test('open nothing else where their location sends the request on inside nginx', async () => {
    const theirs = bearer(await partner.token('RS256'));
    const ours = bearer(await provider.token('RS256'));
    for (const path of ['/partner-rewrites/v1/management/api-clients', '/partner-tries/x']) {
      assert.equal((await stack.ask(path, theirs)).status, 401, path);
    }
    assert.equal((await stack.ask('/partner-rewrites/x', theirs)).status, 401);
    assert.equal((await stack.ask('/partner-rewrites/admin/x', ours)).status, 200);
    assert.equal((await stack.ask('/partner-nested/x.csv', ours)).status, 401);
    assert.equal((await stack.ask('/partner-nested/x.csv', theirs)).status, 200);
    assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-id'], ['partner:abc123']);
  });

  for (const path of [
    ...[
      '/ADMIN/x',
      '/Admin',
      '/admin.json',
      '/admin%20',
      '/%61dmin/x',
      '/x/../admin/x',
      '//admin/x',
      '/x/..;/admin/x',
      '/admin;v=1/x',
    ],
    ...['/x/..%2fadmin/x', '/x%2F..%2Fadmin/x', '/x/..%5cadmin/x', '/x\\..\\admin/x', '/x/%252e%252e/admin/x'],
    ...['/x/%2e%2e/admin/x', '/./admin/x', '/x/..', '/admin%00/x'],
    ...['/admin%3Bv=1/x', '/x%2Fadmin', '/x%5Cadmin', '/x%2fadmin'],
  ]) {
    test(`do not reach an admin-only location without is_admin as ${path}`, async () => {
      const before = stack.application.seen.length;
      const answer = await stack.ask(path, bearer(await provider.token('RS256', 'ordinary')));
      const isPlain = /^\/(?:admin|ADMIN|Admin|%61dmin)(?:\/x|\.json|%20)?$/.test(path);
      assert.equal(answer.status, isPlain ? 403 : 400);
      assert.match(answer.headers['content-type'] ?? '', /problem\+json/);
      assert.equal(stack.application.seen.length, before);
    });
  }

  test('find plain paths open where ambiguous ones are refused', async () => {
    const ordinary = bearer(await provider.token('RS256', 'ordinary'));
    for (const path of ['/x.y/..z/a...b', '/x?redirect=%2Fa;b//c/../d', '/caf%C3%A9/a+b/a%20b']) {
      assert.equal((await stack.ask(path, ordinary)).status, 200, path);
      assert.equal(stack.application.seen.at(-1)?.url, path);
    }
  });

  test('are not asked for on the public exact path', async () => {
    assert.equal((await stack.ask('/status')).status, 200);
    assert.equal((await stack.ask('/status/x')).status, 401);
  });

  test('need an issuer whose state /readyz tells in words', async () => {
    const { json } = await stack.ask('/readyz');
    const { issuers } = json['open_id_connect'] as { issuers: Record<string, unknown>[] };
    for (const { url } of [provider, partner]) {
      const state = issuers.find(({ issuer }) => issuer === url);
      assert.deepEqual([state?.['reachable'], state?.['keys'], state?.['last_error']], [true, 3, null]);
      assert.equal(typeof state?.['age'], 'number');
    }
  });

  test('are refused in the log by reason, issuer and key id, never by their text', async () => {
    const token = await provider.token('RS256');
    const forged = `${token.slice(0, -8)}AAAAAAAA`;
    assert.equal((await stack.ask('/', bearer(forged))).status, 401);
    const logged = new RegExp(
      `"issuer":"${provider.url}","kid":"first-RS256","expected":"a key of ${provider.url}[^"]*",` +
        '"seen":"kid first-RS256, alg RS256".*"msg":"Invalid token: bad_signature"',
    );
    await until('it is logged', () => logged.test(stack.output()));
    const signature = token.split('.')[2] ?? '-';
    assert.equal(stack.output().includes(signature.slice(0, 40)), false);
  });

  test('work on while the issuer is away, new keys are 503, and all is well when it is back', async () => {
    const token = await provider.token('ES256');
    await provider.rotate();
    const fresh = await provider.token('ES256');
    await provider.stop();
    assert.equal((await stack.ask('/', bearer(token))).status, 200);
    // 401 as long as the gateway has asked the issuer lately, and therefore knows its keys
    await until(
      'the gateway wants to ask the issuer',
      async () => {
        const { status, json } = await stack.ask('/', bearer(fresh));
        assert.ok([401, 503].includes(status), String(status));
        return json['reason'] === 'issuer_unavailable';
      },
      20_000,
    );
    assert.equal((await stack.ask('/', bearer(token))).status, 200);
    if (form !== 'workers') {
      const { stdout } = await done(local(['doctor']));
      assert.match(
        stdout,
        new RegExp(`^issuer +warning +${provider.url}\\S* cannot be fetched: .* 3 keys, \\d+ s old`, 'm'),
      );
      assert.match(stdout, new RegExp(`^issuer +ok +${partner.url}\\S*: 3 keys`, 'm'));
    }
    await provider.start();
    await until('a new key works', async () => (await stack.ask('/', bearer(fresh))).status === 200);
    // of several workers the others have not asked the issuer again
    if (form !== 'workers') assert.equal((await stack.ask('/', bearer(token))).status, 401);
  });
});
