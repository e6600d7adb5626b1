import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { madeUpKey } from '../support/keys.ts';
import { openTestDatabase } from '../support/database.ts';
import { startTestStack, type TestStack } from '../support/stack.ts';

type Event = Record<string, unknown>;

suite('/v1/management/audit-events', () => {
  let stack: TestStack;
  let other: { id: number; token: string };
  before(async () => {
    stack = await startTestStack();
    const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name: 'other', is_admin: true } });
    other = { id: json['id'] as number, token: json['token'] as string };
  });
  after(() => stack.stop());

  const path = '/v1/management/audit-events';
  const ask = (query = '', key = stack.adminKey) => stack.ask(`${path}${query}`, { key });
  const list = async (query = ''): Promise<Event[]> => {
    const answer = await ask(query);
    assert.equal(answer.status, 200, answer.body);
    return JSON.parse(answer.body) as Event[];
  };
  const create = async (name: string, key = stack.adminKey) => {
    const { json, headers } = await stack.manage('POST', key, '', { json: { name } });
    return { id: json['id'] as number, requestId: headers['x-request-id'] as string };
  };

  test('says who has done what, to whom, from where, in which request, and what has changed', async () => {
    const { id, requestId } = await create('watched', other.token);
    const { headers } = await stack.manage('PUT', other.token, `/${id}`, { json: { tags: ['seen'] } });
    const [updated, created] = await list(`?client_id=${id}`);
    assert.deepEqual(
      { ...created, at: '', id: 0, revision: 0, details: (created?.['details'] as Event)['name'] },
      {
        ...{ id: 0, at: '', action: 'api_client.create', outcome: 'done', actor_id: other.id, actor: null },
        ...{ address: '127.0.0.1', client_id: id, request_id: requestId, revision: 0, details: 'watched' },
      },
    );
    assert.ok(Math.abs(Date.parse(created?.['at'] as string) - Date.now()) < 60_000);
    assert.equal(updated?.['request_id'], headers['x-request-id']);
    const { before: earlier, after: later } = updated?.['details'] as Record<'before' | 'after', Event>;
    assert.deepEqual([earlier['tags'], later['tags']], [[], ['seen']]);
    assert.equal(Number(updated?.['revision']), Number(created?.['revision']) + 1);
  });

  test('has what the gateway did by itself, and refused calls with their reason', async () => {
    const [bootstrap] = await list('?action=bootstrap');
    assert.deepEqual([bootstrap?.['actor_id'], bootstrap?.['actor']], [null, 'gateway']);
    const { headers } = await stack.manage('GET', other.token, '/999999');
    const [refused] = await list(`?request_id=${String(headers['x-request-id'])}`);
    assert.deepEqual(
      [refused?.['action'], refused?.['outcome'], refused?.['revision']],
      ['management.call', 'unknown_api_client', null],
    );
  });

  test('is filtered by client, actor, action, outcome and time', async () => {
    const { id } = await create('filtered', other.token);
    const [event] = await list(`?client_id=${id}`);
    const at = event?.['at'] as string;
    const justAfter = new Date(Date.parse(at) + 1).toISOString();
    const all = (events: Event[], name: string, value: unknown) => {
      assert.ok(events.length > 0);
      assert.ok(events.every((one) => one[name] === value));
    };
    all(await list(`?actor_id=${other.id}`), 'actor_id', other.id);
    all(await list('?action=api_client.create'), 'action', 'api_client.create');
    assert.ok((await list('?action=api_client')).some(({ action }) => action === 'api_client.update'));
    assert.deepEqual(await list('?action=api_clien'), []);
    all(await list('?outcome=done'), 'outcome', 'done');
    const has = async (query: string) => (await list(`${query}&client_id=${id}`)).length === 1;
    assert.deepEqual([await has(`?since=${at}`), await has(`?since=${justAfter}`)], [true, false]);
    assert.deepEqual([await has(`?until=${at}`), await has(`?until=${justAfter}`)], [false, true]);
  });

  test('comes in pages that follow each other, the newest first', async () => {
    for (let count = 0; count < 5; count++) await create(`page ${count}`);
    const [newest] = await list('?action=api_client.create&limit=1');
    const upTo = `action=api_client.create&until=${new Date(Date.now() + 60_000).toISOString()}`;
    const ids: unknown[] = [];
    let next: string | undefined = `${path}?${upTo}&limit=2`;
    while (next !== undefined) {
      const { body, headers } = await stack.ask(next, { key: stack.adminKey });
      ids.push(...(JSON.parse(body) as Event[]).map(({ id }) => id));
      next = /<([^>]+)>; rel="next"/.exec(String(headers['link'] ?? ''))?.[1];
    }
    assert.equal(ids[0], newest?.['id']);
    assert.deepEqual(
      ids,
      [...new Set(ids)].sort((one, two) => Number(two) - Number(one)),
    );
    assert.deepEqual(
      ids,
      (await list(`?${upTo}`)).map(({ id }) => id),
    );
  });

  test('is exported whole as JSON lines, however many there are', async () => {
    const database = openTestDatabase(stack.stateDir);
    const rows = Array.from({ length: 2_500 }, () => ({
      ...{ revision: null, at: 1, action: 'test.export', outcome: 'done' },
    }));
    await database.batchInsert('audit_events', rows, 200);
    await database.destroy();
    const { body, headers } = await ask('?format=jsonl&sort=id&action=test');
    assert.match(String(headers['content-type']), /^application\/jsonl/);
    const ids = body
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as Event)['id']);
    assert.equal(new Set(ids).size, 2_500);
    const [first, second] = (await ask('?format=jsonl&sort=id&action=test&limit=2')).body.split('\n');
    assert.deepEqual(
      [first, second].map((line) => (JSON.parse(line ?? '') as Event)['id']),
      ids.slice(0, 2),
    );
  });

  test('is for administrators, cannot be written, and names a wrong parameter', async () => {
    const { json } = await stack.manage('POST', stack.adminKey, '', { json: { name: 'nobody' } });
    assert.equal((await ask('', json['token'] as string)).status, 403);
    assert.equal((await ask('', madeUpKey(77))).status, 401);
    for (const method of ['POST', 'PUT', 'DELETE'])
      assert.equal((await stack.ask(path, { method, key: stack.adminKey, json: {} })).status, 405);
    for (const [query, parameter] of [
      ['since=yesterday', 'since'],
      ['actor_id=01', 'actor_id'],
      ['action=%25', 'action'],
      ['who=1', 'who'],
      ['sort=at', 'sort'],
      ['cursor=x', 'cursor'],
    ]) {
      const answer = await ask(`?${query}`);
      assert.equal(answer.status, 400, query);
      assert.deepEqual((answer.json['errors'] as Event[])[0]?.['parameter'], parameter);
    }
    const database = openTestDatabase(stack.stateDir);
    await assert.rejects(database('audit_events').update({ outcome: 'changed' }), /append-only/);
    await database.destroy();
  });
});
