import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { acceptTokensOf, startProvider } from '../support/provider.ts';
import { readMetricsText, readSamples, sumOf, untilFollowed } from '../support/metrics.ts';
import { setSettings } from '../support/settings.ts';
import { expectNoCredential, form, freePorts, root, startTestStack, until, type TestStack } from '../support/stack.ts';
import { madeUpKey } from '../support/keys.ts';

suite('/metrics', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
    await untilFollowed(management());
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

  // of two workers each has a memory of its own
  const skip = form === 'workers';
  test('shows that a client who is known costs no query, and one who is not costs one', { skip }, async () => {
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

  test('times every decision, in buckets of which each has the smaller ones', async () => {
    const timed = await added(async () => {
      for (let round = 0; round < 4; round++) await stack.ask('/', { key: stack.adminKey });
      await stack.ask('/');
    });
    const name = 'apigw_decision_duration_seconds';
    assert.equal(timed(`${name}_count`), 5);
    assert.equal(timed(`${name}_bucket`, { le: '+Inf' }), 5);
    const sum = timed(`${name}_sum`);
    assert.ok(sum > 0);
    const buckets = (await readSamples(management())).filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => Number((labels['le'] ?? '').replace('+Inf', 'Infinity')));
    assert.deepEqual([bounds[0], bounds.at(-2), bounds.at(-1)], [0.00001, 5, Infinity]);
    assert.deepEqual(
      bounds,
      bounds.toSorted((one, other) => one - other),
    );
    const values = buckets.map(({ value }) => value);
    assert.deepEqual(
      values,
      values.toSorted((one, other) => one - other),
    );
  });

  test('times the database, by what it is asked for', async () => {
    const operations = ['lookup', 'read', 'change'] as const;
    const timed = await added(async () => {
      await stack.ask('/', { key: madeUpKey(777777) });
      await stack.manage('GET', stack.adminKey);
      await stack.manage('POST', stack.adminKey, '', { json: {} });
    });
    for (const operation of operations) {
      assert.ok(timed('apigw_store_duration_seconds_count', { operation }) >= 1, operation);
      assert.ok(timed('apigw_store_duration_seconds_sum', { operation }) > 0, operation);
    }
  });

  test('says what is running', async () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    const labels = { version, node: process.versions.node };
    assert.equal(sumOf(await readSamples(management()), 'apigw_build_info', labels), 1);
  });

  test('counts the bootstrap keys that are alive: one made by another process too, a deleted one not', async () => {
    const alive = async () => sumOf(await readSamples(management()), 'apigw_bootstrap_keys');
    assert.equal(await alive(), 1);
    const command = [join(root, 'dist/cli/main.js'), 'bootstrap-key'];
    const env = { ...process.env, DATABASE_URL: `sqlite:${join(stack.stateDir, 'apigw.db')}` };
    const key = /[0-9]+\.[A-Za-z0-9]{64}/.exec(execFileSync(process.execPath, command, { env, encoding: 'utf8' }));
    assert.ok(key);
    assert.equal(await alive(), 2);
    const [id = ''] = key[0].split('.');
    assert.equal((await stack.manage('DELETE', stack.adminKey, `/${id}?force=true`)).status, 204);
    assert.equal(await alive(), 1);
  });

  test('says how many days the certificate has that nginx serves', async () => {
    const show = ['s_client', '-connect', `127.0.0.1:${stack.httpsPort}`, '-servername', 'localhost'];
    const served = execFileSync('openssl', show, { input: '', stdio: ['pipe', 'pipe', 'ignore'] });
    const end = execFileSync('openssl', ['x509', '-noout', '-enddate'], { input: served, encoding: 'utf8' });
    const days = (Date.parse(end.replace('notAfter=', '')) - Date.now()) / 86_400_000;
    assert.ok(days > 800);
    const said = sumOf(await readSamples(management()), 'apigw_certificate_days_left');
    assert.ok(Math.abs(said - days) < 0.01, `${said} and ${days}`);
  });

  test('shows how long the changes of others have not been followed, until the database is back', async () => {
    const lag = async () => sumOf(await readSamples(management()), 'apigw_feed_lag_seconds');
    assert.ok((await lag()) < 1);
    const file = join(stack.stateDir, 'apigw.db');
    renameSync(file, `${file}.away`);
    try {
      await until('the lag grows', async () => (await lag()) > 1.5);
      assert.doesNotMatch(await readMetricsText(management()), /^apigw_bootstrap_keys /m);
    } finally {
      renameSync(`${file}.away`, file);
    }
    await until('the lag is gone', async () => (await lag()) < 1);
    assert.match(await readMetricsText(management()), /^apigw_bootstrap_keys 1$/m);
  });

  test('says nothing of issuers where there are none', async () => {
    assert.doesNotMatch(await readMetricsText(management()), /^apigw_issuer_\w+\{/m);
  });

  test('has no secret in it, no name of a client, and is logged by nobody', async () => {
    const text = await readMetricsText(management());
    expectNoCredential(text, '/metrics');
    assert.doesNotMatch(text, /="[^"]*bootstrap|eyJ/);
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

suite('/metrics with an issuer and two workers', () => {
  test('says whether the issuer can be asked, how many keys it has and how old they are', async () => {
    const [port] = await freePorts(2);
    const provider = await startProvider(port, ['abc123']);
    const stack = await startTestStack({
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true', APIGW_WORKERS: '2' },
      edit: (conf) => setSettings(conf, acceptTokensOf(provider, 'ES256')),
    });
    try {
      const management = join(stack.stack.runDir, 'management.sock');
      const { url } = provider;
      const labels = { issuer: `${url}/.well-known/openid-configuration` };
      const read = async (name: string) =>
        (await readSamples(management)).find(
          (sample) => sample.name === name && sample.labels['issuer'] === labels.issuer,
        )?.value;
      await until('the issuer is known', async () => (await read('apigw_issuer_up')) === 1);
      assert.equal(await read('apigw_issuer_keys'), 3);
      await until('its keys get older', async () => ((await read('apigw_issuer_key_set_age_seconds')) ?? 0) >= 1);

      await provider.stop();
      const token = { headers: { Authorization: `Bearer ${unknownKeyToken}` } };
      await until(
        'nobody reaches it',
        async () => {
          await stack.ask('/', token);
          return (await read('apigw_issuer_up')) === 0;
        },
        20_000,
      );
      await provider.start();
      await until('it is back', async () => (await read('apigw_issuer_up')) === 1, 20_000);

      const samples = await readSamples(management);
      for (const name of ['apigw_build_info', 'apigw_bootstrap_keys'])
        assert.equal(sumOf(samples, name), 1, `${name} is of the gateway, not of each worker`);
      assert.ok(sumOf(samples, 'apigw_feed_lag_seconds') < 1);
    } finally {
      await stack.stop();
      await provider.stop();
    }
  });
});

/** Well formed, and signed with a key that no issuer has: the issuer is asked about it. */
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const unknownKeyToken = `${encode({ alg: 'ES256', typ: 'at+jwt', kid: 'nobody' })}.${encode({ iss: 'x' })}.${'A'.repeat(86)}`;
