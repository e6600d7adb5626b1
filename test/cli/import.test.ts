import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parse as parseYaml, stringify } from 'yaml';
import type { Imported } from '../../src/cli/import/collector.ts';
import { ImportError } from '../../src/cli/import/import-error.ts';
import { importFormats, type ImportFormat } from '../../src/cli/import/formats.ts';
import { maxImportBytes, readImport } from '../../src/cli/import/read-import.ts';
import { createRequest } from '../../src/http/schemas.ts';
import { root } from '../support/stack.ts';

const key = `${'Zx3'.repeat(21)}Q`;
const otherKey = `${'Ab1'.repeat(21)}T`;
const digestOf = (secret: string) => `sha256:${createHash('sha256').update(secret).digest('hex')}`;
const carried = { digest: digestOf(key), hint: 'Zx3Q' };
const fixture = (name: string) => readFileSync(join(root, 'test/cli/fixtures', name), 'utf8');
const load = (format: ImportFormat, name: string) => readImport(format, fixture(name), { file: name });
const read = (format: ImportFormat, text: string) => readImport(format, text, { file: 'source' });

function client({ document }: Imported, id: string) {
  const found = document.clients.find((each) => each.api_client_id === id);
  assert.ok(found, id);
  return found;
}

/** That there is a note at such a place about such a thing. */
function expectNote({ notes }: Imported, where: RegExp | string, what: RegExp): void {
  const matches = notes.filter((note) => (typeof where === 'string' ? note.where === where : where.test(note.where)));
  assert.ok(
    matches.some((note) => what.test(note.what)),
    `${where} ${what}\n${notes.map((note) => `${note.where}: ${note.what}`).join('\n')}`,
  );
}

function refusal(format: ImportFormat, text: string): string {
  try {
    read(format, text);
  } catch (error) {
    assert.ok(error instanceof ImportError, String(error));
    return error.message;
  }
  return assert.fail(`not refused: ${text.slice(0, 200)}`);
}

