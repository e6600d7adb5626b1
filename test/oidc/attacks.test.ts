import assert from 'node:assert/strict';
import { request } from 'node:http';
import { join } from 'node:path';
import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { inspect } from 'node:util';
import { makeToken, startHostileIssuer, weakKeys, type HostileIssuer } from '../support/hostile-issuer.ts';
import { addLocations, locationWithPolicy, setSettings } from '../support/settings.ts';
import { startTestStack, until, type TestStack } from '../support/stack.ts';
import { madeUpKey } from '../support/keys.ts';

const audience = 'https://api.example.com';
/** A location with a whole policy of its own, as the server's but for these headers. */
const withClaims = (name: string, headers: Readonly<Record<string, string>>) =>
  locationWithPolicy(
    name,
    {
      'Open-Id-Connect-Enabled': 'on',
      'Oidc-Discovery': '$oidc_discovery',
      'Oidc-Audience': audience,
      ...headers,
    },
    'nothing',
  ).replace("'$oidc_discovery'", '$oidc_discovery');

suite('a token that must not be accepted', () => {
  let issuer: HostileIssuer;
  let stack: TestStack;
  before(async () => {
    issuer = await startHostileIssuer();
    stack = await startTestStack({
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) =>
        addLocations(
          setSettings(conf, { open_id_connect_enabled: 'on', oidc_discovery: issuer.url, oidc_audience: audience }),
          [
            withClaims('url', { 'Oidc-Client-Id-Claim': 'https://ns.example/client' }),
            withClaims('dotted', { 'Oidc-Client-Id-Claim': 'realm_access.clients.0' }),
            withClaims('array', { 'Oidc-Client-Id-Claim': '["a.b", "c"]' }),
            withClaims('proto', { 'Oidc-Client-Id-Claim': '__proto__' }),
            withClaims('inherited', { 'Oidc-Client-Id-Claim': 'constructor.name' }),
            withClaims('named', { 'Oidc-Client-Name-Claim': 'name' }),
            locationWithPolicy('rules', { 'Oidc-Required-Claims': 'repository_owner_id=123 groups=ops' }),
            locationWithPolicy('umlaut', { 'Oidc-Required-Claims': 'team=Zoë' }),
            locationWithPolicy('big', { 'Oidc-Required-Claims': 'owner=9007199254740993' }),
            locationWithPolicy('scoped', { 'Oidc-Required-Scopes': 'orders.read' }),
            locationWithPolicy('scopes', { 'Oidc-Required-Scopes': 'orders.read orders.write' }),
            locationWithPolicy('strict', {
              'Oidc-Algorithms': 'ES256',
              'Oidc-Max-Lifetime': '10m',
              'Oidc-Clock-Tolerance': '0',
            }),
            locationWithPolicy('admins', { 'Require-Admin': 'on' }),
          ].join('\n'),
        ),
    });
    await stack.manage('POST', stack.adminKey, '', { json: { api_client_id: 'abc123', name: 'registered' } });
  });
  after(async () => {
    await stack.stop();
    await issuer.close();
  });

  const now = () => Math.floor(Date.now() / 1000);
  const header = (members: object = {}) => ({ alg: 'RS256', kid: 'rsa', typ: 'at+jwt', ...members });
  const claims = (members: object = {}) => ({
    iss: issuer.url,
    aud: audience,
    sub: 'abc123',
    iat: now(),
    exp: now() + 300,
    ...members,
  });
  const good = (members: object = {}, head: object = {}) => makeToken(header(head), claims(members), issuer.rsa);
  const ask = (token: string, path = '/') => stack.ask(path, { headers: { Authorization: `Bearer ${token}` } });

  async function expectRefusal(token: string, reason: string, path = '/'): Promise<void> {
    const calls = stack.application.seen.length;
    const { status, json, headers } = await ask(token, path);
    assert.deepEqual([status, json['reason']], [401, reason]);
    assert.match(
      headers['www-authenticate'] ?? '',
      /Bearer realm="apigw", error="invalid_token", error_description="[ -~]+"$/,
    );
    assert.ok(headers['x-jwt-error']);
    assert.equal(stack.application.seen.length, calls);
  }

  test('(a good one is, so the others fail for their own reason)', async () => {
    assert.equal((await ask(good())).status, 200);
    for (const typ of ['JWT', 'jwt', 'application/at+jwt', undefined])
      assert.equal((await ask(good({}, { typ }))).status, 200);
    assert.equal((await ask(good({ aud: ['other', audience] }))).status, 200);
    assert.equal((await ask(makeToken(header({ alg: 'ES256', kid: 'ec' }), claims(), issuer.ec))).status, 200);
    assert.equal((await ask(good({ exp: now() - 5, iat: now() + 5, nbf: now() + 5 }))).status, 200);
    assert.equal((await ask(good({}, { kid: undefined }))).status, 200);
    assert.equal((await ask(good({ iat: undefined }))).status, 200);
  });

  for (const alg of [
    'none',
    'None',
    'NONE',
    'nOnE',
    ' none',
    '',
    'HS256',
    'HS384',
    'HS512',
    'RS1',
    'rs256',
    'RSA-OAEP',
    'A128KW',
    'dir',
    null,
    0,
    ['RS256'],
    undefined,
  ]) {
    test(`has the algorithm ${JSON.stringify(alg)}`, async () => {
      await expectRefusal(makeToken(header({ alg }), claims(), issuer.rsa), 'algorithm_not_allowed');
      const unsigned = makeToken(header({ alg }), claims(), Buffer.alloc(0));
      assert.equal((await ask(unsigned)).status, 401);
    });
  }

  test('is signed with HS256 and the public key as the secret', async () => {
    for (const secret of [issuer.rsaPublicPem, issuer.rsaPublicPem.trim(), JSON.stringify(issuer.keys.jwks[0])]) {
      for (const kid of ['rsa', 'oct', undefined]) {
        const unsigned = makeToken(header({ alg: 'HS256', kid }), claims(), Buffer.from('x'));
        const input = unsigned.slice(0, unsigned.lastIndexOf('.'));
        await expectRefusal(
          `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`,
          'algorithm_not_allowed',
        );
      }
    }
  });

  for (const kid of [
    '../../../../dev/null',
    '/etc/passwd',
    "rsa' OR '1'='1",
    'rsa\u0000',
    'rsa ',
    'RSA',
    'http://127.0.0.1/key',
  ]) {
    test(`has the key id ${JSON.stringify(kid)}`, async () => {
      await expectRefusal(good({}, { kid }), 'unknown_signing_key');
    });
  }

  test('has a key id of 4 KB, an empty one, or one that is no string', async () => {
    for (const kid of ['k'.repeat(4096), '', 7, null, ['rsa'], {}])
      await expectRefusal(good({}, { kid }), 'malformed_token');
  });

  const attacker = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const attackerEc = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const attackerJwk = attacker.publicKey.export({ format: 'jwk' });

  test('brings its own key: jwk, jku, x5u, x5c', async () => {
    for (const member of [
      { jwk: attackerJwk },
      { jku: 'http://127.0.0.1:1/jwks' },
      { x5u: 'http://127.0.0.1:1/x5u' },
      { x5c: ['MIIB'] },
    ]) {
      for (const kid of ['rsa', undefined]) {
        await expectRefusal(makeToken(header({ ...member, kid }), claims(), attacker.privateKey), 'bad_signature');
      }
      await expectRefusal(
        makeToken(header({ ...member, kid: 'theirs' }), claims(), attacker.privateKey),
        'unknown_signing_key',
      );
    }
  });

  const members: Record<string, object> = {
    'an unknown crit': { crit: ['exp'], exp: 1 },
    'an empty crit': { crit: [] },
    'crit b64': { crit: ['b64'], b64: false },
    'b64 alone': { b64: false },
    zip: { zip: 'DEF' },
    enc: { enc: 'A128GCM' },
    'cty JWT (a nested token)': { cty: 'JWT' },
  };
  for (const [what, member] of Object.entries(members)) {
    test(`has ${what} in its header`, async () => {
      await expectRefusal(good({}, member), 'unsupported_token');
    });
  }

  test('is encrypted (five parts), or has too many or too few', async () => {
    await expectRefusal('eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.aa.aa.aa.aa', 'encrypted_token');
    await expectRefusal(`${good()}.`, 'opaque_token');
    await expectRefusal(`${good()}.aa.aa.aa`, 'opaque_token');
    await expectRefusal('abcdefghijklmnop', 'opaque_token');
    await expectRefusal('..', 'malformed_token');
    await expectRefusal(`${good().split('.').slice(0, 2).join('.')}.`, 'malformed_token');
  });

  test('has two members of one name, in its header or its claims, at any depth', async () => {
    const payload = JSON.stringify(claims());
    const texts: [string, string][] = [
      ['{"alg":"none","alg":"RS256","kid":"rsa"}', payload],
      ['{"alg":"RS256","kid":"rsa","\\u0061lg":"none"}', payload],
      ['{"alg":"RS256","kid":"rsa"}', `${payload.slice(0, -1)},"sub":"abc123"}`],
      ['{"alg":"RS256","kid":"rsa"}', `${payload.slice(0, -1)},"a":{"b":[{"c":1,"c":2}]}}`],
    ];
    for (const [head, body] of texts) await expectRefusal(makeToken(head, body, issuer.rsa), 'malformed_token');
    // the same name in different objects, or as a value, is none
    const harmless = `${payload.slice(0, -1)},"a":{"sub":"sub","b":{"sub":["sub","sub"]}}}`;
    assert.equal((await ask(makeToken(header(), harmless, issuer.rsa))).status, 200);
  });

  test('is not in the one form of base64url', async () => {
    const [head = '', body = '', signature = ''] = good().split('.');
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    // a signature of 256 bytes ends in a character with four bits that carry nothing
    const last = alphabet[(alphabet.indexOf(signature.at(-1) ?? '') & 0b110000) | 1] ?? '';
    const respelt = `${head}.${body}.${signature.slice(0, -1)}${last === signature.at(-1) ? 'B' : last}`;
    assert.deepEqual(Buffer.from(respelt.split('.')[2] ?? '', 'base64url'), Buffer.from(signature, 'base64url'));
    await expectRefusal(respelt, 'malformed_token');
    for (const token of [`${head}.${body}.${signature}==`]) assert.equal((await ask(token)).status, 401);
    const standard = `${head}.${body}.${signature.replaceAll('-', '+').replaceAll('_', '/')}`;
    if (standard !== good()) assert.equal((await ask(standard)).status, 401);
  });

  const times: Record<string, [object, string]> = {
    'no exp': [{ exp: undefined }, 'invalid_claim'],
    'exp as a string': [{ exp: String(Date.now()) }, 'invalid_claim'],
    'exp null': [{ exp: null }, 'invalid_claim'],
    'exp in milliseconds': [{ exp: Date.now() + 300_000 }, 'lifetime_too_long'],
    'exp in a year, and no iat': [
      { exp: Math.floor(Date.now() / 1000) + 31_536_000, iat: undefined },
      'lifetime_too_long',
    ],
    'exp in a year': [{ exp: Math.floor(Date.now() / 1000) + 31_536_000 }, 'lifetime_too_long'],
    'exp in the past': [{ exp: Math.floor(Date.now() / 1000) - 60 }, 'token_expired'],
    'exp 0': [{ exp: 0 }, 'token_expired'],
    'exp negative': [{ exp: -1 }, 'token_expired'],
    'nbf in the future': [{ nbf: Math.floor(Date.now() / 1000) + 120 }, 'token_not_yet_valid'],
    'nbf as a string': [{ nbf: '0' }, 'invalid_claim'],
    'iat in the future': [{ iat: Math.floor(Date.now() / 1000) + 120 }, 'token_not_yet_valid'],
    'iat as a string': [{ iat: '0' }, 'invalid_claim'],
  };
  for (const [what, [member, reason]] of Object.entries(times)) {
    test(`has ${what}`, async () => {
      await expectRefusal(good(member), reason);
    });
  }

  test('has an infinite exp, or iat', async () => {
    const body = JSON.stringify(claims());
    for (const infinite of ['1e999', '-1e999']) {
      const exp = makeToken(header(), body.replace(/"exp":\d+/, `"exp":${infinite}`), issuer.rsa);
      assert.equal((await ask(exp)).status, 401);
      const iat = makeToken(header(), body.replace(/"iat":\d+/, `"iat":${infinite}`), issuer.rsa);
      await expectRefusal(iat, 'invalid_claim');
    }
  });

  const audiences: unknown[] = [
    undefined,
    null,
    '',
    [],
    'other',
    `${audience}/`,
    `${audience}.evil.example`,
    audience.slice(0, -1),
    audience.toUpperCase(),
    [`${audience} `],
    { [audience]: 1 },
    7,
  ];
  for (const aud of audiences) {
    test(`has the audience ${JSON.stringify(aud)}`, async () => {
      const { status, json } = await ask(good({ aud }));
      assert.equal(status, 401);
      assert.match(json['reason'] as string, /^(?:wrong_audience|invalid_claim)$/);
    });
  }

  test('has another issuer: none, with a slash, in another case, a prefix, a list', async () => {
    for (const iss of [`${issuer.url}/`, issuer.url.toUpperCase(), issuer.url.slice(0, -1), 'https://evil.example']) {
      await expectRefusal(good({ iss }), 'wrong_issuer');
    }
    for (const iss of [undefined, null, [issuer.url]]) assert.equal((await ask(good({ iss }))).status, 401);
  });

  test('is signed with ES256 and r = s = 0, or in DER, or by another key', async () => {
    const head = header({ alg: 'ES256', kid: 'ec' });
    await expectRefusal(makeToken(head, claims(), Buffer.alloc(64)), 'bad_signature');
    await expectRefusal(makeToken(head, claims(), Buffer.from('MEUCIQ', 'base64')), 'bad_signature');
    await expectRefusal(makeToken(head, claims(), attackerEc.privateKey), 'bad_signature');
    await expectRefusal(makeToken(header({ alg: 'ES256', kid: 'rsa' }), claims(), issuer.ec), 'unknown_signing_key');
  });

  test('is signed with RSA of 1024 bits, or with a symmetric key of the key set', async () => {
    const weak = weakKeys.get(issuer.rsa) as KeyObject;
    await expectRefusal(makeToken(header({ kid: 'weak' }), claims(), weak), 'unknown_signing_key');
    const unsigned = makeToken(header({ alg: 'HS256', kid: 'oct' }), claims(), Buffer.from('x'));
    const input = unsigned.slice(0, unsigned.lastIndexOf('.'));
    await expectRefusal(
      `${input}.${createHmac('sha256', 'secret').update(input).digest('base64url')}`,
      'algorithm_not_allowed',
    );
  });

  test('is another token of the same issuer: ID, refresh, offline, logout', async () => {
    for (const member of [
      { nonce: 'n' },
      { at_hash: 'x' },
      { c_hash: 'x' },
      { typ: 'ID' },
      { typ: 'Refresh' },
      { typ: 'Offline' },
      ...[{ token_use: 'id' }, { token_use: 'refresh' }, { token_use: '' }, { token_use: 7 }],
      { events: { 'http://schemas.openid.net/event/backchannel-logout': {} } },
      { typ: 'Bearer', events: { 'http://schemas.openid.net/event/backchannel-logout': {} } },
    ]) {
      await expectRefusal(good(member), 'not_an_access_token');
    }
    assert.equal((await ask(good({ nonce: 'n', typ: 'Bearer' }))).status, 200);
    assert.equal((await ask(good({ token_use: 'access' }))).status, 200);
    for (const typ of ['logout+jwt', 'dpop+jwt', 'secevent+jwt', 'at+jwt+x', '', 7, null]) {
      await expectRefusal(good({}, { typ }), 'not_an_access_token');
    }
  });

  test('has more than 16 KB', async () => {
    const length = good({ filler: '' }).length;
    // three bytes of the payload are four characters of the token
    const filled = (characters: number) => good({ filler: 'x'.repeat(Math.floor(((characters - length) * 3) / 4)) });
    // nginx takes header lines up to 16 KB, so that its answer comes first at the front door
    assert.equal((await ask(filled(15_000))).status, 200);
    assert.equal((await ask(filled(17_000))).status, 431);
    assert.equal(await decide(filled(16_300)), 'granted');
    assert.equal(await decide(filled(16_500)), 'token_too_large');
  });

  test('has JSON nested deeper than any token is', async () => {
    const nested = (depth: number) =>
      makeToken(
        header(),
        `${JSON.stringify(claims()).slice(0, -1)},"a":${'['.repeat(depth)}${']'.repeat(depth)}}`,
        issuer.rsa,
      );
    assert.equal((await ask(nested(20))).status, 200);
    for (const depth of [40, 4_000]) await expectRefusal(nested(depth), 'malformed_token');
  });

  /** What nginx is told: the reason, or that the decision is granted. */
  const decide = (token: string) =>
    new Promise<unknown>((resolve, reject) => {
      const call = request({
        socketPath: join(stack.stack.runDir, 'decision.sock'),
        path: '/decision',
        agent: false,
        headers: {
          Authorization: `Bearer ${token}`,
          'X-Policy-Open-Id-Connect-Enabled': 'on',
          'X-Policy-Oidc-Discovery': issuer.url,
          'X-Policy-Oidc-Audience': audience,
        },
      });
      call.on('error', reject);
      call.on('response', ({ headers }) => {
        resolve(headers['x-auth-reason'] ?? headers['x-auth-decision']);
      });
      call.end();
    });

  const clientIds: unknown[] = [
    undefined,
    '',
    null,
    {},
    [],
    ['abc123'],
    true,
    1.5,
    'x'.repeat(3_000),
    'abc123\r\nX-Client-Id: admin',
    'abc\u0000123',
    '\ud800',
  ];
  for (const sub of clientIds) {
    test(`names its client as ${inspect(sub).slice(0, 40)}`, async () => {
      await expectRefusal(good({ sub }), 'no_client_id_claim');
    });
  }

  test('names no registered client', async () => {
    for (const sub of ['other', 'ABC123', 'abc123 ', ' abc123', '__proto__', 'constructor', 7]) {
      const { status, json } = await ask(good({ sub }));
      assert.deepEqual([status, json['reason']], [403, 'unknown_client']);
    }
  });

  test('has the claim elsewhere than the location says; in the right place it is found', async () => {
    const places: [string, object][] = [
      ['/url/', { 'https://ns.example/client': 'abc123' }],
      ['/dotted/', { realm_access: { clients: ['abc123'] } }],
      ['/array/', { 'a.b': { c: 'abc123' } }],
    ];
    for (const [path, member] of places) {
      assert.equal((await ask(good({ sub: 'other', ...member }), path)).status, 200, path);
      await expectRefusal(good(), 'no_client_id_claim', path);
    }
    await expectRefusal(good(), 'no_client_id_claim', '/inherited/');
    await expectRefusal(good(), 'no_client_id_claim', '/proto/');
    const polluted = `${JSON.stringify(claims()).slice(0, -1)},"__proto__":{"sub":"abc123"}}`;
    await expectRefusal(makeToken(header(), polluted, issuer.rsa), 'no_client_id_claim', '/proto/');
  });

  test('lacks a claim that the location requires', async () => {
    assert.equal((await ask(good({ repository_owner_id: 123, groups: ['dev', 'ops'] }), '/rules/')).status, 200);
    for (const member of [
      {},
      { repository_owner_id: '123' },
      { repository_owner_id: '1234', groups: 'ops' },
      { repository_owner_id: '123', groups: 'opsx' },
      { groups: 'ops' },
    ]) {
      const { status, json } = await ask(good(member), '/rules/');
      assert.deepEqual([status, json['reason']], [403, 'claim_required']);
    }
  });

  test('was good until it expired: what is remembered of it ends with it', async () => {
    const token = good({ exp: now() - 28 });
    assert.equal((await ask(token)).status, 200);
    const deadline = Date.now() + 8_000;
    let status = 200;
    while (status === 200 && Date.now() < deadline) ({ status } = await ask(token));
    assert.equal(status, 401);
  });

  test("has a name with line ends, or none: the application gets the API client's", async () => {
    for (const name of ['x\r\nX-Client-Id: admin', 'x\u0000', '', 7.5, {}, 'x'.repeat(1_025), undefined]) {
      assert.equal((await ask(good({ name }), '/named/')).status, 200);
      assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-name'], ['registered']);
      assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-id'], ['abc123']);
    }
    assert.equal((await ask(good({ name: 'Zoë' }), '/named/')).status, 200);
    assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-name'], ['Zo%C3%AB']);
  });

  test('has a scope that only looks like the required one', async () => {
    for (const member of [
      ...[{}, { scope: '' }, { scope: 'orders.reader' }, { scope: 'xorders.read' }, { scope: 'orders' }],
      ...[
        { scope: 'orders,orders.read' },
        { scope: 7 },
        { scope: [['orders.read']] },
        { scope: 'x', scp: 'orders.read' },
      ],
    ]) {
      const { status, json } = await ask(good(member), '/scoped/');
      assert.deepEqual([status, json['reason']], [403, 'insufficient_scope'], JSON.stringify(member));
    }
    for (const member of [{ scope: 'a orders.read' }, { scope: ['orders.read'] }, { scp: 'orders.read b' }]) {
      assert.equal((await ask(good(member), '/scoped/')).status, 200, JSON.stringify(member));
    }
  });

  test('has one of two required scopes', async () => {
    for (const scope of ['orders.read', 'orders.write']) {
      assert.equal((await ask(good({ scope }), '/scopes/')).json['reason'], 'insufficient_scope');
    }
    assert.equal((await ask(good({ scope: 'orders.write orders.read' }), '/scopes/')).status, 200);
  });

  test('is good for the server and not for a location that is stricter', async () => {
    const signed = (members: object) =>
      makeToken(header({ alg: 'ES256', kid: 'ec' }), claims({ exp: now() + 300, ...members }), issuer.ec);
    assert.equal((await ask(signed({}), '/strict/')).status, 200);
    await expectRefusal(good(), 'algorithm_not_allowed', '/strict/');
    await expectRefusal(signed({ exp: now() + 3_600 }), 'lifetime_too_long', '/strict/');
    await expectRefusal(signed({ exp: now() - 5 }), 'token_expired', '/strict/');
    for (const token of [good(), signed({ exp: now() + 3_600 }), signed({ exp: now() - 5 })]) {
      assert.equal((await ask(token)).status, 200);
    }
  });

  test('or a key, of a client that is no administrator does not open a location for administrators', async () => {
    const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name: 'ordinary' } });
    const calls = stack.application.seen.length;
    const withKey = await stack.ask('/admins/', { key: json['token'] as string });
    assert.deepEqual([withKey.status, withKey.json['reason']], [403, 'admin_required']);
    assert.equal((await ask(good(), '/admins/')).json['reason'], 'admin_required');
    assert.equal(stack.application.seen.length, calls);
    assert.equal((await stack.ask('/admins/', { key: stack.adminKey })).status, 200);
  });

  test('is bound to a key of its holder', async () => {
    for (const cnf of [{ jkt: 'x' }, { 'x5t#S256': 'x' }, null])
      await expectRefusal(good({ cnf }), 'unsupported_token');
  });

  test('is not UTF-8', async () => {
    const bytes = Buffer.concat([
      Buffer.from(JSON.stringify(claims()).slice(0, -1)),
      Buffer.from(',"a":"\xff"}', 'latin1'),
    ]);
    const [head = '', , signature = ''] = good().split('.');
    await expectRefusal(`${head}.${bytes.toString('base64url')}.${signature}`, 'malformed_token');
  });

  test('has a number that only rounds to the required one, or lacks what is beyond ASCII', async () => {
    const rounded = `${JSON.stringify(claims()).slice(0, -1)},"owner":9007199254740992}`;
    assert.equal((await ask(makeToken(header(), rounded, issuer.rsa), '/big/')).status, 403);
    assert.equal((await ask(good({ owner: '9007199254740993' }), '/big/')).status, 200);
    assert.equal((await ask(good({ team: 'Zoe' }), '/umlaut/')).status, 403);
    assert.equal((await ask(good({ team: 'Zoë' }), '/umlaut/')).status, 200);
  });

  test('lacks something, and its client is not registered: what it lacks is said first, and logged with its issuer', async () => {
    const { json } = await ask(good({ sub: 'nobody' }), '/scoped/');
    assert.equal(json['reason'], 'insufficient_scope');
    await until('it is logged', () =>
      new RegExp(
        `"reason":"insufficient_scope","request_id":"${String(json['request_id'])}","issuer":"${issuer.url}","kid":"rsa","client_id":"nobody","expected":"orders.read","seen":"`,
      ).test(stack.output()),
    );
  });

  test('is of a client that is disabled, until it is enabled again', async () => {
    const { json } = await stack.manage('POST', stack.adminKey, '', { json: { api_client_id: 'pausing' } });
    const token = good({ sub: 'pausing' });
    const statuses = async () => [
      (await ask(token)).json['reason'],
      (await stack.ask('/', { key: json['token'] as string })).json['reason'],
      (await ask(token, '/v1/management/api-clients')).json['reason'],
    ];
    assert.deepEqual(await statuses(), [undefined, undefined, 'admin_required']);
    const put = (enabled: boolean) =>
      stack.manage('PUT', stack.adminKey, `/${String(json['id'])}`, { json: { enabled } });
    assert.equal((await put(false)).json['enabled'], false);
    assert.deepEqual(await statuses(), ['forbidden', 'forbidden', 'forbidden']);
    assert.equal((await stack.ask('/', { key: madeUpKey(Number(json['id'])) })).status, 401);
    await put(true);
    assert.deepEqual(await statuses(), [undefined, undefined, 'admin_required']);
  });

  test('causes no fetch of its own: all of these asked the issuer a few times only', () => {
    const fetches = issuer.asked.get('/jwks') ?? 0;
    assert.ok(fetches <= 5, `${fetches} fetches of the key set`);
    assert.deepEqual([...issuer.asked.keys()].sort(), ['/.well-known/openid-configuration', '/jwks']);
  });
});
