import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { readMetricsText, readSamples, sumOf } from '../support/metrics.ts';
import { expectNoCredential, root, startTestStack, type TestStack } from '../support/stack.ts';
import { madeUpKey } from '../support/keys.ts';

suite('/metrics', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  const management = () => join(stack.stack.runDir, 'management.sock');

  /** What these requests add to a counter. */
  async function added(work: () => Promise<unknown>) {
    const earlier = await readSamples(management());
    await work();
    const later = await readSamples(management());
    return (name: string, labels: Record<string, string> = {}) =>
      sumOf(later, name, labels) - sumOf(earlier, name, labels);
  }

  test('counts each decision by outcome, reason and method', async () => {
    const unknown = madeUpKey(999999);
    const count = await added(async () => {
      for (let round = 0; round < 5; round++) assert.equal((await stack.ask('/', { key: stack.adminKey })).status, 200);
      for (let round = 0; round < 3; round++) await stack.ask('/', { key: unknown });
      await stack.ask('/');
      await stack.ask('/', { headers: { Authorization: 'Bearer eyJ.no.token' } });
    });
    const decisions = (labels: Record<string, string>) => count('apigw_decisions_total', labels);
    assert.equal(decisions({}), 10);
    assert.equal(decisions({ outcome: 'granted', reason: '', method: 'api_key' }), 5);
    assert.equal(decisions({ outcome: 'unauthenticated', reason: 'unknown_key', method: 'api_key' }), 3);
    assert.equal(decisions({ outcome: 'unauthenticated', reason: 'no_credential', method: 'none' }), 1);
    assert.equal(decisions({ outcome: 'unauthenticated', reason: 'method_disabled', method: 'jwt' }), 1);
  });

  test('shows that a client who is known costs no query, and one who is not costs one', async () => {
    await stack.ask('/', { key: stack.adminKey });
    const warm = await added(() =>
      Promise.all(Array.from({ length: 20 }, () => stack.ask('/', { key: stack.adminKey }))),
    );
    assert.equal(warm('apigw_store_queries_total'), 0);
    assert.equal(warm('apigw_cache_lookups_total', { cache: 'clients', result: 'hit' }), 20);
    assert.equal(warm('apigw_cache_lookups_total', { cache: 'clients', result: 'miss' }), 0);
    const cold = await added(() => stack.ask('/', { key: madeUpKey(888888) }));
    assert.equal(cold('apigw_store_queries_total'), 1);
    assert.equal(cold('apigw_cache_lookups_total', { cache: 'clients', result: 'miss' }), 1);
  });

  test('has no secret in it, no name of a client, and is logged by nobody', async () => {
    const text = await readMetricsText(management());
    expectNoCredential(text, '/metrics');
    assert.doesNotMatch(text, /bootstrap|eyJ/);
    assert.doesNotMatch(stack.output(), /"path":"\/metrics"/);
  });

  test('is a path of the application from outside: 401 without a key, and never the numbers', async () => {
    assert.equal((await stack.ask('/metrics')).status, 401);
    const { status, json } = await stack.ask('/metrics', { key: stack.adminKey });
    assert.equal(status, 200);
    assert.equal(json['url'], '/metrics');
  });

  test("has the metrics that are documented, and those of the program that are not Node's are all documented", async () => {
    const named = Array.from(
      readFileSync(join(root, 'docs/metrics.md'), 'utf8').matchAll(/`((?:apigw|process|nodejs)_\w+)`/g),
      ([, name = '']) => name,
    );
    const there = Array.from(
      (await readMetricsText(management())).matchAll(/^# TYPE (\w+)/gm),
      ([, name = '']) => name,
    );
    for (const name of named) assert.ok(there.includes(name), name);
    for (const name of there.filter((text) => text.startsWith('apigw_'))) assert.ok(named.includes(name), name);
  });
});
