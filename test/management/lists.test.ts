import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { startTestStack, until, type TestStack } from '../support/stack.ts';
import { openTestDatabase } from '../support/database.ts';

type Json = Record<string, unknown>;

suite('what is kept of an API client', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());
  const post = (json: Json, headers = {}) => stack.manage('POST', stack.adminKey, '', { json, headers });
  const put = (id: unknown, json: Json) => stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json });

  const full = {
    name: 'billing',
    description: 'invoices of the EU',
    tags: ['team-a', 'eu'],
    scopes: ['orders.read', 'https://api.example/orders'],
    allowed_cidrs: ['192.0.2.0/24', '2001:db8::/32'],
    expires_at: '2099-01-31T00:00:00.000Z',
    rate_limit: '100/s',
    rate_limit_burst: 50,
    quota: '100000/d',
  };
  const cleared = {
    description: null,
    tags: [],
    scopes: [],
    allowed_cidrs: [],
    expires_at: null,
    rate_limit: null,
    rate_limit_burst: null,
    quota: null,
  };
  const pick = (json: Json, names: object) => Object.fromEntries(Object.keys(names).map((name) => [name, json[name]]));

  test('comes back as it was written; PUT keeps what it does not name, and null clears', async () => {
    const created = await post(full);
    const { id } = created.json;
    assert.deepEqual(pick(created.json, full), full);
    assert.deepEqual(pick((await put(id, { enabled: false })).json, full), full);
    const nulls = Object.fromEntries(Object.keys(cleared).map((name) => [name, null]));
    // a burst goes with its rate, and does not come without one
    const withoutRate = await put(id, { rate_limit: null });
    assert.deepEqual([withoutRate.json['rate_limit_burst'], withoutRate.json['quota']], [null, '100000/d']);
    const burst = await put(id, { rate_limit_burst: 5 });
    assert.deepEqual([burst.status, (burst.json['errors'] as [Json])[0]['pointer']], [400, '/rate_limit_burst']);
    assert.deepEqual(pick((await put(id, nulls)).json, cleared), cleared);
    const read = await stack.manage('GET', stack.adminKey, `/${String(id)}`);
    assert.deepEqual(pick(read.json, cleared), cleared);
    assert.equal(read.json['name'], 'billing');
  });

  test('is in UTC, whatever the offset, and a day that does not exist is no time', async () => {
    const { json } = await post({ expires_at: '2099-06-01T02:00:00+02:00' });
    assert.equal(json['expires_at'], '2099-06-01T00:00:00.000Z');
    for (const wrong of ['2099-02-30T00:00:00Z', '2099-06-01', '2099-06-01T00:00:00', 'tomorrow', 4_070_908_800_000]) {
      const answer = await post({ expires_at: wrong });
      assert.deepEqual(
        [answer.status, (answer.json['errors'] as [Json])[0]['pointer']],
        [400, '/expires_at'],
        String(wrong),
      );
    }
    const past = await post({ expires_at: '2020-01-01T00:00:00Z' });
    assert.deepEqual([past.status, past.json['errors']], [400, [{ pointer: '/expires_at', detail: 'is in the past' }]]);
    // ending a client now is not a mistake
    assert.equal((await put(json['id'], { expires_at: '2020-01-01T00:00:00Z' })).status, 200);
  });

  test('may not be what the gateway gives by itself', async () => {
    const { json } = await post({ name: 'x' });
    for (const name of ['id', 'created_at', 'updated_at', 'last_used_at', 'has_api_key', 'token']) {
      const answer = await put(json['id'], { name: 'y', [name]: json[name] ?? null });
      assert.equal(answer.status, 400, name);
      assert.match(answer.json['detail'] as string, new RegExp(`/${name} is given by the gateway and cannot be set`));
    }
    assert.equal((await stack.manage('GET', stack.adminKey, `/${String(json['id'])}`)).json['name'], 'x');
  });

  for (const [name, value, detail] of [
    ['allowed_cidrs', ['192.0.2.5/24'], /did you mean 192\.0\.2\.0\/24\?/],
    ['allowed_cidrs', ['2001:db8::1/32'], /did you mean 2001:db8::\/32\?/],
    ['allowed_cidrs', ['192.0.2.1'], /must be a CIDR block/],
    ['allowed_cidrs', ['192.0.2.0/33'], /must be a CIDR block/],
    ['allowed_cidrs', ['010.0.0.0/8'], /must be a CIDR block/],
    ['allowed_cidrs', ['10.1/16'], /must be a CIDR block/],
    ['allowed_cidrs', '10.0.0.0/8', /must be a list/],
    ['allowed_cidrs', ['::ffff:127.0.0.0/104'], /did you mean 127\.0\.0\.0\/8\?/],
    ['expires_at', '9999-12-31T23:59:59-23:59', /beyond the year 9999/],
    ['scopes', ['a b'], /without space/],
    ['scopes', ['a', 'a'], /has a member twice/],
    ['tags', [''], /must not be empty/],
    ['tags', Array.from({ length: 33 }, (_, index) => `t${index}`), /more than 32/],
    ['description', 'two\nlines', /control characters/],
  ] as const) {
    test(`has no ${name} like ${JSON.stringify(value).slice(0, 30)}`, async () => {
      const { status, json } = await post({ [name]: value });
      assert.equal(status, 400);
      const [{ pointer, detail: said }] = json['errors'] as [Json];
      assert.match(pointer as string, new RegExp(`^/${name}`));
      assert.match(said as string, detail);
    });
  }
});

