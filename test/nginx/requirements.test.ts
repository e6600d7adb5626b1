import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { acceptTokensOf, startProvider, type RealProvider } from '../support/provider.ts';
import { addLocations, locationWithPolicy, setSettings } from '../support/settings.ts';
import type { Answer } from '../support/front-door.ts';
import { freePorts, startTestStack, until, type TestStack } from '../support/stack.ts';

type Json = Record<string, unknown>;

suite('what stands between a good credential and a grant', () => {
  let provider: RealProvider;
  let stack: TestStack;
  before(async () => {
    const [port] = await freePorts(2);
    provider = await startProvider(port, ['abc123']);
    stack = await startTestStack({
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) =>
        addLocations(
          setSettings(conf, acceptTokensOf(provider, 'RS256')),
          [
            locationWithPolicy('scoped', { 'Required-Scopes': 'orders.read' }),
            locationWithPolicy('both', { 'Required-Scopes': 'orders.read orders.write' }),
            locationWithPolicy('listed', { 'Allowed-Clients': 'abc123 caf%C3%A9 two%20words' }),
            locationWithPolicy('broken', { 'Allowed-Clients': '%zz abc123' }),
            locationWithPolicy('admins', { 'Require-Admin': 'on' }),
          ].join('\n'),
        ),
    });
  });
  after(async () => {
    await stack.stop();
    await provider.stop();
  });

  async function create(json: Json): Promise<{ id: number; key: string }> {
    const created = await stack.manage('POST', stack.adminKey, '', { json });
    assert.equal(created.status, 201, created.body);
    return { id: created.json['id'] as number, key: created.json['token'] as string };
  }
  // by force: the first one is the last administrator whose key does not end
  const put = (id: number, json: Json) => stack.manage('PUT', stack.adminKey, `/${id}?force=true`, { json });
  const bearer = async () => ({ headers: { Authorization: `Bearer ${await provider.token('RS256')}` } });
  async function loggedReason({ json }: Answer): Promise<unknown> {
    const find = () => stack.accessLog().find((line) => line['request_id'] === json['request_id']);
    await until('the request is in the log', () => find() !== undefined);
    return find()?.['auth_reason'];
  }

  test('a disabled, expired or out-of-network client is refused by key, by token and by the management API', async () => {
    const { id, key } = await create({ api_client_id: 'abc123', is_admin: true });
    const token = await bearer();
    const ask = () =>
      Promise.all([
        stack.ask('/', { key }),
        stack.ask('/', token),
        stack.manage('GET', key),
        stack.ask('/v1/management/api-clients', token),
      ]);
    const states: readonly (readonly [reason: string, shut: Json, open: Json])[] = [
      ['client_disabled', { enabled: false }, { enabled: true }],
      ['client_expired', { expires_at: '2020-01-01T00:00:00Z' }, { expires_at: null }],
      ['address_not_allowed', { allowed_cidrs: ['192.0.2.0/24', '2001:db8::/32'] }, { allowed_cidrs: null }],
    ];
    for (const [reason, shut, open] of states) {
      assert.deepEqual(new Set((await ask()).map(({ status }) => status)), new Set([200]), `before ${reason}`);
      assert.equal((await put(id, shut)).status, 200);
      for (const answer of await ask()) {
        assert.equal(answer.status, 403, reason);
        // told no more than that
        assert.deepEqual([answer.json['reason'], answer.json['detail']], ['forbidden', 'Access is not allowed.']);
        assert.doesNotMatch(answer.body + JSON.stringify(answer.headers), /disabled|expire|address|network/);
        assert.equal(await loggedReason(answer), reason);
      }
      await put(id, open);
    }
    assert.deepEqual(new Set((await ask()).map(({ status }) => status)), new Set([200]));
    await put(id, { allowed_cidrs: ['127.0.0.0/8'] });
    assert.deepEqual(new Set((await ask()).map(({ status }) => status)), new Set([200]));
    // what a client writes there is not where it comes from
    const { id: other, key: elsewhere } = await create({ allowed_cidrs: ['192.0.2.1/32'] });
    for (const header of ['X-Client-Address', 'X-Forwarded-For', 'X-Real-IP', 'Forwarded']) {
      assert.equal((await stack.ask('/', { key: elsewhere, headers: { [header]: '192.0.2.1' } })).status, 403, header);
    }
    assert.equal((await put(other, { allowed_cidrs: [] })).status, 200);
    assert.equal((await stack.ask('/', { key: elsewhere })).status, 200);
    await stack.manage('DELETE', stack.adminKey, `/${id}?force=true`);
  });

  test('a client expires at its time, without anybody changing anything', async () => {
    const end = Date.now() + 1_500;
    const { key } = await create({ expires_at: new Date(end).toISOString() });
    assert.equal((await stack.ask('/', { key })).status, 200);
    await until('it has expired', async () => (await stack.ask('/', { key })).status === 403, 4_000);
    assert.ok(Date.now() >= end);
  });

  test('a location asks for scopes of the API client, whatever the credential', async () => {
    const { id, key } = await create({ scopes: ['orders.read'] });
    const refused = await stack.ask('/both/', { key });
    assert.deepEqual([refused.status, refused.json['reason']], [403, 'client_scope_required']);
    assert.equal((await stack.ask('/scoped/', { key })).status, 200);
    assert.equal((await stack.ask('/', { key })).status, 200);
    await put(id, { scopes: ['orders.read', 'orders.write'] });
    assert.equal((await stack.ask('/both/', { key })).status, 200);
    await put(id, { scopes: null });
    assert.equal((await stack.ask('/scoped/', { key })).json['reason'], 'client_scope_required');

    const { id: byToken } = await create({ api_client_id: 'abc123', generate_api_key: false });
    assert.equal((await stack.ask('/scoped/', await bearer())).json['reason'], 'client_scope_required');
    await put(byToken, { scopes: ['orders.read'] });
    assert.equal((await stack.ask('/scoped/', await bearer())).status, 200);
    assert.equal((await stack.ask('/listed/', await bearer())).status, 200);
    await stack.manage('DELETE', stack.adminKey, `/${byToken}`);
  });

  test('a location lets in the clients that it lists, and nobody when the list cannot be read', async () => {
    for (const apiClientId of ['café', 'two words']) {
      const { key } = await create({ api_client_id: apiClientId });
      assert.equal((await stack.ask('/listed/', { key })).status, 200, apiClientId);
    }
    const { key } = await create({ api_client_id: 'two' });
    const refused = await stack.ask('/listed/', { key });
    assert.deepEqual([refused.status, refused.json['reason']], [403, 'client_not_allowed']);
    assert.equal((await stack.ask('/broken/', { key })).json['reason'], 'client_not_allowed');
    await until('the log says what is wrong', () => stack.output().includes('$allowed_clients is \\"%zz abc123\\"'));
  });

  test('a location lets in administrators alone', async () => {
    const { id, key } = await create({});
    assert.equal((await stack.ask('/admins/', { key })).json['reason'], 'admin_required');
    await put(id, { is_admin: true });
    assert.equal((await stack.ask('/admins/', { key })).status, 200);
  });
});