suite('an import from Kong', () => {
  const deck = load('kong', 'kong-deck.yaml');

  test('takes a consumer over with everything that has an equal here', () => {
    assert.deepEqual(client(deck, 'billing-eu'), {
      api_client_id: 'billing-eu',
      name: 'billing',
      tags: ['eu', 'finance', 'group:partners'],
      scopes: ['orders.read', 'orders.write'],
      rate_limit: '10/s',
      quota: '100000/d',
      allowed_cidrs: ['192.0.2.7/32', '198.51.100.0/24', '2001:db8::/32'],
      keys: [carried],
    });
  });

  test('uses the username where there is no custom_id, and a shared configuration of decK', () => {
    assert.deepEqual(client(deck, 'ci'), { api_client_id: 'ci', name: 'ci' });
    assert.deepEqual(client(deck, 'zoe-reports'), {
      api_client_id: 'zoe-reports',
      name: 'Zoë Reports',
      rate_limit: '600/m',
      quota: '100000/d',
    });
  });

  test('notes with its line whatever is not carried over, or not as it was', () => {
    const consumers: readonly [RegExp | string, RegExp][] = [
      ['services', /only consumers are/],
      ['line 26, consumer_groups[0]', /Plugins of a group/],
      [/consumers\[0\]$/, /"on call" is left out: a scope/],
      [/consumers\[0\]$/, /300 requests in 60 s is left out/],
      [/consumers\[0\]$/, /1000000 requests in 2592000 s is left out/],
      ['line 64, consumers[0].plugins[1]', /denied addresses/],
      ['line 68, consumers[0].plugins[1].config.allow[1]', /198\.51\.100\.0\/24/],
      ['line 49, consumers[0].keyauth_credentials[0].key', /\.\.\.Zx3Q is carried over\. .*apk <id>\.<key>/],
      [/keyauth_credentials\[1\]\.key/, /\.\.\.2a10 cannot .* new key must be made/],
      [/keyauth_credentials\[2\]$/, /ttl/],
      [/consumers\[1\]\.username/, /without emoji/],
      [/consumers\[1\]\.plugins\[0\]/, /counted by ip/],
      [/consumers\[1\]\.plugins\[1\]/, /request-transformer/],
      [/basicauth_credentials\[0\]/, /basic-auth/],
      [/jwt_secrets\[0\]/, /JWT/],
      [/consumers\[2\]\.plugins\[0\]/, /switched off/],
      [/consumers\[2\]\.plugins\[1\]/, /one service only/],
      [/consumers\[2\]\.keyauth_credentials\[0\]\.key/, /A reference to a key/],
      ['consumers', /X-Consumer-ID/],
    ];
    for (const [where, what] of consumers) expectNote(deck, where, what);
  });

  test('finds credentials, groups and plugins at the top of a DB-less file, by user name and by id', () => {
    const dbless = load('kong', 'kong-dbless.json');
    assert.deepEqual(dbless.document.clients, [
      { api_client_id: 'anon', name: 'anon', quota: '500/d', allowed_cidrs: ['10.0.0.0/8'] },
      {
        api_client_id: 'service_role',
        name: 'service_role',
        tags: ['internal', 'group:A-team'],
        scopes: ['admin'],
        keys: [carried],
      },
    ]);
    expectNote(dbless, 'keyauth_credentials[2]', /its consumer is not in this file/);
    expectNote(dbless, 'keyauth_credentials[0].key', /cannot be carried over/);
    expectNote(dbless, 'plugins', /without a consumer/);
    expectNote(dbless, 'consumer_group_plugins[0]', /Plugins of a group/);
  });

  test('takes versions 1.1, 2.1 and 3.0, and no other', () => {
    for (const version of ['"1.1"', "'2.1'", '"3.0"', '3.0']) {
      const { document } = read('kong', `_format_version: ${version}\nconsumers:\n- username: a\n`);
      assert.deepEqual(document, { version: 1, clients: [{ api_client_id: 'a', name: 'a' }] });
    }
    assert.match(
      refusal('kong', '_format_version: "9.9"\n'),
      /line 1, _format_version: must be one of 1\.1, 2\.1, 3\.0/,
    );
    assert.match(refusal('kong', 'consumers: []\n'), /has no _format_version; .*deck gateway dump/);
  });

  const refusals: readonly (readonly [string, string, RegExp])[] = [
    [
      'two consumers of one api_client_id',
      '- username: a\n- username: b\n  custom_id: a',
      /consumers\[1\]: .* same .* line 3/,
    ],
    ['two consumers of one name', '- username: a\n  custom_id: b\n- username: a', /username of two consumers/],
    ['a consumer without a name', '- tags: [a]', /consumers\[0\]: has neither username nor custom_id/],
    ['a name that is a number', '- username: 007', /line 3, consumers\[0\]\.username: must be a text; .*quotes/],
    [
      'an identifier that would have to be changed',
      '- username: "a\\nb"',
      /api_client_id, which must not contain control/,
    ],
    ['an address that is none', network('allow: [192.0.2.300]'), /config\.allow\[0\]: must be a CIDR block such as/],
    ['more networks than are allowed', network(`allow: [${blocks(65)}]`), /allowed_cidrs has more than 64 members/],
    ['two limits of one kind', limits('minute: 1', 'minute: 2'), /second rate-limiting of the same consumer/],
    ['a limit that is no number', limits('minute: "5"'), /config\.minute: must be a number of requests above 0/],
    ['a limit of nothing', limits('minute: 0'), /above 0/],
    ['a group without name', '- username: a\n  acls: [{}]', /acls\[0\]: has no group/],
    [
      'a shared configuration that is not there',
      '- username: a\n  plugins: [{name: rate-limiting, _config: x}]',
      /_config/,
    ],
    [
      'more keys than a client may have',
      `- username: a\n  keyauth_credentials:\n${manyKeys(21)}`,
      /21 keys; at most 20/,
    ],
  ];
  for (const [what, consumers, message] of refusals) {
    test(`refuses ${what}`, () => {
      assert.match(refusal('kong', `_format_version: "3.0"\nconsumers:\n${consumers}\n`), message);
    });
  }

  function network(config: string) {
    return `- username: a\n  plugins: [{name: ip-restriction, config: {${config}}}]`;
  }
  function limits(...configs: string[]) {
    return `- username: a\n  plugins: [${configs.map((config) => `{name: rate-limiting, config: {${config}}}`).join(', ')}]`;
  }
  function blocks(count: number) {
    return Array.from({ length: count }, (_, index) => `10.0.${index}.0/24`).join(', ');
  }
  function manyKeys(count: number) {
    return Array.from({ length: count }, (_, index) => `  - key: ${String(index).padStart(64, 'k')}`).join('\n');
  }

  test('adapts what has too many or too long tags and scopes, and says which are left out', () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => `t${index}`);
    const imported = read(
      'kong',
      stringify({
        _format_version: '3.0',
        consumers: [
          {
            username: 'a',
            tags: [...many(40), 'x'.repeat(70)],
            acls: many(70).map((group) => ({ group })),
            plugins: [{ name: 'rate-limiting', config: { second: 0.25 } }],
          },
        ],
      }),
    );
    assert.deepEqual(client(imported, 'a').tags, many(32));
    assert.equal(client(imported, 'a').scopes?.length, 64);
    assert.equal(client(imported, 'a').rate_limit, '15/m');
    expectNote(imported, /consumers\[0\]/, /Of 41 tags the first 32 are kept; left out: t32, t33/);
    expectNote(imported, /consumers\[0\]/, /Of 70 scopes the first 64/);
    expectNote(imported, /consumers\[0\]/, /at most 64 visible characters/);
    expectNote(imported, /consumers\[0\]/, /0\.25 requests in 1 s is written as 15\/m/);
  });

  test('leaves out a limit that cannot be written, and says so', () => {
    const imported = read(
      'kong',
      '_format_version: "3.0"\nconsumers:\n- username: a\n  plugins: [{name: rate-limiting, config: {year: 1}}]\n',
    );
    assert.deepEqual(client(imported, 'a'), { api_client_id: 'a', name: 'a' });
    expectNote(imported, /consumers\[0\]/, /1 requests in 31536000 s is left out/);
  });
});

