import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { startTestStack, until, type TestStack } from '../support/stack.ts';
import { openTestDatabase } from '../support/database.ts';
import { madeUpKey } from '../support/keys.ts';

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

suite('/v1/management/api-clients', () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  const create = async (json: unknown) => (await stack.manage('POST', stack.adminKey, '', { json })).json;
  const list = async (query = '') =>
    JSON.parse((await stack.manage('GET', stack.adminKey, query)).body) as { id: number; name: string }[];

  test('POST answers 201 with the whole client, its place and its key, not to be stored by anybody', async () => {
    const { status, headers, json } = await stack.manage('POST', stack.adminKey, '', { json: { name: 'billing' } });
    assert.equal(status, 201);
    const { id, api_client_id: apiClientId, token, created_at: createdAt, updated_at: updatedAt, ...rest } = json;
    assert.deepEqual(rest, {
      api_key_id: id,
      api_client_entity_id: id,
      name: 'billing',
      description: null,
      tags: [],
      scopes: [],
      allowed_cidrs: [],
      is_admin: false,
      enabled: true,
      expires_at: null,
      rate_limit: null,
      rate_limit_burst: null,
      quota: null,
      has_api_key: true,
      api_key_expires_at: null,
      replaced_key_used_at: null,
      last_used_at: null,
    });
    assert.match(token as string, new RegExp(`^${String(id)}\\.[A-Za-z0-9]{64}$`));
    assert.match(apiClientId as string, /^[0-9a-f-]{36}$/);
    assert.match(createdAt as string, time);
    assert.equal(updatedAt, createdAt);
    assert.equal(headers['location'], `/v1/management/api-clients/${String(id)}`);
    assert.equal(headers['cache-control'], 'no-store');
    for (const name of ['x-client-id', 'x-client-name', 'x-auth-method']) assert.equal(headers[name], undefined);
    assert.match(headers['content-type'] ?? '', /^application\/json/);
  });

  test('POST needs nothing: the name is then the generated api_client_id', async () => {
    const { name, api_client_id: apiClientId, is_admin: isAdmin, token } = await create({});
    assert.equal(name, apiClientId);
    assert.equal(isAdmin, false);
    assert.ok(token);
  });

  test('booleans may be the strings "true" and "false"', async () => {
    const client = await create({ name: 'strings', is_admin: 'true', generate_api_key: 'false' });
    assert.equal(client['is_admin'], true);
    assert.equal('token' in client, false);
    assert.equal(client['has_api_key'], false);
  });

  test('GET one answers the client without its key, also with a trailing slash', async () => {
    const { token, ...created } = await create({ name: 'one' });
    assert.ok(token);
    for (const path of [`/${String(created['id'])}`, `/${String(created['id'])}/`]) {
      const { status, json } = await stack.manage('GET', stack.adminKey, path);
      assert.equal(status, 200);
      assert.deepEqual(json, created);
    }
  });

  test('PUT changes what it names and keeps the rest; the next request of the application shows it', async () => {
    const { token, id, ...created } = await create({ name: 'before', api_client_id: 'put-1' });
    await stack.ask('/', { key: token as string });
    const { status, json } = await stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json: { name: 'after' } });
    assert.equal(status, 200);
    assert.deepEqual({ ...json, updated_at: '' }, { id, ...created, name: 'after', updated_at: '' });
    assert.notEqual(json['updated_at'], created['updated_at']);
    await stack.ask('/', { key: token as string });
    assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-name'], ['after']);

    await stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json: { api_client_id: 'put-2', name: 'third' } });
    await stack.ask('/', { key: token as string });
    assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-id'], ['put-2']);
  });

  test('PUT makes and unmakes administrators, from the next request on', async () => {
    const { token, id } = await create({ name: 'promoted' });
    const key = token as string;
    assert.equal((await stack.manage('GET', key)).status, 403);
    await stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json: { is_admin: true } });
    assert.equal((await stack.manage('GET', key)).status, 200);
    await stack.manage('PUT', stack.adminKey, `/${String(id)}?force=true`, { json: { is_admin: 'false' } });
    assert.equal((await stack.manage('GET', key)).status, 403);
  });

  test('DELETE answers 204, a second time 404, and the id is never given again', async () => {
    const { token, id } = await create({ name: 'gone' });
    assert.equal((await stack.ask('/', { key: token as string })).status, 200);
    const first = await stack.manage('DELETE', stack.adminKey, `/${String(id)}`, {
      headers: { 'Content-Type': 'application/json' },
    });
    assert.deepEqual([first.status, first.body], [204, '']);
    assert.equal((await stack.ask('/', { key: token as string })).status, 401);
    const second = await stack.manage('DELETE', stack.adminKey, `/${String(id)}`);
    assert.deepEqual([second.status, second.json['reason']], [404, 'unknown_api_client']);
    const next = await create({ name: 'next' });
    assert.ok((next['id'] as number) > (id as number));
  });

  test('the list is in the order of ids and comes in pages that a Link header connects', async () => {
    const all = await list();
    assert.deepEqual(
      all.map(({ id }) => id),
      all.map(({ id }) => id).sort((a, b) => a - b),
    );
    const paged = [];
    let path: string | undefined = '?limit=2';
    while (path !== undefined) {
      const { body, headers } = await stack.manage('GET', stack.adminKey, path);
      const page = JSON.parse(body) as { id: number }[];
      assert.ok(page.length <= 2);
      paged.push(...page);
      path = /^<\/v1\/management\/api-clients(\?[^>]+)>; rel="next"$/.exec(String(headers['link'] ?? ''))?.[1];
    }
    assert.deepEqual(paged, all);
    const whole = await stack.manage('GET', stack.adminKey);
    assert.equal(whole.headers['link'], undefined);
  });

  test('HEAD is answered as GET without a body; other methods are 405 with Allow', async () => {
    const head = await stack.manage('HEAD', stack.adminKey);
    assert.deepEqual([head.status, head.body], [200, '']);
    const patch = await stack.manage('PATCH', stack.adminKey, '/1', { json: {} });
    assert.equal(patch.status, 405);
    assert.equal(patch.headers['allow'], 'HEAD, GET, PUT, DELETE');
    assert.equal((await stack.manage('DELETE', stack.adminKey)).status, 405);
  });

  test('only administrators get in, whoever they say they are', async () => {
    const { token } = await create({ name: 'ordinary' });
    for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
      const path = method === 'PUT' || method === 'DELETE' ? '/1' : '';
      const headers = { 'X-Client-Id': 'bootstrap', 'X-Client-Name': 'bootstrap', 'X-Auth-Decision': 'granted' };
      const anonymous = await stack.ask(`/v1/management/api-clients${path}`, { method, headers });
      assert.equal(anonymous.status, 401);
      assert.equal(anonymous.headers['www-authenticate'], 'apk realm="apigw"');
      const ordinary = await stack.manage(method, token as string, path, { headers });
      assert.deepEqual([ordinary.status, ordinary.json['reason']], [403, 'admin_required']);
    }
    assert.ok((await list()).some(({ id }) => id === 1));
  });

  test('what a client writes into policy headers does not count', async () => {
    const { status } = await stack.ask('/v1/management/api-clients', {
      headers: {
        'X-Policy-Api-Keys-Enabled': 'off',
        'X-Policy-Open-Id-Connect-Enabled': 'on',
        Authorization: 'Bearer a.b.c',
      },
    });
    assert.equal(status, 401);
  });

  test('every call leaves an audit event: who, what, to whom, in which request, with what outcome', async () => {
    const created = await stack.manage('POST', stack.adminKey, '', {
      json: { name: 'audited', api_client_id: 'audited' },
    });
    const id = created.json['id'];
    const ordinary = await create({ name: 'ordinary' });
    const requests = [
      created,
      await stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json: { name: 'renamed' } }),
      await stack.manage('GET', stack.adminKey, `/${String(id)}`),
      await stack.manage('POST', stack.adminKey, '', { json: { name: 7 } }),
      await stack.manage('DELETE', stack.adminKey, `/${String(id)}`),
      await stack.manage('DELETE', stack.adminKey, `/${String(id)}`),
      await stack.manage('GET', ordinary['token'] as string),
    ];
    const database = openTestDatabase(stack.stateDir);
    const events = [];
    for (const { headers } of requests) {
      const rows = await database('audit_events').where('request_id', headers['x-request-id']);
      assert.equal(rows.length, 1);
      events.push(rows[0] as Record<string, unknown>);
    }
    await database.destroy();
    assert.deepEqual(
      events.map(({ action, outcome, client_id, actor_client_id }) => [action, outcome, client_id, actor_client_id]),
      [
        ['api_client.create', 'done', id, 1],
        ['api_client.update', 'done', id, 1],
        ['management.call', 'done', null, 1],
        ['management.call', 'invalid_body', null, 1],
        ['api_client.delete', 'done', id, 1],
        ['management.call', 'unknown_api_client', null, 1],
        ['management.call', 'admin_required', null, ordinary['id']],
      ],
    );
    assert.doesNotMatch(JSON.stringify(events), /[A-Za-z0-9]{60}/);
  });

  test('an id that was tried before it existed works as soon as it does', async () => {
    const latest = (await create({ name: 'latest' }))['id'] as number;
    assert.equal((await stack.ask('/', { key: madeUpKey(latest + 1) })).status, 401);
    const { id, token } = await create({ name: 'foretold' });
    assert.equal(id, latest + 1);
    assert.equal((await stack.ask('/', { key: token as string })).status, 200);
  });

  test('health is public and says whether the gateway can decide', async () => {
    const alive = await stack.ask('/livez');
    assert.deepEqual([alive.status, alive.json], [200, { status: 'alive' }]);
    const ready = await stack.ask('/readyz');
    assert.deepEqual([ready.status, ready.json], [200, { status: 'ready', checks: { store: 'ok' } }]);
  });
});

