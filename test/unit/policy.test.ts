import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { createPolicyCompiler, policySettings, type PolicySetting, type PolicySource } from '../../src/auth/policy.ts';
import { readGatewayHeaders } from '../../src/http/request-headers.ts';

const compilePolicy = createPolicyCompiler({ allowInsecureHttp: false });
const source = (settings: Partial<Record<PolicySetting, string>>): PolicySource => ({
  ...(Object.fromEntries(policySettings.map((setting) => [setting, ''])) as PolicySource),
  ...settings,
});

suite('a policy', () => {
  for (const value of ['on', 'true', 'yes', '1', 'On', 'TRUE']) {
    test(`is switched on by ${value}`, () => {
      assert.equal(compilePolicy(source({ api_keys_enabled: value })).apiKeysEnabled, true);
    });
  }

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

  test('switch nothing on when a policy header comes twice', () => {
    const { policy } = readGatewayHeaders(['X-Policy-Api-Keys-Enabled', 'on', 'x-policy-api-keys-enabled', 'on']);
    assert.equal(compilePolicy(policy).apiKeysEnabled, false);
  });

  test('take a request id only when it is harmless', () => {
    assert.equal(readGatewayHeaders(['X-Request-Id', 'abc-1']).requestId, 'abc-1');
    assert.equal(readGatewayHeaders(['X-Request-Id', 'a b']).requestId, '');
  });
});