suite('the list of API clients', () => {
  let stack: TestStack;
  const ids: Record<string, number> = {};
  before(async () => {
    stack = await startTestStack();
    for (const [name, more] of [
      ['delta', { tags: ['eu'], is_admin: true }],
      ['Alpha', { tags: ['eu', 'old'] }],
      ['charlie', { enabled: false }],
      ['bravo 100%', {}],
      ['bravo 1000', { tags: ['eur'] }],
    ] as const) {
      const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name, ...more } });
      ids[name] = json['id'] as number;
      if (name === 'delta') await stack.ask('/', { key: json['token'] as string });
    }
    await stack.manage('PUT', stack.adminKey, `/${ids['Alpha']}`, { json: { expires_at: '2021-01-01T00:00:00Z' } });
  });
  after(() => stack.stop());
  const list = async (query: string) => {
    const answer = await stack.manage('GET', stack.adminKey, query);
    assert.equal(answer.status, 200, answer.body);
    return (answer.json as unknown as Json[]).map(({ name }) => name as string);
  };

  test('is filtered by name, tag, administrator and state', async () => {
    assert.deepEqual(await list('?name=BRAVO'), ['bravo 100%', 'bravo 1000']);
    assert.deepEqual(await list('?name=100%25'), ['bravo 100%']);
    assert.deepEqual(await list('?name=_'), []);
    assert.deepEqual(await list('?tag=eu'), ['delta', 'Alpha']);
    assert.deepEqual(await list('?tag=eu&state=enabled'), ['delta']);
    assert.deepEqual(await list('?is_admin=true'), ['bootstrap', 'delta']);
    assert.deepEqual(await list('?state=disabled'), ['charlie']);
    assert.deepEqual(await list('?state=expired'), ['Alpha']);
    assert.deepEqual(await list('?state=enabled'), ['bootstrap', 'delta', 'bravo 100%', 'bravo 1000']);
  });

  test('is sorted both ways, and its pages are complete in every order', async () => {
    const names = ['Alpha', 'bootstrap', 'bravo 100%', 'bravo 1000', 'charlie', 'delta'].sort();
    assert.deepEqual(await list('?sort=name'), names);
    assert.deepEqual(await list('?sort=-name'), [...names].reverse());
    for (const sort of ['id', '-id', 'name', '-name', 'created_at', '-created_at', 'last_used_at', '-last_used_at']) {
      const whole = await list(`?sort=${sort}`);
      const pages: string[] = [];
      let path: string | undefined = `?sort=${sort}&limit=2`;
      while (path !== undefined) {
        const answer = await stack.manage('GET', stack.adminKey, path);
        pages.push(...(answer.json as unknown as Json[]).map(({ name }) => name as string));
        path = /^<\/v1\/management\/api-clients([^>]+)>; rel="next"$/.exec(String(answer.headers['link']))?.[1];
      }
      assert.deepEqual(pages, whole, sort);
      assert.equal(whole.length, 6);
    }
    // a filter goes along from page to page
    const first = await stack.manage('GET', stack.adminKey, '?tag=eu&sort=-name&limit=1');
    assert.match(String(first.headers['link']), /tag=eu/);
  });

  test('finds who has not been used since a time', async () => {
    await until(
      'the uses are stored',
      async () => !(await list('?unused_since=2099-01-01T00:00:00Z&sort=-last_used_at')).includes('x'),
    );
    const database = openTestDatabase(stack.stateDir);
    const year = 365 * 86_400_000;
    try {
      const at = Date.now() - year;
      await until('the use of delta is stored', async () => {
        const row = await database<{ last_used_at: number }>('api_clients')
          .where('name', 'delta')
          .first('last_used_at');
        return (row?.last_used_at ?? 0) > 0;
      });
      await database('api_clients').whereIn('name', ['delta', 'charlie', 'Alpha']).update({ created_at: at });
      await database('api_clients')
        .where('name', 'Alpha')
        .update({ last_used_at: at + 1_000 });
    } finally {
      await database.destroy();
    }
    const since = new Date(Date.now() - year / 2).toISOString();
    assert.deepEqual(await list(`?unused_since=${since}`), ['Alpha', 'charlie']);
  });

  test('refuses what is no filter, and a cursor of another order', async () => {
    const { headers } = await stack.manage('GET', stack.adminKey, '?sort=name&limit=1');
    const [, cursor = ''] = /cursor=([^&>]+)/.exec(String(headers['link'])) ?? [];
    for (const [query, parameter] of [
      ['?state=paused', 'state'],
      ['?sort=age', 'sort'],
      ['?unused_since=yesterday', 'unused_since'],
      ['?is_admin=maybe', 'is_admin'],
      ['?cursor=%22', 'cursor'],
      ['?cursor=eyJ4IjoxfQ', 'cursor'],
      [`?sort=created_at&cursor=${cursor}`, 'cursor'],
      ['?name=a&name=b', 'name'],
    ] as const) {
      const { status, json } = await stack.manage('GET', stack.adminKey, query);
      assert.deepEqual([status, (json['errors'] as [Json])[0]['parameter']], [400, parameter], query);
    }
  });
});

