import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { form, startTestStack, until, type TestStack } from '../support/stack.ts';
import { example } from '../support/settings.ts';

type Json = Record<string, unknown>;

// each worker counts by itself, see docs/api-clients.md
suite('limits of an API client', { skip: form === 'workers' }, () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  async function create(json: Json): Promise<{ id: number; key: string }> {
    const created = await stack.manage('POST', stack.adminKey, '', { json });
    assert.equal(created.status, 201, created.body);
    return { id: created.json['id'] as number, key: created.json['token'] as string };
  }
  /** Requests at once; how many of each status. */
  async function flood(key: string, requests: number): Promise<Record<number, number>> {
    const counts: Record<number, number> = {};
    await Promise.all(
      Array.from({ length: requests }, async () => {
        const { status } = await stack.ask('/', { key });
        counts[status] = (counts[status] ?? 0) + 1;
      }),
    );
    return counts;
  }

  test('are exact to one request', async () => {
    const { key } = await create({ rate_limit: '40/m' });
    assert.deepEqual(await flood(key, 60), { 200: 40, 429: 20 });
  });

  test('are said in every answer: what is allowed, what is left, and when to come back', async () => {
    const { id, key } = await create({ rate_limit: '2/m', quota: '5/d' });
    const [first, , third] = [
      await stack.ask('/', { key }),
      await stack.ask('/', { key }),
      await stack.ask('/', { key }),
    ];
    assert.equal(first.headers['ratelimit-policy'], '"rate";q=2;w=60, "quota";q=5;w=86400');
    assert.match(String(first.headers['ratelimit']), /^"rate";r=1;t=(?:60|59), "quota";r=4;t=86(?:400|399)$/);
    assert.equal(first.headers['retry-after'], undefined);

    assert.equal(third.status, 429);
    assert.deepEqual([third.json['reason'], third.json['status']], ['rate_limited', 429]);
    const wait = Number(third.headers['retry-after']);
    assert.ok(wait >= 55 && wait <= 60, `${wait} s`);
    // what the rate refuses is no use of the quota, and so nothing is said of it
    assert.match(String(third.headers['ratelimit']), /^"rate";r=0;t=\d+$/);
    assert.equal(third.headers['ratelimit-policy'], '"rate";q=2;w=60');
    for (let count = 0; count < 10; count++) assert.equal((await stack.ask('/', { key })).status, 429);
    await stack.manage('PUT', stack.adminKey, `/${id}`, { json: { rate_limit: '100/m' } });
    assert.match(String((await stack.ask('/', { key })).headers['ratelimit']), /"quota";r=2;t=/);
  });

  test('begin anew when their time is over', async () => {
    const { key } = await create({ rate_limit: '3/s' });
    await until('three in a second and no more', async () => {
      const counts = await flood(key, 5);
      assert.ok((counts[200] ?? 0) <= 6);
      return counts[429] !== undefined;
    });
    await until('it may ask again', async () => (await stack.ask('/', { key })).status === 200, 2_000);
  });

  test('leave room for a burst', async () => {
    const { key } = await create({ rate_limit: '10/m', rate_limit_burst: 5 });
    assert.deepEqual(await flood(key, 20), { 200: 15, 429: 5 });
  });

  test('are of one client, change at once, and do not stand in the way of the management API', async () => {
    const limited = await create({ rate_limit: '1/h', is_admin: true });
    const { key } = await create({});
    assert.deepEqual(await flood(limited.key, 3), { 200: 1, 429: 2 });
    const other = await stack.ask('/', { key });
    assert.deepEqual([other.status, other.headers['ratelimit']], [200, undefined]);
    for (let count = 0; count < 3; count++) assert.equal((await stack.manage('GET', limited.key)).status, 200);
    const put = (json: Json) => stack.manage('PUT', stack.adminKey, `/${limited.id}`, { json });
    assert.equal((await put({ rate_limit: '100/h' })).json['rate_limit'], '100/h');
    assert.equal((await stack.ask('/', { key: limited.key })).status, 200);
    await put({ rate_limit: null });
    assert.equal((await stack.ask('/', { key: limited.key })).headers['ratelimit'], undefined);
  });

  test('refuse what is no limit, and store nothing', async () => {
    for (const [field, value] of [
      ['rate_limit', '100'],
      ['rate_limit', '0/s'],
      ['rate_limit', '1.5/s'],
      ['rate_limit', '10/w'],
      ['rate_limit', 100],
      ['quota', '-1/d'],
      ['rate_limit_burst', 5],
      ['rate_limit_burst', '5'],
    ] as const) {
      const { status, json } = await stack.manage('POST', stack.adminKey, '', {
        json: { api_client_id: 'never', [field]: value },
      });
      assert.deepEqual([status, (json['errors'] as [Json])[0]['pointer']], [400, `/${field}`], `${field} ${value}`);
    }
    const { json } = await stack.manage('GET', stack.adminKey);
    assert.ok((json as unknown as Json[]).every((one) => one['api_client_id'] !== 'never'));
  });
});

test('limit_req by the claimed client goes ahead of the gateway, as default.conf shows it', async () => {
  const stack = await startTestStack({
    edit: (conf) => {
      const line = example(conf, 'limit_req zone=per_client burst=500 nodelay;');
      const [, zone = ''] = /(limit_req_zone \$claimed_client [^;]+;)/.exec(conf) ?? [];
      assert.notEqual(zone, '');
      const slow = (text: string) => text.replace(/rate=\S+?;/, 'rate=1r/m;').replace(/burst=\d+/, 'burst=3');
      return `${slow(zone)}\n${conf.replace('  location / {   # protected', (found) => `${slow(line)}\n${found}`)}`;
    },
  });
  try {
    const { json } = await stack.manage('POST', stack.adminKey, '', { json: {} });
    const key = json['token'] as string;
    const denials = () => stack.output().match(/"msg":"denied"/g)?.length ?? 0;
    const statuses: number[] = [];
    // what stands in a query string is in no log either: stop() looks
    const path = `/?api_key=${key}`;
    for (let count = 0; count < 6; count++) statuses.push((await stack.ask(path, { key })).status);
    assert.deepEqual(statuses, [200, 200, 200, 200, 429, 429]);
    // another client's share is its own, and what is no key is not limited here
    assert.equal((await stack.ask('/', { key: stack.adminKey })).status, 200);
    for (let count = 0; count < 6; count++) assert.equal((await stack.ask('/')).status, 401);
    await until('the gateway has said so of those and of no other', () => denials() === 6);
  } finally {
    await stack.stop();
  }
});