suite('an import from APISIX', () => {
  const standalone = load('apisix', 'apisix.yaml');

  test('takes consumers of apisix.yaml over, with the plugins of their group that they have not themselves', () => {
    assert.deepEqual(standalone.document.clients, [
      {
        api_client_id: 'jack',
        description: "Jack's importer, runs nightly",
        tags: ['env:prod', 'team:data', 'group:company_a'],
        rate_limit: '200/m',
        allowed_cidrs: ['127.0.0.1/32', '113.74.26.0/24'],
        keys: [carried],
      },
      { api_client_id: 'rose', rate_limit: '5/s', rate_limit_burst: 10, quota: '142/d' },
      { api_client_id: 'slow', rate_limit: '30/m' },
    ]);
  });

  test('notes whatever is not carried over, or not as it was', () => {
    const expected: readonly [RegExp | string, RegExp][] = [
      ['routes', /only consumers are/],
      ['line 46, consumers[2]', /its consumer is not in this file/],
      [/consumers\[0\]\.desc/, /one line/],
      [/consumer_groups\[0\]\.plugins\.limit-count/, /counted by remote_addr/],
      [/consumers\[0\]\.plugins\.ip-restriction$/, /denied addresses/],
      [/whitelist\[1\]/, /113\.74\.26\.0\/24/],
      [/consumer-restriction/, /\$required_scopes/],
      [/proxy-rewrite/, /not carried over/],
      [/consumers\[0\]\.plugins\.key-auth\.key/, /\.\.\.Zx3Q is carried over/],
      ['line 45, consumers[1].plugins.key-auth.key', /A key that is not 64 letters and digits cannot/],
      [/consumers\[3\]\.plugins\.limit-req/, /delayed/],
      [/consumers\[3\]\.plugins\.limit-conn/, /not carried over/],
      [/consumers\[3\]$/, /1000 requests in 604800 s is written as 142\/d/],
      [/consumers\[3\]\.plugins\.basic-auth/, /basic-auth/],
      [/consumers\[3\]\.plugins\.jwt-auth/, /jwt-auth/],
      [/consumers\[4\]\.plugins\.limit-req/, /burst is not carried over/],
      [/consumers\[4\]\.plugins\.limit-count/, /switched off/],
      [/consumers\[4\]\.plugins\.key-auth/, /switched off/],
    ];
    for (const [where, what] of expected) expectNote(standalone, where, what);
  });

  test('says when the file may have been cut off', () => {
    assert.ok(!standalone.notes.some(({ what }) => what.includes('#END')));
    expectNote(read('apisix', 'consumers:\n- username: a\n'), 'the end', /no #END/);
  });

  test('takes no key from the Admin API, which may answer it encrypted', () => {
    const admin = load('apisix', 'apisix-admin.json');
    assert.deepEqual(admin.document.clients, [
      { api_client_id: 'jack', description: 'new consumer', tags: ['group:company_a'], rate_limit: '2/m' },
      { api_client_id: 'rose' },
    ]);
    expectNote(admin, '[0].list[0].value.plugins.key-auth.key', /encrypted \(data_encryption\)/);
    expectNote(admin, '[1].list[0].value.plugins.key-auth.key', /encrypted \(data_encryption\)/);
  });

  test('reads the answer of version 2, and that for one consumer', () => {
    assert.deepEqual(load('apisix', 'apisix-admin-v2.json').document.clients, [{ api_client_id: 'foo' }]);
    const one = { key: '/apisix/consumers/foo', value: { username: 'foo', labels: { env: 'prod' } } };
    assert.deepEqual(read('apisix', JSON.stringify(one)).document.clients, [
      { api_client_id: 'foo', tags: ['env:prod'] },
    ]);
  });

  const refusals: readonly (readonly [string, string, RegExp])[] = [
    ['a file without consumers', 'routes: []\n#END\n', /has no consumers; conf\/apisix\.yaml or an answer/],
    [
      'another resource of the Admin API',
      '{"list":[{"key":"/apisix/routes/1","value":{}}]}',
      /list\[0\]: is no consumer/,
    ],
    ['a resource without key', '{"list":[{"value":{"username":"a"}}]}', /list\[0\]: has no key/],
    ['a consumer without username', 'consumers:\n- desc: x\n', /line 2, consumers\[0\]: has no username/],
    ['the same consumer twice', 'consumers:\n- username: a\n- username: a\n', /consumers\[1\]: has the same/],
    [
      'a limit without count',
      'consumers:\n- username: a\n  plugins: {limit-count: {time_window: 1}}\n',
      /must have a count above 0/,
    ],
    ['a key plugin without key', 'consumers:\n- username: a\n  plugins: {key-auth: {}}\n', /key-auth: has no key/],
    ['a label that is no text', 'consumers:\n- username: a\n  labels: {build: 7}\n', /labels\.build: must be a text/],
  ];
  for (const [what, text, message] of refusals) {
    test(`refuses ${what}`, () => {
      assert.match(refusal('apisix', text), message);
    });
  }

  test('notes limits that depend on the request, and a group that is not there', () => {
    const imported = read(
      'apisix',
      stringify({
        consumers: [
          { username: 'a', group_id: 7, plugins: { 'limit-count': { rules: [{ count: 1 }] } } },
          { username: 'b', plugins: { 'limit-count': { count: '$http_count', time_window: 60 } } },
          { username: 'c', secret_id: 'x', plugins: { toString: {} } },
        ],
      }),
    );
    assert.deepEqual(imported.document.clients, [
      { api_client_id: 'a', tags: ['group:7'] },
      { api_client_id: 'b' },
      { api_client_id: 'c' },
    ]);
    expectNote(imported, /consumers\[0\]\.plugins/, /Limits by rules/);
    expectNote(imported, /consumers\[0\]\.group_id/, /group are not in this file/);
    expectNote(imported, /consumers\[1\]\.plugins/, /computed from variables/);
    expectNote(imported, /consumers\[2\]$/, /secret_id is not carried over/);
    expectNote(imported, /consumers\[2\]\.plugins\.toString/, /plugin toString/);
  });
});

suite('an import from a password file', () => {
  const users = load('htpasswd', 'htpasswd');

  test('makes a client without key of each user, and keeps the comment', () => {
    assert.deepEqual(
      users.document.clients.map(({ api_client_id: id }) => id),
      ['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'gina'],
    );
    assert.deepEqual(client(users, 'bob'), { api_client_id: 'bob', description: 'nightly import, ask Bob' });
    for (const id of ['alice', 'carol', 'erin', 'frank', 'gina'])
      assert.deepEqual(client(users, id), { api_client_id: id });
  });

  test('takes a key only from {PLAIN} with 64 letters and digits', () => {
    assert.deepEqual(client(users, 'dave').keys, [carried]);
    // it may be a hash, which whoever reads the file could then use as the key
    assert.equal(client(read('htpasswd', `a:${key}\n`), 'a').keys, undefined);
  });

  test('says of each line what is not carried over', () => {
    expectNote(users, 'line 2', /apr1/);
    expectNote(users, 'line 3', /bcrypt.*new key must be made/);
    expectNote(users, 'line 5', /SHA/);
    expectNote(users, 'line 7', /cannot be carried over/);
    expectNote(users, 'line 9', /crypt\(\)/);
  });

  const refusals: readonly (readonly [string, string, RegExp])[] = [
    [
      'the same user twice, with both lines',
      '# x\na:1\n\na:2\n',
      /source, line 4: has the same api_client_id as line 2/,
    ],
    ['a line without a password', `a:1\n${key}\n`, /line 2: must be name:password/],
    ['a line without a name', ':1\n', /line 1: must be name:password/],
    ['a file of htdigest', `a:realm:${'0f'.repeat(16)}\n`, /line 1: is a line of htdigest/],
    ['a name with a space at its end', 'a :1\n', /line 1: .* must not begin or end with a space/],
    ['a name that is too long', `${'a'.repeat(1025)}:1\n`, /1025 characters; at most 1024/],
  ];
  for (const [what, text, message] of refusals) {
    test(`refuses ${what}`, () => {
      assert.match(refusal('htpasswd', text), message);
    });
  }

  test('brings a name into normal form C, with a note', () => {
    const imported = read('htpasswd', 'Zoe\u0308:1\r\n');
    assert.deepEqual(imported.document.clients, [{ api_client_id: 'Zo\u00eb' }]);
    expectNote(imported, 'line 1', /normal form C/);
  });
});

suite('an import from an OpenResty gateway of the same contract', () => {
  test('keeps ids and digests, so that keys work as they are', () => {
    const csv = load('openresty', 'openresty.csv');
    assert.deepEqual(csv.document.clients, [
      {
        api_client_id: 'c27d5cf1-87af-41e7-bd89-e3dbd092fbe3',
        name: 'Admin, main',
        is_admin: true,
        keys: [{ digest: digestOf(key) }],
        id: 1,
      },
      { api_client_id: 'abc123', is_admin: false, id: 7 },
      {
        api_client_id: 'billing-eu',
        name: 'billing',
        is_admin: false,
        keys: [{ digest: digestOf(otherKey) }],
        id: 12,
      },
    ]);
    expectNote(csv, 'line 3', /No digest and no token/);
    expectNote(csv, 'last_seen', /not a column that is known/);
    assert.equal(csv.notes.length, 2);
  });

  test('reads tabs, and JSON lines with tokens, of which the digest is kept', () => {
    assert.deepEqual(load('openresty', 'openresty.tsv').document.clients, [
      {
        api_client_id: 'c27d5cf1-87af-41e7-bd89-e3dbd092fbe3',
        name: '5" pipes',
        is_admin: true,
        keys: [{ digest: digestOf(key) }],
        id: 1,
      },
    ]);
    assert.deepEqual(load('openresty', 'openresty.jsonl').document.clients, [
      { api_client_id: 'root', name: 'admin', is_admin: true, keys: [carried], id: 1 },
      {
        api_client_id: 'billing-eu',
        name: 'billing',
        is_admin: false,
        keys: [{ digest: digestOf(otherKey), hint: 'Ab1T' }],
        id: 2,
      },
    ]);
  });

  test('says once that the list of the management API has no digests', () => {
    const api = load('openresty', 'openresty.json');
    assert.deepEqual(api.document.clients, [
      { api_client_id: 'c27d5cf1-87af-41e7-bd89-e3dbd092fbe3', name: 'admin-secure-key', is_admin: true, id: 1 },
      { api_client_id: 'abc123', name: 'oauth2-test-api-client', is_admin: false, enabled: false, id: 7 },
    ]);
    expectNote(api, 'all clients', /No digests/);
    expectNote(api, 'created_at', /when it is imported/);
    assert.equal(api.notes.length, 2);
  });

  const row = (values: object) => JSON.stringify({ id: 1, api_client_id: 'a', ...values });
  const refusals: readonly (readonly [string, string, RegExp])[] = [
    ['an id that is not canonical', row({ id: '01' }), /line 1, id: must be a whole number from 1 to 9007199254740991/],
    ['an id beyond what is exact', '{"id": 9007199254740993, "api_client_id": "a"}', /id: must be a whole number/],
    ['no id', '{"api_client_id": "a"}', /has no id/],
    ['no api_client_id', '{"id": 1}', /has no api_client_id/],
    ['ids that differ', row({ api_key_id: 2 }), /has another api_key_id or api_client_entity_id than id/],
    ['the same id twice', `${row({})}\n${row({ api_client_id: 'b' })}`, /line 2: has the same id as line 1/],
    ['the same api_client_id twice', `${row({})}\n${row({ id: 2 })}`, /line 2: has the same api_client_id as line 1/],
    ['an administrator by something else than true', row({ is_admin: 'yes' }), /is_admin: must be true or false/],
    ['a digest of another length', row({ digest: 'ab' }), /digest: must be a SHA-256 of 64 hexadecimal digits/],
    ['a token of another form', row({ token: `1.${key}x` }), /token: must be <id>\.<64 letters and digits>/],
    ['a token of another id', row({ token: `2.${key}` }), /token: is of another id than its row/],
    [
      'a token that does not fit its digest',
      row({ token: `1.${key}`, digest: 'a'.repeat(64) }),
      /does not fit its digest/,
    ],
    ['columns without names', `1,a,b\n2,c,d\n`, /line 1: must name the columns, id and api_client_id among them/],
    ['a column that is named twice', 'id,api_client_id,id\n', /names a column twice/],
    ['a row of another length', 'id,api_client_id\n1,a\n2,b,c\n', /line 3: has 3 values for 2 columns/],
    ['an open quote', 'id,api_client_id\n1,"a\n', /is not CSV as in RFC 4180/],
    ['a line that is not JSON', `${row({})}\n{"id": 2,\n`, /line 2: is not JSON/],
    ['a member twice', '{"id": 1, "id": 2, "api_client_id": "a"}', /line 1: has a member twice/],
  ];
  for (const [what, text, message] of refusals) {
    test(`refuses ${what}`, () => {
      assert.match(refusal('openresty', text), message);
    });
  }
});

suite('every import', () => {
  test('refuses what is empty or more than 64 MB, and YAML of more than 8 MB', () => {
    for (const format of importFormats) assert.match(refusal(format, ' \n'), /^source is empty$/);
    assert.match(refusal('htpasswd', 'a'.repeat(maxImportBytes + 1)), /has more than 64 MB/);
    assert.match(refusal('kong', `a: ${'b'.repeat(8 * 1024 * 1024)}`), /more than 8 MB of YAML; convert it to JSON/);
  });

  test('reads a byte order mark and the line ends of Windows', () => {
    assert.deepEqual(read('htpasswd', '\uFEFFa:1\r\nb:2\r\n').document.clients.length, 2);
    const csv = '\uFEFFid,api_client_id\r\n1,a\r\n';
    assert.deepEqual(read('openresty', csv).document.clients, [{ api_client_id: 'a', id: 1 }]);
  });

  const bomb = `a: &a [x]\n${Array.from('bcdefghijk', (name, index) => {
    const before = String.fromCharCode(name.charCodeAt(0) - 1);
    return `${name}: &${name} [${Array(9).fill(`*${before}`).join(', ')}] # ${index}`;
  }).join('\n')}\n`;
  const hostile: readonly (readonly [string, string, RegExp])[] = [
    ['aliases that multiply', `_format_version: "3.0"\n${bomb}`, /anchors and aliases that multiply/],
    ['an alias of what it stands in', '_format_version: "3.0"\na: &a [*a]\n', /line 2: has an alias of what it/],
    ['a key twice', '_format_version: "3.0"\nconsumers: []\nconsumers: []\n', /line 3: has a key twice/],
    ['a key that is no text', '_format_version: "3.0"\nx: {[a]: 1}\n', /line 2: has a key that is no text/],
    ['a JSON member twice', '{"_format_version": "3.0", "a": 1, "a": 2}', /has a member twice/],
    ['a name of the prototype', '_format_version: "3.0"\nx: {__proto__: {consumers: []}}\n', /line 2: .*__proto__/],
    ['the same in JSON', '{"_format_version": "3.0", "x": [{"constructor": 1}]}', /x\[0\]: .*constructor/],
    ['deep nesting', `_format_version: "3.0"\na: ${'['.repeat(40)}${']'.repeat(40)}\n`, /nested more than 32 deep/],
    ['megabytes of nesting', `_format_version: "3.0"\na: ${'['.repeat(8_000_000)}`, /nested more than 32 deep/],
    [
      'megabytes of lists in lists',
      `_format_version: "3.0"\na:\n${'- '.repeat(4_000_000)}`,
      /nested more than 32 deep/,
    ],
    ['millions of values', `_format_version: "3.0"\na: [${'1,'.repeat(4_000_000)}1]`, /more values than are read/],
    ['very deep JSON', '['.repeat(100_000), /is not JSON/],
    ['a JSON string of megabytes', `{"a": "${'x'.repeat(20_000_000)}"}`, /nested more than 32 deep|no _format_version/],
    ['an unknown tag', '_format_version: "3.0"\na: !secret x\n', /line 2: has a YAML tag/],
    ['a second document', '_format_version: "3.0"\n---\na: 1\n', /second YAML document/],
    ['tabs', '_format_version: "3.0"\na:\n\tb: 1\n', /tab|YAML/],
    ['a list where an object belongs', '- a\n', /must be an object/],
    ['an object where a list belongs', '_format_version: "3.0"\nconsumers: {}\n', /line 2, consumers: must be a list/],
  ];
  for (const [what, text, message] of hostile) {
    test(`refuses ${what}`, () => {
      assert.match(refusal('kong', text), message);
    });
  }

  test('takes anchors and merge keys as people use them', () => {
    const consumers = Array.from({ length: 300 }, (_, index) => `- {<<: *common, username: u${index}}`).join('\n');
    const { document } = read(
      'kong',
      `_format_version: "3.0"\nx-common: &common {tags: [eu]}\nconsumers:\n${consumers}\n`,
    );
    assert.equal(document.clients.length, 300);
    assert.deepEqual(document.clients.at(-1)?.tags, ['eu']);
  });

  const fixtures: readonly (readonly [ImportFormat, string])[] = [
    ['kong', 'kong-deck.yaml'],
    ['kong', 'kong-dbless.json'],
    ['apisix', 'apisix.yaml'],
    ['apisix', 'apisix-admin.json'],
    ['apisix', 'apisix-admin-v2.json'],
    ['htpasswd', 'htpasswd'],
    ['openresty', 'openresty.json'],
    ['openresty', 'openresty.csv'],
    ['openresty', 'openresty.tsv'],
    ['openresty', 'openresty.jsonl'],
  ];

  /** Only the documented error; and what is read is what the management API would take. */
  function tryRead(format: ImportFormat, text: string): Imported | ImportError {
    try {
      const imported = read(format, text);
      for (const { id, keys, ...request } of imported.document.clients) {
        createRequest.parse(request);
        assert.ok(id === undefined || (Number.isSafeInteger(id) && id > 0));
        for (const { digest, hint } of keys ?? []) {
          assert.match(digest, /^sha256:[0-9a-f]{64}$/);
          assert.ok(hint === undefined || hint.length === 4);
        }
      }
      return imported;
    } catch (error) {
      assert.ok(error instanceof ImportError, String(error));
      return error;
    }
  }

  test('of any text fails with the documented error or not at all', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.json({ maxDepth: 6 }),
      fc.jsonValue({ maxDepth: 4 }).map((value) => stringify(value)),
      fc.jsonValue().map((value) => stringify({ _format_version: '3.0', consumers: value, plugins: value })),
      fc.jsonValue().map((value) => stringify({ consumers: [{ username: 'a', plugins: value, labels: value }] })),
    );
    fc.assert(
      fc.property(fc.constantFrom(...importFormats), text, (format, any) => {
        tryRead(format, any);
      }),
      { numRuns: 1000 },
    );
  });

  test('of a damaged file fails with the documented error or not at all', () => {
    const damage = fc.tuple(
      fc.constantFrom(...fixtures),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat({ max: 40 }),
      fc.string({ unit: 'binary', maxLength: 20 }),
    );
    fc.assert(
      fc.property(damage, ([[format, name], at, length, replacement]) => {
        const text = fixture(name);
        const start = Math.floor(text.length * at);
        tryRead(format, text.slice(0, start) + replacement + text.slice(start + length));
      }),
      { numRuns: 1000 },
    );
  });

  test('of a file with one value replaced by any other fails with the documented error or not at all', () => {
    const replaced = fc.tuple(fc.constantFrom(...fixtures.slice(0, 5)), fc.nat(), fc.jsonValue());
    fc.assert(
      fc.property(replaced, ([[format, name], at, value]) => {
        const document: unknown = parseYaml(fixture(name));
        const holders = findHolders(document);
        const holder = holders[at % holders.length];
        if (holder) Object.assign(holder.object, { [holder.name]: value });
        tryRead(format, JSON.stringify(document));
      }),
      { numRuns: 1000 },
    );
  });

  function findHolders(value: unknown): { object: object; name: string }[] {
    if (typeof value !== 'object' || value === null) return [];
    return Object.entries(value).flatMap(([name, member]) => [{ object: value, name }, ...findHolders(member)]);
  }

  const secret = fc.stringMatching(/^[A-Za-z0-9+/=$.-]{9,80}$/);
  const keySecret = fc.stringMatching(/^[A-Za-z0-9]{64}$/);
  /** Sources with a secret in every place that is for one, whole and broken off behind it. */
  const sources: readonly (readonly [ImportFormat, (secret: string) => string])[] = [
    [
      'kong',
      (text) =>
        stringify({
          _format_version: '3.0',
          consumers: [
            {
              username: 'a',
              keyauth_credentials: [{ key: text }, { key: text, ttl: 5 }],
              basicauth_credentials: [{ username: 'a', password: text }],
              jwt_secrets: [{ key: text, secret: text }],
              hmacauth_credentials: [{ username: 'a', secret: text }],
              oauth2_credentials: [{ client_id: text, client_secret: text }],
              plugins: [{ name: 'x', config: { redis: { password: text } } }],
            },
          ],
        }),
    ],
    ['kong', (text) => `{"_format_version": "3.0", "keyauth_credentials": [{"consumer": "a", "key": "${text}"}]}`],
    ['kong', (text) => `_format_version: "3.0"\nconsumers:\n- username: a\n  keyauth_credentials:\n  - "${text}"\n`],
    [
      'apisix',
      (text) =>
        stringify({
          consumers: [
            {
              username: 'a',
              plugins: {
                'key-auth': { key: text },
                'basic-auth': { username: 'a', password: text },
                'jwt-auth': { key: text, secret: text },
                'limit-count': { count: 1, time_window: 1, policy: 'redis', redis_password: text },
              },
            },
            { id: 'a/credentials/b', plugins: { 'key-auth': { key: text } } },
          ],
        }),
    ],
    [
      'apisix',
      (text) =>
        JSON.stringify({
          list: [{ key: '/apisix/consumers/a', value: { username: 'a', plugins: { 'key-auth': { key: text } } } }],
        }),
    ],
    ['htpasswd', (text) => `a:${text}\nb:{PLAIN}${text}\n`],
    ['htpasswd', (text) => `a:$apr1$x\n${text}\n`],
    ['openresty', (text) => `id,api_client_id,token\n1,a,1.${text}\n`],
    ['openresty', (text) => `id,api_client_id,digest\n1,a,"${text}\n`],
    ['openresty', (text) => `id,api_client_id,digest\n1,a,b"${text}"\n`],
    ['openresty', (text) => JSON.stringify({ id: 1, api_client_id: 'a', token: `1.${text}`, password: text })],
  ];

  /** All that an error shows but the places in our code, whose names may begin like a made-up secret. */
  const wordsOf = ({ message, stack = '', cause }: Error) =>
    `${message} ${stack.replaceAll(/^ +at .*$/gm, '')} ${cause instanceof Error ? cause.message : String(cause)}`;

  test('shows no secret of its source, in the document, in notes or in errors', () => {
    const broken = fc.nat({ max: 12 });
    fc.assert(
      fc.property(fc.constantFrom(...sources), fc.oneof(secret, keySecret), broken, ([format, write], text, cut) => {
        const source = write(text);
        for (const each of [source, source.slice(0, source.lastIndexOf(text) + text.length + cut)]) {
          const result = tryRead(format, each);
          const shown = result instanceof Error ? wordsOf(result) : JSON.stringify(result);
          assert.ok(!shown.includes(text.slice(0, -4)), shown);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
