import assert from 'node:assert/strict';
import { existsSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { Granted } from '../../src/auth/decision.ts';
import { encodeHeaderValue } from '../../src/auth/header-value.ts';
import { createRateLimiter } from '../../src/auth/rate-limit.ts';
import { createDecisionCache } from '../../src/http/decision-cache.ts';
import { createLog } from '../../src/log.ts';
import { makeToken, startHostileIssuer, type HostileIssuer } from '../support/hostile-issuer.ts';
import { setSettings } from '../support/settings.ts';
import { makeTempDir, startTestStack, until, type TestStack } from '../support/stack.ts';

const hour = 3_600_000;

const granted: Granted = {
  outcome: 'granted',
  principal: {
    id: 7,
    clientId: encodeHeaderValue('x'),
    clientName: encodeHeaderValue('x'),
    isAdmin: false,
    method: 'api_key',
  },
  expiresAt: null,
  isReusable: true,
  replacedAt: null,
  limits: [{ name: 'rate', requests: 1, seconds: 60, burst: 0 }],
};

suite('a clock that jumps by an hour, in the process', () => {
  test('limits go by another one: no new span, and nobody is told to wait for an hour', async (t) => {
    const limit = createRateLimiter(() => performance.now());
    const realNow = Date.now;
    t.after(() => (Date.now = realNow));
    assert.equal((await limit(granted)).outcome, 'granted');
    for (const jump of [-hour, hour]) {
      Date.now = () => realNow() + jump;
      const decision = await limit(granted);
      assert.ok(decision.outcome === 'forbidden');
      t.diagnostic(`${jump / hour} h: Retry-After ${decision.retryAfter ?? 0}`);
      assert.ok((decision.retryAfter ?? 0) <= 60);
    }
  });

  test('put back: what nginx has kept is withdrawn, and nothing is kept until that time has come again', () => {
    const directory = join(makeTempDir(), 'decision-cache');
    const clock = { wall: 1_800_000_000_000, monotonic: 0 };
    const [now, monotonicNow] = [() => clock.wall, () => clock.monotonic];
    const cache = createDecisionCache({ directory, now, monotonicNow, log: createLog('fatal') });
    const pass = (milliseconds: number) => {
      clock.wall += milliseconds;
      clock.monotonic += milliseconds;
      cache.followClock();
    };
    const vouchers = () => (existsSync(directory) ? readdirSync(directory) : []);
    pass(11_000);
    cache.cacheUntil(granted);
    pass(250);
    assert.deepEqual(vouchers(), ['client-7']);
    clock.wall -= hour;
    pass(250);
    assert.deepEqual(vouchers(), []);
    pass(hour - 1_000);
    assert.equal(cache.cacheUntil(granted), 0);
    pass(6_000);
    assert.notEqual(cache.cacheUntil(granted), 0);
  });
});

suite('a clock that jumps by an hour, under the running gateway and nginx', () => {
  const dir = makeTempDir();
  const offsetFile = join(dir, 'offset');
  let issuer: HostileIssuer;
  let stack: TestStack;

  function setClock(seconds: number): void {
    // in one step: it is read with every look at the clock
    writeFileSync(`${offsetFile}.new`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    renameSync(`${offsetFile}.new`, offsetFile);
  }

  before(async () => {
    setClock(0);
    const fake = {
      LD_PRELOAD: 'libfaketime.so.1',
      LD_LIBRARY_PATH: ['x86_64', 'aarch64'].map((arch) => `/usr/lib/${arch}-linux-gnu/faketime`).join(':'),
      FAKETIME_TIMESTAMP_FILE: offsetFile,
      FAKETIME_NO_CACHE: '1',
      // what people and NTP set is the other one
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    };
    // nginx clears its environment but for what it is told to keep
    const nginx = join(dir, 'nginx');
    const kept = Object.keys(fake).map((name) => `env ${name};`);
    writeFileSync(
      nginx,
      `#!/bin/sh\ncase "$*" in *"daemon off;"*) exec nginx "$@" -g 'daemon off; ${kept.join(' ')}' ;; esac\nexec nginx "$@"\n`,
      { mode: 0o755 },
    );
    issuer = await startHostileIssuer();
    stack = await startTestStack({
      env: { ...fake, APIGW_NGINX: nginx, OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) =>
        setSettings(conf, { open_id_connect_enabled: 'on', oidc_discovery: issuer.url, oidc_audience: 'api' }),
    });
  });
  after(async () => {
    await stack.stop();
    await issuer.close();
  });

  async function create(json: object): Promise<{ id: number; token: string }> {
    const { status, json: created } = await stack.manage('POST', stack.adminKey, '', { json });
    assert.equal(status, 201, JSON.stringify(created));
    return { id: created['id'] as number, token: created['token'] as string };
  }
  const status = async (key: string) => (await stack.ask('/', { key })).status;
  const bearer = async (token: string) => {
    const { status: code, body } = await stack.ask('/', { headers: { Authorization: `Bearer ${token}` } });
    return code === 200 ? '200' : (JSON.parse(body) as { reason: string }).reason;
  };
  const tokenOf = (at: number, lifetime: number) => {
    const iat = Math.floor(at / 1_000);
    const claims = { iss: issuer.url, aud: 'api', sub: 'token-client', iat, exp: iat + lifetime };
    return makeToken({ alg: 'RS256', kid: 'rsa' }, claims, issuer.rsa);
  };

  test('everything follows it at once, revoked stays revoked, and nothing waits for an hour', async (t) => {
    const realNow = Date.now();
    await create({ name: 'token', api_client_id: 'token-client' });
    const lasting = await create({ name: 'lasting' });
    const ending = await create({ name: 'ending', expires_at: new Date(realNow + hour / 2).toISOString() });
    const limited = await create({ name: 'limited', rate_limit: '1/m' });
    const revoked = await create({ name: 'revoked' });
    const [short, long] = [tokenOf(realNow, 1_800), tokenOf(realNow, 4 * 3_600)];
    for (const { token } of [lasting, ending, revoked]) assert.equal(await status(token), 200);
    assert.deepEqual([await bearer(short), await bearer(long)], ['200', '200']);
    await stack.manage('DELETE', stack.adminKey, `/${revoked.id}`);
    assert.equal(await status(limited.token), 200);
    assert.equal(await status(limited.token), 429);

    const { pid } = stack.stack.gateway;
    for (const hours of [1, -1]) {
      setClock(hours * 3_600);
      const jumpedAt = performance.now();
      const isAhead = hours > 0;
      assert.deepEqual(
        [await status(lasting.token), await status(ending.token), await status(revoked.token)],
        [200, isAhead ? 403 : 200, 401],
      );
      // remembered from before the jump, and judged anew
      assert.equal(await bearer(short), isAhead ? 'token_expired' : 'token_not_yet_valid');
      assert.equal(await bearer(long), isAhead ? '200' : 'token_not_yet_valid');
      assert.equal(await bearer(tokenOf(Date.now() + hours * hour, 600)), '200');
      t.diagnostic(`${hours} h: all of it holds ${Math.round(performance.now() - jumpedAt)} ms after the jump`);

      const one = await stack.ask('/', { key: limited.token });
      assert.equal(one.status, 429);
      t.diagnostic(`${hours} h: Retry-After ${one.headers['retry-after'] ?? ''}`);
      assert.ok(Number(one.headers['retry-after']) <= 60);

      const brief = await create({ name: `brief ${hours}` });
      assert.equal(await status(brief.token), 200);
      await stack.manage('DELETE', stack.adminKey, `/${brief.id}`);
      assert.equal(await status(brief.token), 401);
      await until('the feed goes on', async () => (await stack.ask('/readyz')).status === 200);
    }
    setClock(0);
    assert.deepEqual([await bearer(short), await bearer(long), await status(revoked.token)], ['200', '200', 401]);
    assert.equal(stack.stack.gateway.pid, pid, 'nothing was restarted');
  });
});
