import assert from 'node:assert/strict';
import { Agent, request } from 'node:https';
import { after, before, suite, test } from 'node:test';
import { startGateway, stopGateway } from '../support/gateway.ts';
import { madeUpKey } from '../support/keys.ts';
import { readSamples, sumOf } from '../support/metrics.ts';
import { startTestStack, until, type TestStack } from '../support/stack.ts';
import { join } from 'node:path';

type Json = Record<string, unknown>;

suite('the keys of an API client', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  async function create(json: Json = {}): Promise<{ id: number; key: string }> {
    const created = await stack.manage('POST', stack.adminKey, '', { json });
    assert.equal(created.status, 201, created.body);
    return { id: created.json['id'] as number, key: created.json['token'] as string };
  }
  const post = (path: string, json: Json = {}) => stack.manage('POST', stack.adminKey, path, { json });
  const list = async (id: number) =>
    (await stack.manage('GET', stack.adminKey, `/${id}/keys`)).json as unknown as Json[];
  const status = async (key: string) => (await stack.ask('/', { key })).status;
  const loggedReason = (requestId: unknown) => () =>
    stack.accessLog().find((line) => line['request_id'] === requestId)?.['auth_reason'];

  test('are several, each shown by its hint and none by its secret, and each ends by itself', async () => {
    const { id, key } = await create();
    const made = await post(`/${id}/keys`);
    assert.equal(made.status, 201);
    const second = made.json['token'] as string;
    assert.equal(made.headers['location'], `/v1/management/api-clients/${id}/keys/${String(made.json['id'])}`);
    assert.deepEqual([await status(key), await status(second)], [200, 200]);

    const answer = await stack.manage('GET', stack.adminKey, `/${id}/keys`);
    const [one, other] = answer.json as unknown as [Json, Json];
    assert.deepEqual([one['hint'], other['hint']], [key.slice(-4), second.slice(-4)]);
    assert.deepEqual(Object.keys(one), [
      ...['id', 'hint', 'state', 'created_at', 'last_used_at', 'expires_at', 'replaced_at', 'revoked_at'],
    ]);
    assert.doesNotMatch(answer.body, /[A-Za-z0-9]{64}|digest/);

    assert.equal((await stack.manage('DELETE', stack.adminKey, `/${id}/keys/${String(one['id'])}`)).status, 204);
    assert.deepEqual([await status(key), await status(second)], [401, 200]);
    const again = await stack.manage('DELETE', stack.adminKey, `/${id}/keys/${String(one['id'])}`);
    assert.deepEqual([again.status, again.json['reason']], [404, 'unknown_api_key']);
    // a key of somebody else is not this client's to delete
    assert.equal((await stack.manage('DELETE', stack.adminKey, `/${id}/keys/1`)).status, 404);
    assert.equal((await stack.manage('GET', stack.adminKey, '/999999/keys')).json['reason'], 'unknown_api_client');
  });

  test('end at their time, and an end in the past is a mistake', async () => {
    const { id } = await create();
    const past = await post(`/${id}/keys`, { expires_at: new Date(Date.now() - 1_000).toISOString() });
    assert.deepEqual([past.status, past.json['errors']], [400, [{ pointer: '/expires_at', detail: 'is in the past' }]]);
    const end = Date.now() + 1_500;
    const short = await post(`/${id}/keys`, { expires_at: new Date(end).toISOString() });
    const key = short.json['token'] as string;
    assert.equal(await status(key), 200);
    await until('the key has ended', async () => (await status(key)) === 401, 4_000);
    assert.ok(Date.now() >= end, 'not before its time');
    assert.equal((await stack.ask('/', { key })).json['reason'], 'key_expired');
    assert.deepEqual(
      (await list(id)).map(({ state }) => state),
      ['live', 'expired'],
    );
  });

  test('are at most 20 at once, and those that have ended are not counted', async () => {
    const { id } = await create();
    for (let count = 1; count < 20; count++) assert.equal((await post(`/${id}/keys`)).status, 201);
    const more = await post(`/${id}/keys`);
    assert.deepEqual([more.status, more.json['reason']], [409, 'too_many_keys']);
    assert.equal((await post(`/${id}/rotate`, { overlap: 0 })).status, 201);
    assert.equal((await post(`/${id}/keys`)).status, 201);
    assert.ok((await list(id)).length <= 40);
  });

  test('are rotated with an overlap: the old one works on, and whoever uses it is told so', async () => {
    const { id, key } = await create();
    // a use from before is not a use of an old key
    assert.equal(await status(key), 200);
    await until('it is stored', async () => (await list(id))[0]?.['last_used_at'] !== null);
    const before = Date.now();
    const rotated = await post(`/${id}/rotate`, { overlap: '24h' });
    assert.equal((await stack.manage('GET', stack.adminKey, `/${id}`)).json['replaced_key_used_at'], null);
    assert.equal(rotated.status, 201);
    const next = rotated.json['token'] as string;
    const [old] = rotated.json['replaced'] as [Json];
    assert.equal(old['hint'], key.slice(-4));
    const end = Date.parse(old['expires_at'] as string);
    assert.ok(end >= before + 86_400_000 && end <= Date.now() + 86_400_000);

    const [byOld, byNext] = [await stack.ask('/', { key }), await stack.ask('/', { key: next })];
    assert.deepEqual([byOld.status, byNext.status], [200, 200]);
    assert.equal(byOld.headers['deprecation'], `@${Math.floor(Date.parse(old['replaced_at'] as string) / 1_000)}`);
    assert.equal(byOld.headers['sunset'], new Date(Math.floor(end / 1_000) * 1_000).toUTCString());
    assert.deepEqual([byNext.headers['deprecation'], byNext.headers['sunset']], [undefined, undefined]);
    // refusals tell him too: by the management API, and by nginx for the gateway
    assert.equal((await stack.manage('GET', key)).headers['sunset'], byOld.headers['sunset']);
    await stack.manage('PUT', stack.adminKey, `/${id}`, { json: { enabled: false } });
    const refused = await stack.ask('/', { key });
    assert.deepEqual([refused.status, refused.headers['sunset']], [403, byOld.headers['sunset']]);
    assert.equal(refused.headers['deprecation'], byOld.headers['deprecation']);
    await stack.manage('PUT', stack.adminKey, `/${id}`, { json: { enabled: true, rate_limit: '1/d' } });
    assert.equal((await stack.ask('/', { key })).status, 200);
    const limited = await stack.ask('/', { key });
    assert.deepEqual([limited.status, limited.headers['sunset']], [429, byOld.headers['sunset']]);
    await stack.manage('PUT', stack.adminKey, `/${id}`, { json: { rate_limit: null } });
    await until('the log names the client', () =>
      /"reason":"rate_limited".*"client_id":"[0-9a-f-]{36}"/.test(stack.output()),
    );

    const client = async () => (await stack.manage('GET', stack.adminKey, `/${id}`)).json;
    await until(
      'the list shows who still uses an old key',
      async () => (await client())['replaced_key_used_at'] !== null,
    );
    const using = await stack.manage('GET', stack.adminKey, '?replaced_key_used=true');
    assert.ok((using.json as unknown as Json[]).some((one) => one['id'] === id));
    assert.deepEqual(
      (await list(id)).map(({ state }) => state),
      ['replaced', 'live'],
    );
  });

  test('are rotated at once with overlap 0, and never live past their own end', async () => {
    const { id, key } = await create();
    const end = new Date(Date.now() + 3_600_000).toISOString();
    const short = (await post(`/${id}/keys`, { expires_at: end })).json['token'] as string;
    const rotated = await post(`/${id}/rotate`, { overlap: '48h' });
    const ends = (rotated.json['replaced'] as Json[]).map((one) => one['expires_at']);
    assert.equal(ends[1], end);
    assert.notEqual(ends[0], end);
    const next = await post(`/${id}/rotate`, { overlap: 0 });
    assert.deepEqual(
      await Promise.all([key, short, rotated.json['token'] as string, next.json['token'] as string].map(status)),
      [401, 401, 401, 200],
    );
    for (const overlap of ['1w', '-1h', '367d', -1, 1.5, null]) {
      const { status: refused, json } = await post(`/${id}/rotate`, { overlap });
      assert.deepEqual([refused, (json['errors'] as [Json])[0]['pointer']], [400, '/overlap'], String(overlap));
    }
    // nothing was stored by those
    assert.equal(await status(next.json['token'] as string), 200);
    // without a body it is a day
    const byDefault = await stack.manage('POST', stack.adminKey, `/${id}/rotate`);
    assert.equal(byDefault.status, 201);
  });

  test('are rotated under traffic: no refusal in the overlap, no grant after it', async (context) => {
    const { id, key } = await create();
    const agent = new Agent({ keepAlive: true, maxSockets: 24, rejectUnauthorized: false });
    const answers: { key: string; startedAt: number; endedAt: number; status: number }[] = [];
    const ask = (one: string) =>
      new Promise<void>((resolve, reject) => {
        const startedAt = Date.now();
        request(`${stack.url}/`, { agent, headers: { Authorization: `apk ${one}` } }, (response) => {
          response.resume().once('end', () => {
            answers.push({ key: one, startedAt, endedAt: Date.now(), status: response.statusCode ?? 0 });
            resolve();
          });
        })
          .once('error', reject)
          .end();
      });
    const overlap = 2;
    const rotated = await post(`/${id}/rotate`, { overlap });
    const next = rotated.json['token'] as string;
    const end = Date.parse((rotated.json['replaced'] as [Json])[0]['expires_at'] as string);
    const began = Date.now();
    await Promise.all(
      [key, next].flatMap((one) =>
        Array.from({ length: 12 }, async () => {
          while (Date.now() < end + 1_000) await ask(one);
        }),
      ),
    );
    agent.destroy();
    const of = (one: string, isThen: (answer: (typeof answers)[number]) => boolean) =>
      new Set(answers.filter((answer) => answer.key === one && isThen(answer)).map((answer) => answer.status));
    assert.deepEqual(
      of(next, () => true),
      new Set([200]),
    );
    assert.deepEqual(
      of(key, ({ endedAt }) => endedAt < end),
      new Set([200]),
    );
    assert.deepEqual(
      of(key, ({ startedAt }) => startedAt >= end),
      new Set([401]),
    );
    const rate = Math.round((answers.length / (Date.now() - began)) * 1_000);
    context.diagnostic(`${answers.length} requests, ${rate} a second`);
    assert.ok(answers.length >= 200, `${answers.length} requests`);
  });

  test('that are mistyped or made up are refused without a lookup', async () => {
    const { key } = await create();
    const samples = () => readSamples(join(stack.stack.runDir, 'management.sock'));
    const lookups = async () => {
      const all = await samples();
      return sumOf(all, 'apigw_cache_lookups_total', { cache: 'clients' }) + sumOf(all, 'apigw_store_queries_total');
    };
    const before = await lookups();
    const wrong = `${key.slice(0, 20)}${key[20] === 'x' ? 'y' : 'x'}${key.slice(21)}`;
    for (const one of [wrong, `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`, `77${key}`]) {
      const { status: refused, json } = await stack.ask('/', { key: one });
      assert.deepEqual([refused, json['reason']], [401, 'mistyped_key']);
    }
    assert.equal(await lookups(), before);
    assert.equal((await stack.ask('/', { key: madeUpKey(77_777) })).json['reason'], 'unknown_key');
    assert.ok((await lookups()) > before);
  });

  test('keep the time of their last use, to ten minutes', async () => {
    const { id, key } = await create();
    assert.equal((await list(id))[0]?.['last_used_at'], null);
    const before = Date.parse((await list(id))[0]?.['created_at'] as string);
    assert.equal(await status(key), 200);
    await until('it is stored', async () => (await list(id))[0]?.['last_used_at'] !== null);
    const at = Date.parse((await list(id))[0]?.['last_used_at'] as string);
    assert.ok(at >= before && at <= Date.now(), `${new Date(at).toISOString()}, and not before it was there`);
    const client = (await stack.manage('GET', stack.adminKey, `/${id}`)).json;
    assert.equal(Date.parse(client['last_used_at'] as string), at);
  });

  test('that are reported as leaked are refused from the answer on, whoever reports them', async () => {
    const { id, key } = await create();
    const other = (await post(`/${id}/keys`)).json['token'] as string;
    assert.equal(await status(key), 200);
    const reported = await stack.ask('/v1/management/report-leak', { method: 'POST', json: { token: `apk ${key}` } });
    assert.equal(reported.status, 204, reported.body);
    const refused = await stack.ask('/', { key });
    // the finder of a key learns nothing of it
    assert.deepEqual([refused.status, refused.json['reason']], [401, 'unknown_key']);
    await until('the log has the reason', () => loggedReason(refused.json['request_id'])() === 'key_revoked');
    assert.equal(await status(other), 200);
    assert.deepEqual(
      (await list(id)).map(({ state }) => state),
      ['revoked', 'live'],
    );
    for (const [token, answer, reason] of [
      [madeUpKey(id), 404, 'unknown_key'],
      [madeUpKey('9223372036854775807'), 404, 'unknown_key'],
      ['eyJhbGciOiJSUzI1NiJ9.e30.x', 400, 'not_an_api_key'],
      ['', 400, 'invalid_body'],
    ] as const) {
      const { status: code, json } = await stack.ask('/v1/management/report-leak', { method: 'POST', json: { token } });
      assert.deepEqual([code, json['reason']], [answer, reason], token);
    }
  });

  test('are revoked elsewhere within a second', async () => {
    const other = await startGateway(stack.stateDir, {}, 'second');
    try {
      const { id, key } = await create();
      assert.equal(await other.decide(key), 204);
      for (const [what, change] of [
        ['disabled', () => stack.manage('PUT', stack.adminKey, `/${id}`, { json: { enabled: false } })],
        ['enabled', () => stack.manage('PUT', stack.adminKey, `/${id}`, { json: { enabled: true } })],
        ['rotated', () => post(`/${id}/rotate`, { overlap: 0 })],
      ] as const) {
        assert.ok((await change()).status < 300);
        const changedAt = Date.now();
        const expected = { disabled: 403, enabled: 204, rotated: 401 }[what];
        await until(`it is ${what} elsewhere`, async () => (await other.decide(key)) === expected, 1_000);
        assert.ok(Date.now() - changedAt <= 1_000);
      }
    } finally {
      await stopGateway(other);
    }
  });
});
