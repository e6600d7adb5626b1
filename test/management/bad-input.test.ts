import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import type { Answer, Ask } from '../support/front-door.ts';
import { madeUpKey } from '../support/keys.ts';
import { startTestStack, type TestStack } from '../support/stack.ts';

suite('bad input to the management API', () => {
  let stack: TestStack;
  let stored: string;
  before(async () => {
    stack = await startTestStack();
    stored = await clients();
  });
  after(() => stack.stop());

  /** All that is stored of them, but for the use that this question is. */
  const clients = async () => (await stack.manage('GET', stack.adminKey)).body.replaceAll(/"last_used_at":[^,]+/g, '');

  /** A problem that says what is wrong, and nothing is stored. */
  async function expectProblem(answer: Answer, status: number, said: RegExp): Promise<void> {
    assert.equal(answer.status, status, answer.body);
    assert.equal(answer.headers['content-type'], 'application/problem+json');
    const { json } = answer;
    assert.equal(json['status'], status);
    assert.match(json['request_id'] as string, /^[0-9a-f]{32}$/);
    assert.match(JSON.stringify([json['detail'], json['errors'] ?? '']), said);
    assert.doesNotMatch(answer.body, /SQLITE|knex|at .*\.[jt]s|insert into|select /i);
    assert.equal(await clients(), stored);
  }

  const post = (ask: Ask) =>
    stack.manage('POST', stack.adminKey, '', { headers: { 'Content-Type': 'application/json' }, ...ask });

  const names: Record<string, [unknown, RegExp]> = {
    'an empty name': ['', /\/name.*must not be empty/],
    'a name of 1,025 characters': ['n'.repeat(1025), /has 1025 characters; at most 1024/],
    'a name of 1,025 characters beyond the BMP': ['𝒜'.repeat(1025), /has 1025 characters/],
    'a name with CR and LF': ['a\r\nX-Client-Id: 1', /control characters/],
    'a name with NUL': ['a\u0000b', /control characters/],
    'a name with an escape': ['\u001b[2J', /control characters/],
    'a name with a zero-width space': ['a\u200bb', /invisible/],
    'a name that reverses its direction': ['a\u202egpj.exe', /invisible/],
    'a name with half a surrogate pair': ['a\ud800', /invisible or unassigned/],
    'a name with an emoji': ['robot 🤖', /emoji/],
    'a name with a heart of two code points': ['❤\ufe0f', /emoji/],
    'a name that is filled up with what nobody sees': ['a\u3164', /invisible/],
    'a name in another normal form': ['Zoe\u0308', /normal form C/],
    'a name that begins with a space': [' a', /begin or end with a space/],
    'a name with an API key in it': [`our key ${madeUpKey(12)}`, /must not contain an API key or a token/],
    'a name with a token in it': ['eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl', /an API key or a token/],
    'a name that is a number': [7, /must be a string/],
    'a name that is null': [null, /must be a string/],
    'a name that is a list': [['a'], /must be a string/],
    'a name that is an object': [{ a: 1 }, /must be a string/],
  };
  for (const [what, [name, said]] of Object.entries(names)) {
    test(`${what} is 400 with its JSON Pointer`, async () => {
      for (const member of ['name', 'api_client_id']) {
        const answer = await post({ json: { [member]: name } });
        await expectProblem(answer, 400, new RegExp(said.source.replace('/name', `/${member}`)));
        const [error] = answer.json['errors'] as { pointer: string }[];
        assert.equal(error?.pointer, `/${member}`);
      }
    });
  }

  test('1,024 characters of any script are accepted and come back as they were', async () => {
    for (const name of ['n'.repeat(1024), '語'.repeat(1024), 'Zoë’s “büro” — №1 ∑']) {
      const { status, json } = await post({ json: { name } });
      assert.equal(status, 201);
      assert.equal(json['name'], name);
      await stack.manage('DELETE', stack.adminKey, `/${String(json['id'])}`);
    }
  });

  test('an api_client_id that does not fit into a header whole is 400: two of them would be one for the application', async () => {
    const fits = '語'.repeat(113);
    const { status, json } = await post({ json: { api_client_id: fits } });
    assert.equal(status, 201);
    await stack.manage('DELETE', stack.adminKey, `/${String(json['id'])}`);
    const tooLong = { json: { api_client_id: `${fits}語` } };
    await expectProblem(await post(tooLong), 400, /\/api_client_id has more than 1,024/);
    await expectProblem(await stack.manage('PUT', stack.adminKey, '/1', tooLong), 400, /\/api_client_id has more/);
  });

  const bodies: Record<string, [string | Buffer, number, RegExp]> = {
    'no body': ['', 400, /empty/],
    'white space': [' \n', 400, /empty/],
    'what is not JSON': ['name=admin', 400, /not JSON/],
    'half a document': ['{"name": "a"', 400, /not JSON/],
    'JSON and more': ['{} {}', 400, /not JSON/],
    'a member twice': ['{"is_admin": false, "is_admin": true}', 400, /a member twice/],
    'a list': ['[]', 400, /must be a JSON object/],
    'a string': ['"name"', 400, /must be a JSON object/],
    null: ['null', 400, /must be a JSON object/],
    'an unknown member': ['{"name": "a", "is_root": true}', 400, /\/is_root.*not a member/],
    'a member with a slash and a tilde': ['{"a/b~c": 1}', 400, /\/a~1b~0c/],
    'a __proto__': ['{"__proto__": {"is_admin": true}}', 400, /\/__proto__.*not a member/],
    'a nested __proto__': ['{"name": {"__proto__": 1}}', 400, /\/name must be a string/],
    'a constructor': ['{"constructor": {"prototype": {"is_admin": true}}}', 400, /\/constructor/],
    'a flag that is a number': ['{"is_admin": 1}', 400, /\/is_admin.*true or false/],
    'a flag that is another word': ['{"is_admin": "yes"}', 400, /\/is_admin.*true or false/],
    'a flag that is null': ['{"generate_api_key": null}', 400, /\/generate_api_key.*true or false/],
    'an id of its own': ['{"id": 1}', 400, /\/id.*cannot be set/],
    'bytes that are not UTF-8': [Buffer.from([0x22, 0xff, 0xfe, 0x22]), 400, /not UTF-8/],
    'deep nesting': ['['.repeat(30_000) + ']'.repeat(30_000), 400, /nested|object/],
    'deep nesting of objects': ['{"a":'.repeat(10_000) + '1' + '}'.repeat(10_000), 400, /nested|not a member/],
    '10 MB': [Buffer.alloc(10 * 1024 * 1024, 0x20), 413, /too large/],
    'a little more than 64 KB': [Buffer.alloc(64 * 1024 + 1, 0x20), 413, /too large/],
  };
  for (const [what, [body, status, said]] of Object.entries(bodies)) {
    test(`${what} as the body is ${status}`, async () => {
      const answer = await post({ body });
      if (status === 413) {
        assert.equal(answer.status, 413);
        assert.equal(answer.json['status'], 413);
        assert.equal(await clients(), stored);
        return;
      }
      await expectProblem(answer, status, said);
    });
  }

  test('a body in chunks that grows beyond 64 KB is 413', async () => {
    const headers = { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' };
    const { status } = await post({ body: Buffer.alloc(200 * 1024, 0x20), headers });
    assert.equal(status, 413);
    assert.equal(await clients(), stored);
  });

  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/json; charset=latin1',
    'application/jsonp',
    'multipart/form-data; boundary=x',
  ]) {
    test(`Content-Type ${type} is 415`, async () => {
      await expectProblem(await post({ body: '{}', headers: { 'Content-Type': type } }), 415, /application\/json/);
    });
  }

  test('no Content-Type, or a Content-Encoding, is 415', async () => {
    await expectProblem(await post({ body: '{}', headers: {} }), 415, /application\/json/);
    const headers = { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' };
    await expectProblem(await post({ body: '{}', headers }), 415, /Content-Encoding/);
  });

  const ids = [
    '01',
    '+1',
    '-1',
    '1e0',
    '0x1',
    '0',
    '1.0',
    '9223372036854775808',
    `1${'0'.repeat(100)}`,
    '%EF%BC%91',
    'null',
    '1%00',
    '%201',
    '1;2',
    "1'--",
  ];
  for (const id of ids) {
    test(`the id ${id} in the path is 400 for every method`, async () => {
      for (const method of ['GET', 'PUT', 'DELETE']) {
        const answer = await stack.manage(
          method,
          stack.adminKey,
          `/${id}`,
          method === 'PUT' ? { json: { name: 'x' } } : {},
        );
        // a NUL never passes nginx
        if (id === '1%00') assert.equal(answer.status, 400);
        else await expectProblem(answer, 400, /whole number from 1 to 9223372036854775807/);
      }
    });
  }

  for (const id of ['999999', '9007199254740993', '9223372036854775807']) {
    test(`the id ${id}, which no client has, is 404 for every method`, async () => {
      for (const method of ['GET', 'PUT', 'DELETE']) {
        const ask = method === 'PUT' ? { json: { name: 'x' } } : {};
        await expectProblem(await stack.manage(method, stack.adminKey, `/${id}`, ask), 404, /no API client/);
      }
    });
  }

  const queries = [
    'limit=-1',
    'limit=0',
    'limit=1001',
    'limit=ten',
    'limit=1.5',
    'limit=',
    'limit=1&limit=2',
    'cursor=-1',
    'cursor=x',
    'limit=01',
    'limits=1',
    '__proto__=1',
    'cursor=99999999999999999999',
  ];
  for (const query of queries) {
    test(`the query ${query} is 400 and names the parameter`, async () => {
      const name = query.split('=')[0] ?? '';
      await expectProblem(await stack.manage('GET', stack.adminKey, `?${query}`), 400, new RegExp(name));
    });
  }

  test('an unknown parameter is 400 on every call', async () => {
    await expectProblem(await stack.manage('DELETE', stack.adminKey, '/1?forced=true'), 400, /forced/);
    await expectProblem(await stack.manage('DELETE', stack.adminKey, '/1?force=maybe'), 400, /force/);
    await expectProblem(await stack.manage('GET', stack.adminKey, '/1?x=1'), 400, /x is not a parameter/);
    await expectProblem(await stack.manage('POST', stack.adminKey, '?x=1', { json: {} }), 400, /x is not a parameter/);
  });

  test('an api_client_id that another client has is 409, on create and on update', async () => {
    const [first, second] = [
      await post({ json: { api_client_id: 'taken' } }),
      await post({ json: { api_client_id: 'free' } }),
    ];
    const all = await clients();
    for (const answer of [
      await post({ json: { api_client_id: 'taken' } }),
      await stack.manage('PUT', stack.adminKey, `/${String(second.json['id'])}`, { json: { api_client_id: 'taken' } }),
    ]) {
      assert.deepEqual([answer.status, answer.json['reason']], [409, 'duplicate_api_client_id']);
      assert.deepEqual(answer.json['errors'], [
        { pointer: '/api_client_id', detail: 'is the api_client_id of another API client' },
      ]);
    }
    assert.equal(await clients(), all);
    for (const { json } of [first, second]) await stack.manage('DELETE', stack.adminKey, `/${String(json['id'])}`);
  });

  test('an unknown path below /v1/management/ is 404 for an administrator and 401 for everybody else', async () => {
    await expectProblem(await stack.ask('/v1/management/other', { key: stack.adminKey }), 404, /nothing at this path/);
    assert.equal((await stack.ask('/v1/management/other')).status, 401);
    await expectProblem(await stack.manage('GET', stack.adminKey, '/1/other'), 404, /nothing at this path/);
  });

  test('whatever JSON is sent, the answer is 201 or a 4xx problem, never a fault', async () => {
    await fc.assert(
      fc.asyncProperty(fc.json({ maxDepth: 4 }), async (body) => {
        const { status, json } = await post({ body });
        assert.ok(status === 201 || (status >= 400 && status < 500), `${status} for ${body}`);
        if (status === 201) await stack.manage('DELETE', stack.adminKey, `/${String(json['id'])}`);
      }),
      { numRuns: 60 },
    );
  });
});
