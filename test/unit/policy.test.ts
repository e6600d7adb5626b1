import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { compilePolicy } from '../../src/auth/policy.ts';
import { readGatewayHeaders } from '../../src/http/request-headers.ts';

suite('a policy', () => {
  for (const value of ['on', 'true', 'yes', '1', 'On', 'TRUE']) {
    test(`is switched on by ${value}`, () => {
      assert.equal(compilePolicy({ apiKeys: value, openIdConnect: '' }).apiKeysEnabled, true);
    });
  }

  for (const value of ['', 'off', 'false', '0', 'onn', 'on ', ' on', 'on,on', 'enabled', '$api_keys_enabled']) {
    test(`is off for ${JSON.stringify(value)}`, () => {
      const policy = compilePolicy({ apiKeys: value, openIdConnect: value });
      assert.deepEqual(policy, { apiKeysEnabled: false, openIdConnectEnabled: false, challenge: '' });
    });
  }

  test('is compiled once', () => {
    const source = { apiKeys: 'on', openIdConnect: 'on' };
    assert.equal(compilePolicy(source), compilePolicy({ ...source }));
    assert.equal(compilePolicy(source).challenge, 'apk realm="apigw", Bearer realm="apigw"');
  });
});

suite('the headers from nginx', () => {
  test('keep the first of nothing: two Authorization lines are ambiguous', () => {
    const { authorization } = readGatewayHeaders(['Authorization', 'apk 1.x', 'AUTHORIZATION', 'apk 1.x']);
    assert.equal(authorization, ',');
  });

  test('switch nothing on when a policy header comes twice', () => {
    const { policy } = readGatewayHeaders(['X-Policy-Api-Keys', 'on', 'x-policy-api-keys', 'on']);
    assert.equal(compilePolicy(policy).apiKeysEnabled, false);
  });

  test('take a request id only when it is harmless', () => {
    assert.equal(readGatewayHeaders(['X-Request-Id', 'abc-1']).requestId, 'abc-1');
    assert.equal(readGatewayHeaders(['X-Request-Id', 'a b']).requestId, '');
  });
});