suite('a creation with an Idempotency-Key', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());
  const create = (json: Json, key: string, admin = stack.adminKey) =>
    stack.manage('POST', admin, '', { json, headers: { 'Idempotency-Key': key } });
  const count = async () => ((await stack.manage('GET', stack.adminKey)).json as unknown as Json[]).length;

  test('is done once, however often and at once it is sent, and the last answer has a key that works', async () => {
    const before = await count();
    const key = '"8e03978e-40d5-43dd-bc93-6894a57f9324"';
    const answers = await Promise.all(Array.from({ length: 8 }, () => create({ api_client_id: 'once' }, key)));
    assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([201]));
    assert.equal(new Set(answers.map(({ json }) => json['id'])).size, 1);
    assert.equal(answers.filter(({ headers }) => headers['idempotent-replayed'] === undefined).length, 1);
    assert.equal(await count(), before + 1);
    // without quotes it is the same key
    const last = await create({ api_client_id: 'once' }, key.slice(1, -1));
    const token = last.json['token'] as string;
    assert.equal((await stack.ask('/', { key: token })).status, 200);
    for (const { json } of answers) assert.equal((await stack.ask('/', { key: json['token'] as string })).status, 401);
    const { json: keys } = await stack.manage('GET', stack.adminKey, `/${String(last.json['id'])}/keys`);
    assert.equal((keys as unknown as Json[]).length, 1);

    // it has just been used: nobody takes it away
    const later = await create({ api_client_id: 'once' }, key);
    assert.deepEqual([later.status, later.json['token'], later.json['id']], [201, undefined, last.json['id']]);
    assert.equal((await stack.ask('/', { key: token })).status, 200);
  });

  test('takes no key away that it has not made', async () => {
    const key = 'creation-without-a-key';
    const created = await create({ generate_api_key: false }, key);
    const id = String(created.json['id']);
    const made = await stack.manage('POST', stack.adminKey, `/${id}/keys`, { json: {} });
    const again = await create({ generate_api_key: false }, key);
    assert.deepEqual([again.json['id'], again.json['token']], [created.json['id'], undefined]);
    assert.equal((await stack.ask('/', { key: made.json['token'] as string })).status, 200);
    // nor one that has been reported as leaked
    const leaked = await create({ name: 'leaked' }, 'creation-that-leaks');
    const report = () =>
      stack.ask('/v1/management/report-leak', { method: 'POST', json: { token: leaked.json['token'] } });
    assert.equal((await report()).status, 204);
    assert.equal((await create({ name: 'leaked' }, 'creation-that-leaks')).json['token'], undefined);
    assert.equal((await report()).status, 204);
  });

  test('is refused for another creation, and is of one caller', async () => {
    const key = 'creation-of-billing';
    const first = await create({ name: 'one' }, key);
    const other = await create({ name: 'two' }, key);
    assert.deepEqual([other.status, other.json['reason']], [422, 'idempotency_key_reused']);
    const admin = await stack.manage('POST', stack.adminKey, '', { json: { is_admin: true } });
    const theirs = await create({ name: 'one' }, key, admin.json['token'] as string);
    assert.equal(theirs.status, 201);
    assert.notEqual(theirs.json['id'], first.json['id']);
  });

  test('is refused when the key is none', async () => {
    const before = await count();
    for (const key of ['short', 'x'.repeat(256), 'caf\u00e9-caf\u00e9']) {
      const { status, json } = await create({ name: 'x' }, key);
      assert.deepEqual([status, json['reason']], [400, 'invalid_idempotency_key'], key);
    }
    assert.equal(await count(), before);
  });
});
