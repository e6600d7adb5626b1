import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Granted } from '../../src/auth/decision.ts';
import { encodeHeaderValue } from '../../src/auth/header-value.ts';
import { createPolicyCompiler, nothingSet } from '../../src/auth/policy.ts';
import { createRateLimiter, limitDecisions, parseRate, type Limit } from '../../src/auth/rate-limit.ts';

const granted = (limits: readonly Limit[] | undefined): Granted => ({
  outcome: 'granted',
  principal: {
    id: 1,
    clientId: encodeHeaderValue('x'),
    clientName: encodeHeaderValue('x'),
    isAdmin: true,
    method: 'api_key',
  },
  expiresAt: null,
  isReusable: false,
  replacedAt: null,
  limits,
});
const policy = createPolicyCompiler({ allowInsecureHttp: false })(nothingSet);
const fail = (error: unknown) => {
  throw error;
};
const presented = { authorization: undefined, clientAddress: '' };

suite('a limit', () => {
  test('is a number of requests and a unit of time', () => {
    assert.deepEqual(parseRate('100/s'), { requests: 100, seconds: 1 });
    assert.deepEqual(parseRate('1/d'), { requests: 1, seconds: 86_400 });
    for (const text of ['', '0/s', '01/s', '1', '1/w', '1/S', '-1/s', '1e3/s', '1/s ', '1000000000/s'])
      assert.equal(parseRate(text), undefined, text);
  });

  test('that cannot be evaluated lets through what an unlimited client may, and says so', async () => {
    const faults: unknown[] = [];
    const broken = () => Promise.reject(new Error('out of order'));
    const limits = [{ name: 'rate', requests: 1, seconds: 1, burst: 0 }] as const;
    const decide = limitDecisions(
      () => granted(limits),
      broken,
      (fault) => faults.push(fault),
    );
    for (let count = 0; count < 3; count++) assert.equal((await decide(policy, presented)).outcome, 'granted');
    assert.equal(faults.length, 3);
    const refused = { outcome: 'unauthenticated', reason: 'unknown_key' } as const;
    const decideOnStranger = limitDecisions(
      () => refused,
      broken,
      () => undefined,
    );
    assert.equal(await decideOnStranger(policy, presented), refused);
  });

  test('costs nothing where there is none, and one count where there is one', async () => {
    let counted = 0;
    const limiter = createRateLimiter(() => performance.now());
    const limit = (one: Granted) => {
      counted++;
      return limiter(one);
    };
    const unlimited = granted(undefined);
    assert.equal(limitDecisions(() => unlimited, limit, fail)(policy, presented), unlimited);
    assert.equal(counted, 0);
    const limited = granted([{ name: 'rate', requests: 2, seconds: 60, burst: 0 }]);
    const decide = limitDecisions(() => limited, limit, fail);
    const outcomes = await Promise.all(Array.from({ length: 3 }, async () => decide(policy, presented)));
    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ['granted', 'granted', 'forbidden'],
    );
    assert.equal(counted, 3);
  });
});
