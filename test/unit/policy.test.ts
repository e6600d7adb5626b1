import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import {
  createPolicyCompiler,
  nothingSet,
  policySettings,
  type PolicySetting,
  type PolicySource,
} from '../../src/auth/policy.ts';
import { parseRequestHead } from '../../src/http/request-head.ts';
import { readGatewayHeaders, readPolicy } from '../../src/http/request-headers.ts';

const compilePolicy = createPolicyCompiler({ allowInsecureHttp: false });
const source = (settings: Partial<Record<PolicySetting, string>>): PolicySource => ({ ...nothingSet, ...settings });

const openIdConnect = (settings: Partial<Record<PolicySetting, string>>) =>
  source({
    open_id_connect_enabled: 'on',
    oidc_discovery: 'https://issuer.example',
    oidc_audience: 'api',
    ...settings,
  });

suite('a policy', () => {
  for (const value of ['on', 'true', 'yes', '1', 'On', 'TRUE']) {
    test(`is switched on by ${value}`, () => {
      assert.equal(compilePolicy(source({ api_keys_enabled: value })).apiKeysEnabled, true);
    });
  }

  for (const value of ['onn', 'of', '-', ',', 'disabled']) {
    test(`requires an administrator for the mistyped switch ${JSON.stringify(value)}`, () => {
      assert.equal(compilePolicy(source({ require_admin: value })).requireAdmin, true);
    });

    test(`verifies certificates for the mistyped switch ${JSON.stringify(value)}`, () => {
      const { tokens } = compilePolicy(openIdConnect({ oidc_ssl_verify: value === ',' ? 'noo' : value }));
      assert.equal(tokens?.issuer.verifyCertificate, true);
    });
  }

  test('does not take "any" for an audience among others', () => {
    assert.deepEqual(compilePolicy(openIdConnect({ oidc_audience: 'api any' })).tokens?.audiences, ['api', 'any']);
    assert.equal(compilePolicy(openIdConnect({ oidc_audience: 'any' })).tokens?.audiences, undefined);
  });

  for (const value of ['', 'off', 'false', '0', 'onn', 'on ', ' on', 'on,on', 'enabled', '$api_keys_enabled']) {
    test(`is off for ${JSON.stringify(value)}`, () => {
      const policy = compilePolicy(source({ api_keys_enabled: value, open_id_connect_enabled: value }));
      assert.deepEqual([policy.apiKeysEnabled, policy.openIdConnectEnabled, policy.challenge], [false, false, '']);
    });
  }

  test('is compiled once', () => {
    const both = source({ api_keys_enabled: 'on', open_id_connect_enabled: 'on' });
    assert.equal(compilePolicy(both), compilePolicy({ ...both }));
    assert.equal(compilePolicy(both).challenge, 'apk realm="apigw", Bearer realm="apigw"');
  });
});