suite('the last administrator', () => {
  test('is removed, disabled or demoted only by force', async () => {
    const stack = await startTestStack();
    try {
      const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name: 'admin', is_admin: true } });
      const key = json['token'] as string;
      assert.equal((await stack.manage('DELETE', key, '/1')).status, 204);
      for (const [method, ask] of [
        ['DELETE', {}],
        ['PUT', { json: { is_admin: false } }],
        ['PUT', { json: { enabled: false } }],
        ['PUT', { json: { expires_at: new Date(Date.now() + 3_600_000).toISOString() } }],
      ] as const) {
        const { status, json: problem } = await stack.manage(method, key, '/2', ask);
        assert.deepEqual([status, problem['reason']], [409, 'last_admin']);
        assert.match(problem['detail'] as string, /\?force=true/);
      }
      const keys = (await stack.manage('GET', key, '/2/keys')).json as unknown as { id: number }[];
      const lastKey = await stack.manage('DELETE', key, `/2/keys/${keys[0]?.id ?? 0}`);
      assert.deepEqual([lastKey.status, lastKey.json['reason']], [409, 'last_admin']);
      // a key that ends soon is none to rely on, neither beside the last one nor in its place
      const soon = { expires_at: new Date(Date.now() + 3_600_000).toISOString() };
      assert.equal((await stack.manage('POST', key, '/2/rotate', { json: { overlap: 0, ...soon } })).status, 409);
      assert.equal((await stack.manage('POST', key, '/2/keys', { json: soon })).status, 201);
      assert.equal((await stack.manage('DELETE', key, `/2/keys/${keys[0]?.id ?? 0}`)).status, 409);
      assert.equal(
        (await stack.manage('PUT', key, '/2', { json: { expires_at: '2099-01-01T00:00:00Z' } })).status,
        200,
      );
      // with another key it may go, and a rotation leaves one that works
      const { json: more } = await stack.manage('POST', key, '/2/rotate', { json: { overlap: '1h' } });
      assert.equal((await stack.manage('DELETE', more['token'] as string, `/2/keys/${keys[0]?.id ?? 0}`)).status, 204);
      assert.equal((await stack.manage('GET', more['token'] as string, '/2')).json['is_admin'], true);
      assert.equal((await stack.manage('DELETE', more['token'] as string, '/2?force=true')).status, 204);
      assert.equal((await stack.ask('/', { key: more['token'] as string })).status, 401);
    } finally {
      await stack.stop();
    }
  });

  test('is not a bootstrap key, which expires, and not a disabled administrator', async () => {
    const stack = await startTestStack();
    try {
      const admin = { name: 'admin', is_admin: true };
      const { json } = await stack.manage('POST', stack.adminKey, '', { json: admin });
      await stack.manage('POST', stack.adminKey, '', { json: { ...admin, enabled: false } });
      for (const key of [stack.adminKey, json['token'] as string]) {
        assert.equal((await stack.manage('DELETE', key, '/2')).json['reason'], 'last_admin');
      }
      await stack.manage('PUT', stack.adminKey, '/3', { json: { enabled: true } });
      assert.equal((await stack.manage('DELETE', stack.adminKey, '/2')).status, 204);
    } finally {
      await stack.stop();
    }
  });

  test('is not a bootstrap key that has expired', async () => {
    const stack = await startTestStack();
    try {
      const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name: 'admin', is_admin: true } });
      const database = openTestDatabase(stack.stateDir);
      await database('api_keys')
        .where('client_id', 1)
        .update({ expires_at: Date.now() - 1 });
      await database.destroy();
      const { status } = await stack.manage('DELETE', json['token'] as string, '/2');
      assert.equal(status, 409);
    } finally {
      await stack.stop();
    }
  });
});

suite('a change that another process makes in the database', () => {
  test('bites within one second', async () => {
    const stack = await startTestStack();
    try {
      assert.equal((await stack.ask('/', { key: stack.adminKey })).status, 200);
      const database = openTestDatabase(stack.stateDir);
      await database.transaction(async (transaction) => {
        await transaction('revision').increment('value', 1);
        await transaction('api_clients').where('id', 1).delete();
        const revision = (await transaction<{ value: number }>('revision').first('value'))?.value;
        await transaction('audit_events').insert({
          revision,
          at: Date.now(),
          action: 'test',
          client_id: 1,
          outcome: 'done',
        });
      });
      await database.destroy();
      const refused = async () => (await stack.ask('/', { key: stack.adminKey })).status === 401;
      await until('the deleted key is refused', refused, 1_000);
    } finally {
      await stack.stop();
    }
  });
});
