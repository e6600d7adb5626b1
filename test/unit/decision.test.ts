import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { createAuthenticator, type Authenticate } from '../../src/auth/authenticator.ts';
import { createPolicyCompiler, nothingSet } from '../../src/auth/policy.ts';
import { createDecisionHandler } from '../../src/http/decision-listener.ts';
import { createDecisionServer } from '../../src/http/decision-server.ts';
import { listen } from '../../src/http/listener.ts';
import { createLog } from '../../src/log.ts';
import { root } from '../support/stack.ts';
import { madeUpKey } from '../support/keys.ts';

const compilePolicy = createPolicyCompiler({ allowInsecureHttp: false });
const log = createLog('fatal');

suite('a decision', () => {
  test('is 503 without a body when the program itself is at fault: it is no "no", and never a "yes"', async () => {
    const faults: Authenticate[] = [
      () => {
        throw new Error('a fault');
      },
      () => Promise.reject(new Error('a fault')),
    ];
    for (const authenticate of faults) {
      const server = createDecisionServer(
        createDecisionHandler({ authenticate, compilePolicy, log, reportDenial: () => undefined }),
      );
      const { address, close } = await listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, server);
      const response = await fetch(`http://${address}/decision`);
      assert.deepEqual([response.status, await response.text()], [503, '']);
      await close();
    }
  });

  test('is "cannot tell" when the database cannot, for keys and for tokens', async () => {
    const away = () => Promise.reject(new Error('away'));
    const authenticate = createAuthenticator({
      hasImportedKeys: () => false,
      findClient: away,
      findClientByApiClientId: away,
      verifyToken: () => ({
        outcome: 'verified',
        kid: undefined,
        clientId: 'x',
        clientName: undefined,
        lacks: undefined,
        expiresAt: 0,
      }),
      now: () => 0,
      onUsed: () => undefined,
    });
    const policy = compilePolicy({
      ...nothingSet,
      api_keys_enabled: 'on',
      open_id_connect_enabled: 'on',
      oidc_discovery: 'https://issuer.example',
      oidc_audience: 'api',
    });
    for (const credential of [`apk ${madeUpKey(1)}`, 'Bearer a.b.c']) {
      const decision = await authenticate(policy, { authorization: credential, clientAddress: '' });
      assert.equal(decision.outcome === 'unavailable' && decision.reason, 'store_unavailable');
    }
  });

  test('rests on no randomness that can be guessed', () => {
    const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.ts'),
    );
    for (const file of files) assert.doesNotMatch(readFileSync(join(root, 'src', file), 'utf8'), /Math\.random/, file);
  });
});
