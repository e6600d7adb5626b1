import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { commandLineOf, done, runCli } from '../support/cli.ts';
import { madeUpKey } from '../support/keys.ts';
import { setSettings } from '../support/settings.ts';
import { makeTempDir, root, startTestStack, until, type TestStack } from '../support/stack.ts';

type Json = Record<string, unknown>;

suite('the command line', () => {
  let stack: TestStack;
  let dir: string;
  before(async () => {
    stack = await startTestStack();
    dir = makeTempDir();
  });
  after(() => stack.stop());

  const { local, remote, both } = commandLineOf(() => stack);
  const statusOf = async (key: string) => (await stack.ask('/', { key })).status;

  test(`over the management API: a client's whole life, and each step counts at the front door within a second`, async () => {
    const name = 'remote-life';
    const { stdout, stderr } = await done(
      remote([
        'clients',
        'create',
        '--api-client-id',
        name,
        '--name',
        'Größe 大',
        '--tag',
        'a',
        'b',
        '--expires',
        '30d',
      ]),
    );
    const key = stdout.trim();
    assert.match(key, /^\d+\.[A-Za-z0-9]{64}$/, 'standard output is the key and nothing else');
    assert.match(stderr, /^tags: a b$/m);
    await until('the key works', async () => (await statusOf(key)) === 200);

    const shown = (await done(remote(['clients', 'show', name, '--output', 'json']))).json as Json & { keys: Json[] };
    assert.deepEqual([shown['name'], shown.keys.length, shown.keys[0]?.['state']], ['Größe 大', 1, 'live']);
    const text = await done(remote(['clients', 'show', 'Größe 大']));
    assert.match(text.stdout, /^api_client_id +remote-life$/m);

    await done(remote(['clients', 'disable', name]));
    await until('it is disabled', async () => (await statusOf(key)) === 403);
    await done(remote(['clients', 'enable', name]));
    await until('it is enabled', async () => (await statusOf(key)) === 200);
    await done(remote(['clients', 'update', name, '--scope', 'read', '--rate-limit', '900/s', '--tag', '']));
    const updated = (await done(remote(['clients', 'show', name, '--output', 'json']))).json as Json;
    assert.deepEqual([updated['scopes'], updated['rate_limit'], updated['tags']], [['read'], '900/s', []]);

    const rotated = (await done(remote(['clients', 'rotate', name, '--overlap', '0']))).stdout.trim();
    await until('the old key ends', async () => (await statusOf(key)) === 401);
    await until('the new key works', async () => (await statusOf(rotated)) === 200);
    const more = (await done(remote(['keys', 'create', name, '--expires', '1h']))).stdout.trim();
    const keys = (await done(remote(['keys', 'list', name, '--output', 'json']))).json as Json[];
    const last = keys.at(-1);
    assert.equal(last?.['hint'], more.slice(-4));
    await done(remote(['keys', 'delete', name, String(last['id']), '--yes']));
    await until('the further key ends', async () => (await statusOf(more)) === 401);

    assert.equal((await remote(['clients', 'delete', name])).exitCode, 2, 'nobody can be asked');
    await done(remote(['clients', 'delete', name, '--yes']));
    await until('its keys are refused', async () => (await statusOf(rotated)) === 401);
    const again = await remote(['clients', 'delete', name, '--yes']);
    assert.deepEqual([again.exitCode, again.stdout], [3, '']);
  });

  // what each command asks for is the same over the API, which is where all of them are run
  test('on the local database: what another process changes counts at the front door, and the audit trail says who', async () => {
    const created = await done(local(['clients', 'create', '--api-client-id', 'local-life', '--name', 'Größe 大']));
    const key = created.stdout.trim();
    await until('the key works', async () => (await statusOf(key)) === 200);
    const text = await done(local(['clients', 'show', 'Größe 大']));
    assert.match(text.stdout, /^api_client_id +local-life$/m);

    await done(local(['clients', 'disable', 'local-life']));
    await until('it is disabled', async () => (await statusOf(key)) === 403);
    await done(local(['clients', 'enable', 'local-life']));
    await until('it is enabled', async () => (await statusOf(key)) === 200);
    const rotated = (await done(local(['clients', 'rotate', 'local-life', '--overlap', '0']))).stdout.trim();
    await until('the old key ends', async () => (await statusOf(key)) === 401);
    await until('the new key works', async () => (await statusOf(rotated)) === 200);
    await done(local(['clients', 'delete', 'local-life', '--yes']));
    await until('its keys are refused', async () => (await statusOf(rotated)) === 401);

    const { stdout } = await done(local(['audit', '--action', 'api_client.create', '--limit', '1']));
    assert.match(stdout, /command line \(\w+\)/);
  });

  for (const [where, run] of both) {
    test(`${where}: explains a refusal by the id of its request`, async () => {
      const { headers } = await stack.ask('/', { headers: { Authorization: 'Basic eHg6eXk=' } });
      const id = headers['x-request-id'] as string;
      const { stdout } = await done(run(['explain', id]));
      assert.match(stdout, /^reason +unsupported_scheme$/m);
      assert.match(stdout, /^expected +apk$/m);
      assert.match(stdout, /^seen +Basic$/m);
      assert.match(stdout, /^remedy +.*WWW-Authenticate/m);
      const unknown = await run(['explain', '0'.repeat(32)]);
      assert.deepEqual([unknown.exitCode, /remembers no refusal/.test(unknown.stderr)], [3, true]);
    });
  }

  test('shows the audit trail, and exports it as JSON lines', async () => {
    await done(remote(['clients', 'create', '--api-client-id', 'remote-audited']));
    await done(remote(['clients', 'disable', 'remote-audited']));
    const disabled = await done(remote(['audit', '--client', 'remote-audited', '--limit', '1']));
    assert.match(disabled.stdout, /^TIME .* WHAT\n.* enabled: true -> false\n$/);
    const { stdout } = await done(remote(['audit', '--action', 'api_client.create', '--limit', '1']));
    assert.match(stdout, /127\.0\.0\.1/);
    const lines = (await done(remote(['audit', '--export', '--action', 'api_client']))).stdout.trimEnd().split('\n');
    const events = lines.map((line) => JSON.parse(line) as Json);
    assert.ok(events.length > 1);
    assert.ok(events.every(({ action }) => String(action).startsWith('api_client.')));
  });

  test(`lists are tables for people and JSON for programs, filtered as the API does it`, async () => {
    await done(remote(['clients', 'create', '--name', `remote listed`, '--tag', `remote-list`]));
    const table = (await done(remote(['clients', 'list', '--tag', `remote-list`]))).stdout.split('\n');
    assert.match(table[0] ?? '', /^ID +API_CLIENT_ID +NAME +ADMIN +STATE +KEY +LAST USED$/);
    assert.match(table[1] ?? '', / listed +no +enabled +yes/);
    assert.equal(table.join('').includes('\u001b'), false, 'no colours but on a terminal');
    const { json } = await done(remote(['clients', 'list', '--tag', `remote-list`, '--output', 'json']));
    assert.equal((json as Json[]).length, 1);
    assert.equal(
      ((await done(remote(['clients', 'list', '--limit', '1', '--output', 'json']))).json as Json[]).length,
      1,
    );
    const none = await done(local(['clients', 'list', '--tag', 'nobody-has-it', '--output', 'json']));
    assert.deepEqual(none.json, []);
  });

  test(`says what is wrong, and ends with a code that says of what kind it is`, async () => {
    for (const [args, exitCode, message] of [
      [['clients', 'lst'], 2, /Did you mean list\?/],
      [['clients', 'create', '--burst', 'x'], 2, /whole number/],
      // seconds to a program, days to a person
      [['clients', 'create', '--expires', '90'], 2, /a span such as 30d/],
      [['clients', 'list', '--unused-since', '90'], 2, /a span such as 30d/],
      [['clients', 'rotate', 'remote-twice', '--overlap', '24'], 2, /a span such as 24h/],
      [['clients', 'update', 'remote-twice'], 2, /Nothing is to be changed/],
      [['clients', 'update', 'remote-twice', '--enable', '--disable'], 2, /cannot be used with/],
      [['explain', madeUpKey(1)], 2, /stays in the history of the shell/],
      [['explain', `/nowhere/${madeUpKey(1)}`], 2, /stays in the history of the shell/],
      [['health'], 2, /this machine only/],
      [['clients', 'create', '--rate-limit', '5'], 2, /\/rate_limit must be .*\(400 invalid_body, request /],
      [['clients', 'show', 'nobody-there'], 3, /There is no API client "nobody-there"/],
      [['clients', 'create', '--api-client-id', `remote-twice`], 0, /./],
      [['clients', 'create', '--api-client-id', `remote-twice`], 5, /another API client/],
      [['clients', 'delete', stack.adminKey.split('.')[0] ?? '', '--yes'], 5, /No administrator would be left/],
    ] as const) {
      const ran = await remote([...args]);
      assert.deepEqual([ran.exitCode, message.test(ran.stderr)], [exitCode, true], `${args.join(' ')}: ${ran.stderr}`);
      assert.equal(ran.stderr.includes(madeUpKey(1)), false);
    }
  });

  test('says in one sentence that its result cannot be written', () => {
    const program = join(root, 'dist/cli/main.js');
    const { status, stderr } = spawnSync('sh', ['-c', `"${process.execPath}" "${program}" --help >/dev/full`]);
    assert.match(String(stderr), /^apigw: Standard output cannot be written to: ENOSPC[^\n]*\n$/);
    assert.equal(status, 1);
  });

  test(`explains a credential from standard input, and never repeats it`, async () => {
    const good = await done(remote(['explain', '-'], { input: stack.adminKey }));
    assert.match(good.stdout, /^active +yes$/m);
    assert.match(good.stdout, /^client +\d+, .*"bootstrap"$/m);
    const line = await done(remote(['explain', '-'], { input: `Authorization: apk ${stack.adminKey}\n` }));
    assert.match(line.stdout, /^active +yes$/m);
    const wrong = madeUpKey(1);
    const bad = await remote(['explain', '-'], { input: `apk ${wrong}` });
    assert.equal(bad.exitCode, 1);
    assert.match(bad.stdout, /^reason +unknown_key$/m);
    assert.doesNotMatch(good.stdout + bad.stdout, new RegExp(`${stack.adminKey.slice(-60)}|${wrong.slice(-60)}`));
  });

  test('explains an access token by the settings of a default.conf, and a URL by asking for it', async () => {
    const conf = join(root, 'nginx/conf.d/default.conf');
    const token = await local(['explain', '-', '--conf', conf], { input: 'eyJhbGciOiJub25lIn0.e30.x' });
    assert.match(token.stdout, /^reason +method_disabled$/m);
    const { exitCode, stdout } = await remote(['explain', `${stack.url}/x`, '--header', 'Authorization: apk 1.short']);
    assert.deepEqual([exitCode, /^reason +malformed_credential$/m.test(stdout)], [1, true], stdout);
    const fine = await done(remote(['explain', `${stack.url}/x`, '--header', `Authorization: apk ${stack.adminKey}`]));
    assert.match(fine.stdout, /from the application/);
    const unseen = await done(remote(['explain', `${stack.url}/x`, '--credential', '-'], { input: stack.adminKey }));
    assert.match(unseen.stdout, /from the application/, 'a credential that nobody on the machine can see');
    for (const [url, exitCode, message] of [
      [stack.url, 69, /--ca-file/],
      ['http://gateway.example.com', 2, /not sent over plain HTTP/],
    ] as const) {
      const kept = await local(['explain', url, '--credential', '-'], { input: stack.adminKey });
      assert.deepEqual([kept.exitCode, message.test(kept.stderr)], [exitCode, true], kept.stderr);
    }
  });

  test('over the management API needs a key, a certificate that is trusted, and TLS', async () => {
    const server = ['--server', stack.url];
    for (const [args, exitCode, message, env] of [
      [[...server, 'clients', 'list'], 2, /needs the key of an administrator/, {}],
      [[...server, 'clients', 'list'], 69, /--ca-file/, { APIGW_KEY: stack.adminKey }],
      [
        [...server, '--ca-file', '/etc/passwd', 'clients', 'list'],
        2,
        /has no certificate/,
        { APIGW_KEY: stack.adminKey },
      ],
      [
        ['--server', 'http://gateway.example.com', 'clients', 'list'],
        2,
        /not sent over plain HTTP/,
        { APIGW_KEY: 'x' },
      ],
      [[...server, '--insecure', 'clients', 'list'], 4, /API key is not valid/, { APIGW_KEY: madeUpKey(1) }],
      [['--server', 'https://localhost:1', 'clients', 'list'], 69, /does not answer/, { APIGW_KEY: stack.adminKey }],
    ] as const) {
      const ran = await runCli([...args], { env });
      assert.deepEqual([ran.exitCode, message.test(ran.stderr)], [exitCode, true], ran.stderr);
      assert.doesNotMatch(ran.stderr, new RegExp(stack.adminKey.slice(-60)));
    }
    const ca = join(stack.stateDir, 'tls', 'nginx.crt');
    assert.ok(existsSync(ca));
    await done(runCli(['--ca-file', ca, ...server, 'clients', 'list'], { env: { APIGW_KEY: stack.adminKey } }));
  });

  test('what knows this machine alone refuses another one, and a key is not repeated', async () => {
    for (const command of ['bootstrap', 'backup', 'restore', 'check-config', 'doctor']) {
      const ran = await remote([command]);
      assert.deepEqual([ran.exitCode, /this machine only/.test(ran.stderr)], [2, true], ran.stderr);
    }
    const pasted = await local(['clients', 'show', madeUpKey(7)]);
    assert.match(pasted.stderr, /no API client "\[redacted\]"/);
  });

  suite('without a gateway', () => {
    const fresh = makeTempDir();
    const env = { DATABASE_URL: `sqlite:${join(fresh, 'apigw.db')}`, APIGW_MANAGEMENT_LISTEN: `unix:${fresh}/m.sock` };
    let bootstrap: string;
    before(async () => {
      bootstrap = (await done(runCli(['bootstrap'], { env }))).stdout;
    });

    test('prints a first key to the terminal alone, and the audit trail knows', async () => {
      assert.match(bootstrap, /^1\.[A-Za-z0-9]{64}\n$/);
      const { stdout: trail } = await done(runCli(['audit'], { env }));
      assert.match(trail, /bootstrap\.create +1 +command line/);
    });

    test('leaves no copy of the database behind when its reader is gone, and says when the gateway is away', async () => {
      const program = join(root, 'dist/cli/main.js');
      execFileSync('sh', ['-c', `"${process.execPath}" "${program}" backup | head -c 1 >/dev/null`], {
        env: { ...env, PATH: process.env['PATH'] },
      });
      assert.deepEqual(
        readdirSync(fresh).filter((file) => file.startsWith('.copy-')),
        [],
      );
      const away = await runCli(['explain', '0'.repeat(32)], { env });
      assert.deepEqual([away.exitCode, /gateway does not answer/.test(away.stderr)], [69, true], away.stderr);
    });
  });

  test('a database that does not exist is made by what puts something into it, and by nothing else', async () => {
    const file = join(makeTempDir(), 'apigw.db');
    const env = { DATABASE_URL: `sqlite:${file}` };
    for (const args of [['clients', 'list'], ['export'], ['audit'], ['clients', 'delete', '1', '--yes']]) {
      const ran = await runCli(args, { env });
      assert.deepEqual(
        [ran.exitCode, /There is no database .*apigw bootstrap/.test(ran.stderr)],
        [69, true],
        ran.stderr,
      );
    }
    assert.equal(existsSync(file), false);
    await done(runCli(['clients', 'create', '--name', 'first', '--admin'], { env }));
    assert.equal(existsSync(file), true);
  });

  test('check-config says everything that a start would, and what is wrong with exit code 1', async () => {
    const good = await done(local(['check-config']));
    for (const what of ['environment', 'database', 'default.conf', 'nginx'])
      assert.match(good.stdout, new RegExp(`^${what} +ok `, 'm'));
    const conf = join(dir, 'nginx/conf.d/default.conf');
    execFileSync('mkdir', ['-p', join(dir, 'nginx/conf.d')]);
    const shipped = readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8');
    writeFileSync(
      conf,
      shipped.replace(/^map \$server_name \$open_id_connect_enabled \{[^}]*default off;/m, (block) =>
        block.replace('off;', 'on;'),
      ),
    );
    const bad = await local(['check-config', '--output', 'json'], {
      env: { APIGW_CONFIG_DIR: dir, APIGW_LOG_LEVEL: 'loud', APIGW_WORKER: '2' },
    });
    assert.equal(bad.exitCode, 1);
    const seen = (bad.json as { what: string; result: string; seen: string }[])
      .filter(({ result }) => result === 'wrong')
      .map((check) => `${check.what}: ${check.seen}`)
      .join('\n');
    assert.match(seen, /environment: APIGW_LOG_LEVEL is "loud"/);
    assert.match(seen, /environment: APIGW_WORKER is not a setting; did you mean APIGW_WORKERS\?/);
    assert.match(seen, /default\.conf: .*oidc_discovery/);
    writeFileSync(conf, shipped.replace('  proxy_pass', '  proxy_pas'));
    const broken = await local(['check-config'], { env: { APIGW_CONFIG_DIR: dir } });
    assert.match(broken.stdout, /nginx +wrong +.*unknown directive.*default\.conf:\d+/);
    const plain = { open_id_connect_enabled: 'on', oidc_discovery: 'http://127.0.0.1:1', oidc_audience: 'api' };
    writeFileSync(conf, setSettings(shipped, plain));
    const refused = await local(['check-config'], { env: { APIGW_CONFIG_DIR: dir } });
    assert.match(refused.stdout, /^default\.conf +wrong .*without TLS/m);
    const allowed = { APIGW_CONFIG_DIR: dir, OIDC_ALLOW_INSECURE_HTTP: 'true' };
    assert.match((await done(local(['check-config'], { env: allowed }))).stdout, /^default\.conf +ok /m);
  });

  test('doctor looks at what runs here', async () => {
    const here = await local(['doctor']);
    assert.match(here.stdout, /^gateway +ok /m);
    assert.match(here.stdout, /^bootstrap key +warning /m);
  });

  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    test(`completes commands and options in ${shell}`, async (context) => {
      const { stdout } = await done(runCli(['completion', shell]));
      const script = join(dir, `completion.${shell}`);
      writeFileSync(script, stdout);
      try {
        execFileSync('sh', ['-c', 'command -v "$0"', shell]);
      } catch {
        context.skip(`there is no ${shell} here`);
        return;
      }
      if (shell === 'zsh') {
        execFileSync(shell, ['-n', script]);
        return;
      }
      if (shell === 'fish') {
        const complete = (line: string) =>
          execFileSync('fish', ['-c', 'source $argv[1]; complete -C $argv[2]', script, line]).toString();
        assert.match(complete('apigw cl'), /^clients\t/m);
        assert.match(complete('apigw --output json clients ro'), /^rotate\t/m);
        assert.match(complete('apigw clients list --un'), /^--unused-since\t/m);
        return;
      }
      const complete = (words: string[]) =>
        execFileSync('bash', [
          '--norc',
          '-c',
          `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _apigw; printf '%s\\n' "\${COMPREPLY[@]}"`,
          ...[script, 'apigw', ...words],
        ])
          .toString()
          .trim()
          .split('\n');
      assert.deepEqual(complete(['cl']), ['clients']);
      assert.ok(complete(['clients', '']).includes('rotate'));
      assert.deepEqual(complete(['clients', 'list', '--un']), ['--unused-since']);
      assert.ok(complete(['--output', 'json', 'keys', '']).includes('delete'));
    });
  }
});
