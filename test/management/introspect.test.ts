import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Answer } from '../support/front-door.ts';
import { madeUpKey } from '../support/keys.ts';
import { acceptTokensOf, startProvider, type RealProvider } from '../support/provider.ts';
import { setSettings } from '../support/settings.ts';
import { freePorts, startTestStack, until, type TestStack } from '../support/stack.ts';

type Json = Record<string, unknown>;

suite('introspection', () => {
  let provider: RealProvider;
  let stack: TestStack;
  before(async () => {
    const [port] = await freePorts(2);
    provider = await startProvider(port, ['abc123']);
    stack = await startTestStack({
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) => setSettings(conf, acceptTokensOf(provider, 'RS256')),
    });
  });
  after(async () => {
    await stack.stop();
    await provider.stop();
  });

  /** Waits where the limit by address says so: this suite asks more often than anybody should. */
  async function introspect(token: string, more: Json = {}): Promise<Json> {
    let answer: Answer | undefined;
    await until('the address may ask', async () => {
      answer = await stack.ask('/v1/management/introspect', {
        method: 'POST',
        key: stack.adminKey,
        json: { token, ...more },
      });
      return answer.status !== 429;
    });
    assert.equal(answer?.status, 200, answer?.body);
    return answer.json;
  }
  const create = async (json: Json) => (await stack.manage('POST', stack.adminKey, '', { json })).json;

  test('says of a key whose it is, that it is accepted, or why not; and counts as no use', async () => {
    const { id, token } = await create({ name: 'billing' });
    const good = await introspect(token as string);
    assert.deepEqual([good['active'], good['type'], good['reason']], [true, 'api_key', null]);
    assert.deepEqual([(good['client'] as Json)['id'], (good['key'] as Json)['state']], [id, 'live']);
    assert.equal(JSON.stringify(good).includes((token as string).split('.')[1] ?? '-'), false);

    const made = await introspect(`apk ${madeUpKey(Number(id))}`);
    assert.deepEqual([made['active'], made['reason'], made['key']], [false, 'unknown_key', null]);
    assert.match(made['detail'] as string, /The API client has no such key/);
    assert.match((await introspect(madeUpKey(55_555)))['detail'] as string, /no API client 55555/);
    assert.equal((await introspect('hello'))['reason'], 'opaque_token');

    await stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json: { allowed_cidrs: ['192.0.2.0/24'] } });
    const outside = await introspect(token as string);
    assert.deepEqual([outside['active'], outside['reason']], [false, 'address_not_allowed']);
    assert.match(outside['detail'] as string, /do not have the address 127\.0\.0\.1/);
    assert.equal((await introspect(token as string, { address: '192.0.2.7' }))['active'], true);
    await stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json: { enabled: false } });
    assert.equal((await introspect(token as string))['detail'], 'The API client is disabled.');
    const client = await stack.manage('GET', stack.adminKey, `/${String(id)}`);
    assert.equal(client.json['last_used_at'], null);
  });

  test('says the same of an access token', async () => {
    const token = await provider.token('RS256');
    const stranger = await introspect(token);
    assert.deepEqual(
      [stranger['active'], stranger['type'], stranger['reason']],
      [false, 'access_token', 'unknown_client'],
    );
    assert.equal((stranger['token'] as Json)['client_id'], 'abc123');
    await create({ api_client_id: 'abc123', generate_api_key: false });
    const known = await introspect(`Bearer ${token}`);
    assert.deepEqual([known['active'], (known['client'] as Json)['api_client_id']], [true, 'abc123']);
    assert.match(known['expires_at'] as string, /Z$/);
  });

  test('is for administrators, and slows down whoever asks too often, by address', async () => {
    const { token } = await create({ name: 'plain' });
    const ask = (key: string | undefined) =>
      stack.ask('/v1/management/introspect', { method: 'POST', key, json: { token: 'x' } });
    const reasons = new Set<unknown>();
    let limited: Awaited<ReturnType<typeof ask>> | undefined;
    await until('the address is limited', async () => {
      const answer = await ask(token as string);
      reasons.add(answer.json['reason']);
      limited = answer;
      return answer.status === 429;
    });
    assert.ok(reasons.has('admin_required') || reasons.size === 1);
    assert.deepEqual([limited?.json['reason'], limited?.headers['retry-after']], ['rate_limited', '2']);
    // other spellings of the path are no way around it
    for (const path of ['/v1/management/introspect/', '/v1/management/INTROSPECT', '/v1/management/%69ntrospect']) {
      const { status } = await stack.ask(path, { method: 'POST', key: stack.adminKey, json: { token: 'x' } });
      assert.ok([404, 429].includes(status), `${path} is answered with ${status}`);
    }
    const wrongMethod = () => stack.ask('/v1/management/introspect', { key: stack.adminKey });
    await until('another method is said to be one', async () => (await wrongMethod()).status === 405);
    // and the rest of the API goes on
    assert.equal((await stack.manage('GET', stack.adminKey)).status, 200);
  });
});