suite('the headers from nginx', () => {
  test('keep the first of nothing: two Authorization lines are ambiguous', () => {
    const { authorization } = readGatewayHeaders(['Authorization', 'apk 1.x', 'AUTHORIZATION', 'apk 1.x']);
    assert.equal(authorization, ',');
  });

  const twice = (setting: string, first: string, second: string) =>
    compilePolicy(
      readPolicy(
        readGatewayHeaders(
          ['X-Policy-Open-Id-Connect-Enabled', 'on']
            .concat('X-Policy-Oidc-Discovery', 'https://issuer.example', 'X-Policy-Oidc-Audience', 'api')
            .concat('X-Policy', `${setting.toLowerCase().replaceAll('-', '_')}=${first}`)
            .concat(`x-policy-${setting.toLowerCase()}`, second),
        ).policyLines,
      ),
    );

  test('that come twice narrow what is accepted', () => {
    assert.equal(twice('Api-Keys-Enabled', 'on', 'on').apiKeysEnabled, true);
    assert.equal(twice('Api-Keys-Enabled', 'on', 'off').apiKeysEnabled, false);
    assert.equal(twice('Api-Keys-Enabled', 'off', 'on').apiKeysEnabled, false);
    assert.equal(twice('Require-Admin', 'off', 'on').requireAdmin, true);
    assert.equal(twice('Require-Admin', 'on', 'off').requireAdmin, true);
    assert.equal(twice('Oidc-Ssl-Verify', 'no', 'yes').tokens?.issuer.verifyCertificate, true);
    assert.equal(twice('Oidc-Ssl-Verify', '', 'no').tokens?.issuer.verifyCertificate, true);
    assert.equal(twice('Api-Keys-Enabled', '', 'on').apiKeysEnabled, false);
    assert.equal(twice('Api-Keys-Enabled', 'on', 'on').apiKeysEnabled, true);
    assert.deepEqual(twice('Oidc-Algorithms', '', 'RS256').tokens?.algorithms, ['RS256']);
    assert.deepEqual(twice('Oidc-Algorithms', 'RS256 ES256', 'ES256 PS256').tokens?.algorithms, ['ES256']);
    assert.equal(twice('Oidc-Max-Lifetime', '24h', '5m').tokens?.maxLifetime, 300);
    assert.equal(twice('Oidc-Max-Lifetime', '', '48h').tokens?.maxLifetime, 86_400);
    assert.equal(twice('Oidc-Clock-Tolerance', '0', '5m').tokens?.clockTolerance, 0);
    assert.deepEqual(twice('Oidc-Required-Scopes', 'a', 'b').tokens?.requiredScopes, ['a', 'b']);
    assert.equal(twice('Oidc-Required-Claims', 'a=1', 'b=2').tokens?.requiredClaims.length, 2);
  });

  for (const setting of [
    'Issuer',
    'Client-Id-Claim',
    'Client-Id-Prefix',
    'Client-Name-Claim',
    'Algorithms',
    'Ca-File',
  ]) {
    test(`that come twice with different values are a mistake where neither is the narrower one: ${setting}`, () => {
      const { tokens, problems } = twice(`Oidc-${setting}`, 'RS256', 'ES256');
      assert.equal(tokens, undefined);
      assert.match(problems.join(), /has two values/);
    });
  }

  test('switch everything off when one looks like a setting and is none', () => {
    const all = [
      'X-Policy-Api-Keys-Enabled',
      'on',
      'X-Policy-Open-Id-Connect-Enabled',
      'on',
      'X-Policy-Require-Admins',
      'on',
    ];
    const policy = compilePolicy(readPolicy(readGatewayHeaders(all).policyLines));
    assert.deepEqual([policy.apiKeysEnabled, policy.openIdConnectEnabled, policy.challenge], [false, false, '']);
    assert.match(policy.problems.join(), /x-policy-require-admins is not a setting/);
  });

  for (const name of ['X_Policy_Require_Admin', 'X-Polcy-Require-Admin', 'X-PolicyRequire-Admin', 'X-Require-Admin']) {
    test(`switch everything off when one was meant as a setting: ${name}`, () => {
      const lines = ['X-Policy-Api-Keys-Enabled', 'on', name, 'on'];
      const policy = compilePolicy(readPolicy(readGatewayHeaders(lines).policyLines));
      assert.equal(policy.challenge, '');
      assert.match(policy.problems.join(), new RegExp(`${name.toLowerCase()} is not a setting`));
      const head = `GET /decision HTTP/1.1\r\nHost: gateway\r\nX-Policy: api_keys_enabled=on\r\n${name}: on`;
      assert.equal(compilePolicy(readPolicy(parseRequestHead(head)?.policyLines ?? '')).challenge, '');
    });
  }

  for (const [setting, wrong, good] of [
    ['Oidc-Clock-Tolerance', '10m', '10s'],
    ['Oidc-Max-Lifetime', 'soon', '1h'],
    ['Oidc-Algorithms', 'RS256 HS256', 'RS256'],
    ['Allowed-Clients', 'billing %zz', 'billing'],
  ] as const) {
    test(`that come twice do not mend each other: ${setting}`, () => {
      for (const [first, second] of [
        [wrong, good],
        [good, wrong],
      ] as const) {
        const { tokens, problems } = twice(setting, first, second);
        assert.equal(tokens, undefined);
        assert.match(problems.join(), new RegExp(`${setting.toLowerCase().replaceAll('-', '_')} (?:is|has) "`));
      }
    });
  }

  test('name no client by an api_client_id that is too long to be one', () => {
    const { allowedClients, problems } = compilePolicy(source({ allowed_clients: 'a'.repeat(1025) }));
    assert.deepEqual([allowedClients?.size, problems.length], [0, 1]);
  });

  for (const line of ['api_keys_enabled=on\trequire_admins=on', 'api_keys_enabled=on\trequire_admin', 'on', '']) {
    test(`switch everything off when the line of the server is ${JSON.stringify(line)}`, () => {
      const policy = compilePolicy(readPolicy(`X-Policy:${line}`));
      assert.equal(policy.challenge, '');
      assert.match(policy.problems.join(), /of x-policy is not a setting/);
    });
  }

  test('narrow a setting that a tab in a value brings along', () => {
    const policy = compilePolicy(readPolicy('x-policy:api_keys_enabled=off\toidc_issuer=x\tapi_keys_enabled=on'));
    assert.equal(policy.apiKeysEnabled, false);
  });

  test('make another policy whenever one of them is another', () => {
    const on = openIdConnect({ api_keys_enabled: 'on' });
    const policies = policySettings.map((setting) => compilePolicy({ ...on, [setting]: `${on[setting]} x` }));
    assert.equal(new Set([compilePolicy(on), ...policies]).size, policySettings.length + 1);
  });

  test('take a request id only when it is harmless', () => {
    assert.equal(readGatewayHeaders(['X-Request-Id', 'abc-1']).requestId, 'abc-1');
    assert.equal(readGatewayHeaders(['X-Request-Id', 'a b']).requestId, '');
  });
});
