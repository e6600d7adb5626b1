import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { after, before, mock, suite, test } from 'node:test';
import { createTokenVerifier } from '../../src/auth/access-token.ts';
import { digestSecret, generateSecret } from '../../src/auth/api-key.ts';
import { createAuthenticator } from '../../src/auth/authenticator.ts';
import { encodeHeaderValue } from '../../src/auth/header-value.ts';
import { createPolicyCompiler } from '../../src/auth/policy.ts';
import { createDecisionHandler } from '../../src/http/decision-listener.ts';
import type { RequestHead } from '../../src/http/request-head.ts';
import { createLog } from '../../src/log.ts';
import { makeToken } from '../support/hostile-issuer.ts';

suite('a decision that is made from memory', () => {
  // it calls through; what is counted is the real function
  const hash = mock.method(crypto, 'hash');
  before(() => {
    syncBuiltinESMExports();
  });
  after(() => {
    hash.mock.restore();
    syncBuiltinESMExports();
  });

  const { privateKey, publicKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
  const issuer = 'https://issuer.example';
  const secret = generateSecret('1');
  const client = {
    principal: {
      id: 1,
      clientId: encodeHeaderValue('one'),
      clientName: encodeHeaderValue('One'),
      isAdmin: false,
      method: 'api_key' as const,
    },
    isEnabled: true,
    expiresAt: null,
    scopes: [],
    network: undefined,
    limits: undefined,
    keys: [
      {
        id: 1,
        digest: digestSecret(secret),
        expiresAt: null,
        replacedAt: null,
        isRevoked: false,
        isUnusedBootstrap: false,
        notedIn: 0,
      },
    ],
    notedIn: 0,
  };
  const answer = createDecisionHandler({
    authenticate: createAuthenticator({
      hasImportedKeys: () => false,
      findClient: () => client,
      findClientByApiClientId: () => client,
      verifyToken: createTokenVerifier({
        findKeys: () => ({
          lookUp: () => ({ outcome: 'found', issuer, version: 1, keys: [publicKey] }),
          version: () => 1,
        }),
        now: Date.now,
      }),
      now: Date.now,
      onUsed: () => undefined,
    }),
    compilePolicy: createPolicyCompiler({ allowInsecureHttp: false }),
    log: createLog('fatal'),
    reportDenial: () => undefined,
  });
  const question = (authorization: string): RequestHead => ({
    target: '/decision',
    policyLines: `X-Policy: api_keys_enabled=on\topen_id_connect_enabled=on\toidc_discovery=${issuer}\toidc_audience=api`,
    authorization,
    clientAddress: '',
    requestId: '',
    isLast: false,
    hasCache: false,
    traceparent: undefined,
    tracestate: undefined,
  });
  const seconds = Math.floor(Date.now() / 1_000);
  const claims = { iss: issuer, aud: 'api', sub: 'one', iat: seconds, exp: seconds + 600 };

  for (const [what, authorization] of [
    ['an API key', `apk 1.${secret}`],
    ['an access token', `Bearer ${makeToken({ alg: 'RS256' }, claims, privateKey)}`],
  ] as const) {
    test(`on ${what} waits for nothing and computes one digest`, async () => {
      assert.match(await answer(question(authorization)), /^HTTP\/1.1 204 /);
      hash.mock.resetCalls();
      for (let time = 1; time <= 10; time++) {
        const message = answer(question(authorization));
        assert.ok(typeof message === 'string' && message.startsWith('HTTP/1.1 204 '));
        assert.equal(hash.mock.callCount(), time);
      }
    });
  }
});
