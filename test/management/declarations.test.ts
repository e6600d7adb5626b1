import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import { makeTempDir, startTestStack, type TestStack } from '../support/stack.ts';

type Json = Record<string, unknown>;
interface Declared extends Json {
  api_client_id: string;
}
interface Document {
  version: number;
  clients: Declared[];
}

const secretOf = (token: string) => token.slice(token.indexOf('.') + 1);
const digestOf = (secret: string) => `sha256:${hash('sha256', secret)}`;

suite('export and apply', () => {
  let stack: TestStack;
  let admin: string;
  before(async () => {
    stack = await startTestStack();
    admin = await makeAdmin(stack);
  });
  after(() => stack.stop());

  async function makeAdmin(of: TestStack): Promise<string> {
    const { json } = await of.manage('POST', of.adminKey, '', {
      json: { name: 'admin', api_client_id: 'admin', is_admin: true },
    });
    return json['token'] as string;
  }
  const exported = async (of = stack, key = admin) =>
    JSON.parse((await of.ask('/v1/management/export', { key })).body) as Document;
  const apply = (clients: unknown, query = '', { of = stack, key = admin, version = 1 } = {}) =>
    of.ask(`/v1/management/apply${query}`, { method: 'POST', key, json: { version, clients } });
  const find = async (name: string) => (await exported()).clients.find((one) => one.api_client_id === name);

  test('what is exported can be applied and changes nothing; it has digests and no secret', async () => {
    const { clients } = await exported();
    assert.ok(clients.some(({ api_client_id }) => api_client_id === 'admin'));
    assert.ok(!clients.some(({ name }) => name === 'bootstrap'), 'what exists for a bootstrap key alone is left out');
    const digests = clients.flatMap(({ keys }) => keys as { digest: string }[]).map(({ digest }) => digest);
    assert.ok(digests.includes(digestOf(secretOf(admin))));
    assert.ok(!JSON.stringify(clients).includes(secretOf(admin)));
    const { status, json } = await apply(clients, '?prune=true');
    assert.equal(status, 200);
    assert.deepEqual([json['changes'], json['unchanged']], [[], clients.length]);
  });

  test('a dry run says what would be done, and does nothing; the same again does exactly that', async () => {
    const { clients } = await exported();
    const wanted = [
      ...clients.map((one) => (one.api_client_id === 'admin' ? { ...one, tags: ['ops'] } : one)),
      { api_client_id: 'declared-a', scopes: ['read'] },
      { api_client_id: 'declared-b', name: 'B' },
    ];
    const plan = await apply(wanted, '?dry_run=true');
    assert.deepEqual(
      [plan.json['dry_run'], plan.json['created'], plan.json['updated'], plan.json['deleted']],
      [true, 2, 1, 0],
    );
    assert.deepEqual(await exported(), { version: 1, clients });
    const changes = plan.json['changes'] as Json[];
    assert.deepEqual(changes[0], {
      ...{ action: 'update', api_client_id: 'admin', id: 2 },
      ...{ fields: [{ name: 'tags', from: [], to: ['ops'] }], keys_added: [], keys_removed: [] },
    });
    const done = await apply(wanted, `?revision=${String(plan.json['revision'])}`);
    assert.equal(done.status, 200, done.body);
    const withoutIds = (of: unknown) => (of as Json[]).map((change) => ({ ...change, id: null }));
    assert.deepEqual(withoutIds(done.json['changes']), withoutIds(changes));
    assert.deepEqual((await find('declared-a'))?.['scopes'], ['read']);
    // somebody has changed something since the plan
    assert.deepEqual(
      (await apply(clients, `?revision=${String(plan.json['revision'])}`)).json['reason'],
      'revision_changed',
    );
  });

  test('what a document leaves out of a client has its default', async () => {
    await apply([{ api_client_id: 'defaults', description: 'x', is_admin: true, rate_limit: '5/s', tags: ['a'] }]);
    await apply([{ api_client_id: 'defaults' }]);
    const { id, keys, ...rest } = (await find('defaults')) ?? { id: 0, keys: 0 };
    assert.ok(Number(id) > 0);
    assert.deepEqual(keys, []);
    assert.deepEqual(rest, {
      ...{ api_client_id: 'defaults', name: 'defaults', description: null, tags: [], scopes: [], allowed_cidrs: [] },
      ...{ is_admin: false, enabled: true, expires_at: null, rate_limit: null, rate_limit_burst: null, quota: null },
    });
  });

  test('moves clients to another database with their ids, so that their keys go on working', async () => {
    const stateDir = makeTempDir();
    const other = await startTestStack({ stateDir });
    try {
      for (const name of ['mover', 'gone']) {
        const { json } = await stack.manage('POST', admin, '', { json: { api_client_id: name } });
        if (name === 'gone') await stack.manage('DELETE', admin, `/${String(json['id'])}`);
        else assert.equal(await statusOf(other, json['token'] as string), 401);
      }
      const { clients } = await exported();
      const done = await apply(clients, '', { of: other, key: other.adminKey });
      assert.equal(done.status, 200, done.body);
      assert.equal(await statusOf(other, admin), 200);
      assert.deepEqual((await exported(other, admin)).clients, clients);
      // an id is never given again, not even so
      const again = await apply([{ id: 1, api_client_id: 'late' }], '', { of: other, key: admin });
      assert.deepEqual([again.status, again.json['reason']], [409, 'id_taken']);
    } finally {
      await other.stop();
    }
  });

  const statusOf = async (of: TestStack, key: string) => (await of.ask('/', { key })).status;

  test('a key of another program, without our checksum, works as soon as its digest is applied', async () => {
    const secret = 'S'.repeat(64);
    const { json } = await stack.manage('POST', admin, '', { json: { api_client_id: 'carried' } });
    const token = `${String(json['id'])}.${secret}`;
    assert.equal((await stack.ask('/', { key: token })).json['reason'], 'mistyped_key');
    const key = { digest: digestOf(secret), hint: 'SSSS' };
    assert.equal((await apply([{ api_client_id: 'carried', keys: [key] }])).status, 200);
    assert.equal(await statusOf(stack, token), 200);
    // ours goes on, since keys that are not declared are left alone without prune
    assert.equal(await statusOf(stack, json['token'] as string), 200);
    const wrong = `${String(json['id'])}.${'T'.repeat(64)}`;
    assert.equal((await stack.ask('/', { key: wrong })).json['reason'], 'unknown_key');
  });

  test('removes what is not declared only with prune, keys too, and never the last administrator', async () => {
    const { json } = await stack.manage('POST', admin, '', { json: { api_client_id: 'pruned' } });
    const token = json['token'] as string;
    const all = (await exported()).clients;
    const others = all.filter(({ api_client_id }) => api_client_id !== 'pruned');
    assert.deepEqual((await apply(others)).json['changes'], []);
    const withoutKeys = all.map((one) => (one.api_client_id === 'pruned' ? { ...one, keys: [] } : one));
    const { json: keyPlan } = await apply(withoutKeys, '?prune=true');
    assert.deepEqual(
      (keyPlan['changes'] as { action: string; keys_removed: string[] }[]).map((change) => [
        change.action,
        change.keys_removed.length,
      ]),
      [['update', 1]],
    );
    assert.equal((await stack.ask('/', { key: token })).json['reason'], 'unknown_key');
    const { json: done } = await apply(others, '?prune=true');
    assert.deepEqual([done['deleted'], await find('pruned')], [1, undefined]);
    const refused = await apply([], '?prune=true');
    assert.deepEqual([refused.status, refused.json['reason']], [409, 'last_admin']);
    assert.equal((await exported()).clients.length, others.length);
    // the administrator who has only a bootstrap key is nobody's to prune
    assert.equal(await statusOf(stack, stack.adminKey), 200);
  });

  test('stores nothing of a document with a fault, and says where each is', async () => {
    const before = await exported();
    const { status, json } = await apply([
      { api_client_id: 'sound' },
      { api_client_id: 'sound' },
      { name: 'no id' },
      { api_client_id: 'x', keys: [{ digest: 'md5:00' }], surprise: 1 },
      { api_client_id: 'y', rate_limit_burst: 5 },
    ]);
    assert.equal(status, 400);
    const pointers = (json['errors'] as { pointer: string }[]).map(({ pointer }) => pointer);
    for (const pointer of ['/clients/2/api_client_id', '/clients/3/keys/0/digest', '/clients/3/surprise'])
      assert.ok(pointers.includes(pointer), `${pointer} in ${pointers.join(' ')}`);
    const twice = await apply([{ api_client_id: 'sound' }, { api_client_id: 'sound' }]);
    assert.equal((twice.json['errors'] as Json[])[0]?.['pointer'], '/clients/1/api_client_id');
    assert.equal((await apply([], '', { version: 2 })).status, 400);
    assert.deepEqual(await exported(), before);
  });

  test('is for administrators, and takes no large body from anybody else', async () => {
    const { json } = await stack.manage('POST', admin, '', { json: { name: 'nobody' } });
    const key = json['token'] as string;
    assert.equal((await apply([], '', { key })).json['reason'], 'admin_required');
    assert.equal((await stack.ask('/v1/management/export', { key })).status, 403);
    const large = { method: 'POST', body: 'x'.repeat(3_000_000), headers: { 'Content-Type': 'application/json' } };
    assert.deepEqual((await stack.ask('/v1/management/apply', large)).json['reason'], 'no_credential');
    const tooLarge = Buffer.alloc(17 * 1024 * 1024, 'x');
    const refused = stack.ask('/v1/management/apply', { ...large, key: admin, body: tooLarge });
    assert.equal(
      await refused.then(
        ({ status }) => status,
        () => 413,
      ),
      413,
    );
  });

  test('ten thousand clients are applied at once, within the time that nginx waits', async () => {
    const many = Array.from({ length: 10_000 }, (_, index) => ({ api_client_id: `many-${index}`, tags: ['many'] }));
    const { clients } = await exported();
    const done = await apply([...clients, ...many.slice(clients.length)]);
    assert.equal(done.status, 200, done.body.slice(0, 300));
    assert.equal(done.json['created'], 10_000 - clients.length);
    const { status, json } = await apply([...clients, ...many]);
    assert.deepEqual([status, (json['errors'] as Json[])[0]?.['pointer']], [400, '/clients']);
    const { json: gone } = await apply(clients, '?prune=true');
    assert.equal(gone['deleted'], 10_000 - clients.length);
  });
});
