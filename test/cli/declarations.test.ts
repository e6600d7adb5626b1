import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { parse, stringify } from 'yaml';
import { commandLineOf, done } from '../support/cli.ts';
import { makeTempDir, startTestStack, until, type TestStack } from '../support/stack.ts';

suite('files of API clients', () => {
  let stack: TestStack;
  let dir: string;
  before(async () => {
    stack = await startTestStack();
    dir = makeTempDir();
  });
  after(() => stack.stop());

  const { local, remote } = commandLineOf(() => stack);
  const statusOf = async (key: string) => (await stack.ask('/', { key })).status;

  // over the management API, where there are most between a file and the database; on it alone, the one after it and the last
  test(`export, a changed file, the plan, and apply`, async () => {
    await done(remote(['clients', 'create', '--api-client-id', 'remote-declared', '--scope', 'old']));
    const file = join(dir, 'remote.yaml');
    const { stdout: exported } = await done(remote(['export']));
    const changed = exported.replace('      - old\n', '      - new\n');
    writeFileSync(file, `${changed}  - api_client_id: remote-added\n`);
    const plan = await done(remote(['apply', '-f', file, '--dry-run']));
    assert.match(plan.stdout, new RegExp(`^~ remote-declared \\(\\d+\\)\n +scopes: \\["old"\\] -> \\["new"\\]$`, 'm'));
    assert.match(plan.stdout, new RegExp(`^\\+ remote-added$`, 'm'));
    assert.match(plan.stdout, /^plan: 1 to create, 1 to update, 0 to delete, \d+ as they are$/m);
    const unasked = await remote(['apply', '-f', '-'], { input: readFileSync(file) });
    assert.deepEqual([unasked.exitCode, /say it with --yes/.test(unasked.stderr)], [2, true], unasked.stderr);
    assert.equal((await done(remote(['export']))).stdout, exported, 'nothing was done');
    const { stderr } = await done(remote(['apply', '-f', file, '--yes']));
    assert.match(stderr, /done: 1 created, 1 updated, 0 deleted/);
    assert.match((await done(remote(['apply', '-f', file, '--yes']))).stdout, /^plan: 0 to create, 0 to update/m);
    writeFileSync(file, 'version: 1\nclients:\n  - api_client_id: x\n    api_client_id: y\n');
    const broken = await remote(['apply', '-f', file, '--yes']);
    assert.deepEqual(
      [broken.exitCode, /\.yaml, line 4: has a key twice/.test(broken.stderr)],
      [2, true],
      broken.stderr,
    );
  });

  test('on the local database: what a file leaves out is removed with --prune alone, and the front door follows', async () => {
    const create = async (name: string) =>
      (await stack.manage('POST', stack.adminKey, '', { json: { api_client_id: name } })).json['token'] as string;
    const [kept, pruned] = [await create('local-kept'), await create('local-pruned')];
    const { stdout: exported } = await done(local(['export']));
    const { body } = await stack.ask('/v1/management/export', { key: stack.adminKey });
    const document = parse(exported) as { clients: { api_client_id: string; enabled: boolean }[] };
    assert.deepEqual(document, JSON.parse(body));
    const clients = [
      ...document.clients
        .filter(({ api_client_id }) => api_client_id !== 'local-pruned')
        .map((client) => ({ ...client, enabled: client.api_client_id !== 'local-kept' })),
      { api_client_id: 'local-added' },
    ];
    const file = join(dir, 'local.yaml');
    writeFileSync(file, stringify({ ...document, clients }));
    for (const key of [kept, pruned]) assert.equal(await statusOf(key), 200);

    const plan = await done(local(['apply', '-f', file, '--dry-run']));
    assert.match(plan.stdout, /^plan: 1 to create, 1 to update, 0 to delete, \d+ as they are$/m);
    const unasked = await local(['apply', '-f', file, '--prune']);
    assert.match(unasked.stdout, /^- local-pruned \(\d+\)\n(?:[^]*\n)?plan: 1 to create, 1 to update, 1 to delete, /m);
    assert.equal(unasked.exitCode, 2, 'nobody can be asked');
    assert.deepEqual(JSON.parse((await stack.ask('/v1/management/export', { key: stack.adminKey })).body), document);
    const { stderr } = await done(local(['apply', '-f', file, '--prune', '--yes']));
    assert.match(stderr, /done: 1 created, 1 updated, 1 deleted/);
    await until('the one that is left out ends', async () => (await statusOf(pruned)) === 401);
    await until('the other is disabled', async () => (await statusOf(kept)) === 403);
    assert.equal(await statusOf(stack.adminKey), 200, 'whom a bootstrap key alone has made is not removed');
    const trail = await stack.ask('/v1/management/audit-events?action=api_client.delete', { key: stack.adminKey });
    assert.match(trail.body, /"actor":"command line \(\w+\)"/);
  });

  test(`imports from another gateway: the plan, then with --yes, with new keys in a file of one's own`, async () => {
    const file = join(dir, 'remote-htpasswd');
    writeFileSync(file, `remote-alice:$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb\nremote-bob:{SHA}x\n`);
    const plan = await done(remote(['import', '--from', 'htpasswd', file]));
    assert.match(plan.stdout, new RegExp(`^\\+ remote-alice$`, 'm'));
    assert.match(plan.stderr, /Nothing was done; with --yes it is/);
    assert.equal((await remote(['clients', 'show', 'remote-alice'])).exitCode, 3);
    const keys = join(dir, 'remote-keys.csv');
    await done(remote(['import', '--from', 'htpasswd', file, '--yes', '--keys-to', keys]));
    assert.equal(statSync(keys).mode & 0o777, 0o600);
    const [head, ...rows] = readFileSync(keys, 'utf8').trimEnd().split('\n');
    assert.equal(head, 'api_client_id,id,key');
    assert.equal(rows.length, 2);
    const key = rows[0]?.split(',')[2] ?? '';
    await until('a new key works', async () => (await statusOf(key)) === 200);
    const twice = await remote(['import', '--from', 'htpasswd', file, '--yes']);
    assert.equal(twice.exitCode, 0, 'what is as the file says stays');
    await done(remote(['clients', 'update', 'remote-alice', '--cidr', '192.0.2.0/24']));
    const existing = await remote(['import', '--from', 'htpasswd', file, '--yes']);
    assert.deepEqual([existing.exitCode, /alice" exists already/.test(existing.stderr)], [5, true], existing.stderr);
    const other = await remote(['import', '--from', 'htpasswd', file, '--update', '--yes', '--keys-to', file]);
    assert.deepEqual(
      [other.exitCode, /no file of keys that an import has begun\. Nothing was done/.test(other.stderr)],
      [2, true],
      'a file of something else is not written into',
    );
  });

  test(`an import that broke off among the keys goes on where it was`, async () => {
    const names = ['first', 'second', 'third', 'lost'].map((name) => `remote-${name}`);
    const file = join(dir, `remote-broken-off`);
    writeFileSync(file, names.map((name) => `${name}:{SHA}x\n`).join(''));
    await done(remote(['import', '--from', 'htpasswd', file, '--yes']));
    const keys = join(dir, `remote-broken-off.csv`);
    const { stdout: first } = await done(remote(['keys', 'create', `remote-first`]));
    await done(remote(['keys', 'create', `remote-lost`]));
    writeFileSync(keys, `api_client_id,id,key\nremote-first,1,${first.trim()}\nremote-second,2,2.abc`);
    const { stderr } = await done(remote(['import', '--from', 'htpasswd', file, '--yes', '--keys-to', keys]));
    assert.match(stderr, /^2 keys are in /m);
    assert.match(stderr, new RegExp(`^remote-lost has a key that is not in .*apigw clients rotate \\d+$`, 'm'));
    const rows = readFileSync(keys, 'utf8').trimEnd().split('\n');
    assert.deepEqual(
      rows.flatMap((row) => (/,\d+\.[A-Za-z0-9]{64}$/.test(row) ? [row.split(',')[0]] : [])),
      [`remote-first`, `remote-second`, `remote-third`],
    );
    await until('the last one works', async () => (await statusOf(rows.at(-1)?.split(',')[2] ?? '')) === 200);
  });

  test('keys of another gateway go on working when their digests are imported, and who has none gets one, on the local database', async () => {
    const secret = 'Zz9'.repeat(22).slice(0, 64);
    const file = join(dir, 'old.csv');
    writeFileSync(
      file,
      `id,name,api_client_id,is_admin,token\n900001,Old,old-client,false,900001.${secret}\n900002,New,new-client,false,\n`,
    );
    const keys = join(dir, 'old-keys.csv');
    await done(local(['import', '--from', 'openresty', file, '--yes', '--keys-to', keys]));
    await until('the old key works', async () => (await statusOf(`900001.${secret}`)) === 200);
    assert.equal(await statusOf(`900001.${secret.slice(1)}x`), 401);
    assert.equal(statSync(keys).mode & 0o777, 0o600);
    const [, made = '', ...others] = readFileSync(keys, 'utf8').trimEnd().split('\n');
    assert.deepEqual(others, [], 'a client that has a key gets no other');
    await until('the new key works', async () => (await statusOf(made.split(',')[2] ?? '')) === 200);
  });

  test('more clients than one transaction takes are planned whole, and done as planned or not at all', async () => {
    const file = join(dir, 'many.json');
    const write = (clients: readonly object[]) => {
      writeFileSync(file, JSON.stringify({ version: 1, clients }));
    };
    const apply = (...options: string[]) => local(['apply', '-f', file, '--yes', ...options]);
    // what is said before anybody is asked, for more than 10,000
    const small = Array.from({ length: 10_001 }, (_, index) => ({ api_client_id: `many-${index}` }));
    write(small);
    const pruned = await apply('--prune');
    assert.deepEqual([pruned.exitCode, /one transaction takes/.test(pruned.stderr)], [2, true], pruned.stderr);
    write([...small, { api_client_id: 'many-7' }]);
    const twice = await apply();
    assert.deepEqual([twice.exitCode, /"many-7" is there twice/.test(twice.stderr)], [2, true], twice.stderr);

    // 1,400 clients of 12 KB, with letters of four bytes
    const tags = Array.from({ length: 32 }, (_, index) => `${index}${'𠀀'.repeat(60)}`);
    const description = '𠀀'.repeat(1_000);
    const clients = Array.from({ length: 1_400 }, (_, index) => ({
      api_client_id: `many-${index}`,
      description,
      tags,
    }));
    // alone it fills a part
    const heavy = 'x'.repeat(15.5 * 1024 * 1024);
    write([{ api_client_id: 'many-0' }, { api_client_id: 'many-heavy', description: heavy }]);
    const large = await apply('--prune');
    assert.deepEqual([large.exitCode, /one transaction takes/.test(large.stderr)], [2, true], large.stderr);
    write(clients);
    const { stdout, stderr } = await done(apply());
    assert.match(stdout, /^plan: 1400 to create, 0 to update, 0 to delete, 0 as they are$/m);
    assert.match(stderr, /done: 1400 created/);
    const exported = await done(local(['export', '--output', 'json']));
    const again = await done(local(['apply', '-f', '-', '--yes'], { input: exported.stdout }));
    assert.match(again.stdout, /^plan: 0 to create, 0 to update, 0 to delete, 14\d\d as they are$/m);

    write([
      { api_client_id: 'many-new' },
      { ...clients[0], scopes: ['new'] },
      { api_client_id: ' ', description: heavy },
    ]);
    const wrong = await apply();
    assert.match(wrong.stderr, /^apigw: In part 2 of 2, .*api_client_id/);
    assert.equal((await local(['clients', 'show', 'many-new'])).exitCode, 3, 'nothing was done');
    const first = (await done(local(['clients', 'show', 'many-0', '--output', 'json']))).json as { scopes: unknown };
    assert.deepEqual(first.scopes, []);
  });

  test('a file without end is read to 64 MB', async () => {
    const ran = await local(['apply', '-f', '/dev/zero', '--yes']);
    assert.deepEqual([ran.exitCode, /has more than 64 MB/.test(ran.stderr)], [2, true], ran.stderr);
  });
});
