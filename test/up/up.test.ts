import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { suite, test } from 'node:test';
import { X509Certificate } from 'node:crypto';
import { ConfigError } from '../../src/config.ts';
import { readLocalSettings } from '../../src/local/settings.ts';
import { startStack } from '../../src/local/stack.ts';
import { makeCertificate, makeExpiredCertificate } from '../support/certificate.ts';
import { expectNoCredential, freePorts, makeTempDir, root, until } from '../support/stack.ts';
import { processesOf, spawnUp, startUp, stopUp, typed, withoutNpm, type UpCommand } from '../support/up.ts';

function writeCertificate(keyFile: string, certificateFile: string, name = 'x', protection?: string[]): void {
  const { key, certificate } = makeCertificate(name, protection);
  writeFileSync(keyFile, key);
  writeFileSync(certificateFile, certificate);
}

/** What a start is refused with, by the same code without a process of its own; nothing is left of it. */
async function refusalOf(env: Record<string, string>): Promise<string> {
  const stateDir = makeTempDir();
  const [httpPort, httpsPort] = await freePorts(2);
  const all = {
    ...process.env,
    APIGW_STATE_DIR: stateDir,
    APIGW_HTTP_PORT: String(httpPort),
    APIGW_HTTPS_PORT: String(httpsPort),
    ...env,
  };
  const start = async () => {
    const settings = readLocalSettings(all, root, process.getuid?.() === 0);
    const stack = await startStack({ root, settings, env: all, output: new PassThrough().resume() });
    await stack.stop();
  };
  const refusal = await start().then(
    () => assert.fail('it has started'),
    (error: unknown) => (error instanceof ConfigError ? error.problems.join('\n') : (error as Error).message),
  );
  for (const name of ['up.pid', 'run']) assert.equal(existsSync(join(stateDir, name)), false);
  rmSync(stateDir, { recursive: true });
  return refusal;
}

/** As at every start; returns where. */
function layOut(env: Record<string, string>): string {
  return stage(env).prefix;
}

function stage(env: Record<string, string>): { readonly prefix: string; readonly said: string } {
  const prefix = makeTempDir();
  const said = execFileSync('sh', [join(root, 'nginx/stage.sh')], { env: { ...scriptEnv(prefix), ...env } });
  return { prefix, said: said.toString() };
}

/** What is said of a default.conf in the place of the one that was laid out. */
function refusalOfConf(prefix: string, configDir: string, defaultConf: string): string {
  writeFileSync(join(prefix, 'next/conf.d/default.conf'), defaultConf);
  const env = { ...scriptEnv(prefix), APIGW_CONFIG_DIR: configDir };
  const { status, stderr } = spawnSync('sh', [join(root, 'nginx/check.sh')], { env, encoding: 'utf8' });
  assert.equal(status, 1, stderr);
  return stderr;
}

const scriptEnv = (prefix: string) => ({
  PATH: process.env['PATH'],
  APIGW_PREFIX: prefix,
  APIGW_APP_UPSTREAM: '127.0.0.1:9',
  ...(process.env['APIGW_NGINX'] !== undefined && { APIGW_NGINX: process.env['APIGW_NGINX'] }),
});

// each case with a state directory of its own
suite('npm run up', { concurrency: 2 }, () => {
  /** One clear message, exit code 1, and nothing left running. */
  async function expectRefusal(
    env: Record<string, string>,
    said: RegExp,
    { stateDir = makeTempDir(), command = withoutNpm }: { stateDir?: string; command?: UpCommand } = {},
  ): Promise<void> {
    const up = await spawnUp({ APIGW_STATE_DIR: stateDir, ...env }, command);
    const [code] = await up.ended;
    assert.equal(code, 1, up.output());
    assert.match(up.output(), said);
    assert.doesNotMatch(up.output(), /\n {4}at /);
    assert.deepEqual(processesOf(stateDir), []);
    assert.equal(existsSync(join(stateDir, 'up.pid')), false);
    rmSync(stateDir, { recursive: true, force: true });
  }

  // first, as it takes the longest
  test('reads its configuration again on npm run reload, and keeps the old one when the new one is broken or another start is refused', async () => {
    const [stateDir, configDir] = [makeTempDir(), makeTempDir()];
    const env = { APIGW_STATE_DIR: stateDir, APIGW_CONFIG_DIR: configDir };
    const run = async (command: string, args: readonly string[], more: Readonly<Record<string, string>> = {}) => {
      const child = spawn(command, args, { cwd: root, env: { ...process.env, ...env, ...more } });
      const ended = once(child, 'close') as Promise<[number | null]>;
      const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
      return { stdout, stderr, status };
    };
    const typedReload = () => run('npm', ['run', '--silent', 'reload']);
    const reload = (more?: Readonly<Record<string, string>>) => run(process.execPath, ['scripts/reload.mjs'], more);
    assert.match((await reload()).stderr, /nothing runs with the state directory/);

    const up = await startUp(env);
    assert.match(up.output(), /there is nothing of your own in .*conf\.d and .*ssl, so the shipped files are used/);
    await expectRefusal(
      { APIGW_STATE_DIR: stateDir },
      new RegExp(
        `The state directory ${stateDir} is in use by process ${readFileSync(join(stateDir, 'up.pid'), 'utf8').trim()}`,
      ),
    );
    assert.equal((await up.ask('/livez')).status, 200);
    mkdirSync(join(configDir, 'nginx/conf.d'), { recursive: true });
    const shipped = readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8');
    const edit = (line: string) => {
      writeFileSync(join(configDir, 'nginx/conf.d/default.conf'), shipped.replace('  # add_header Strict', `${line}#`));
    };
    edit('  add_header X-Mine yes always;\n');
    assert.match((await typedReload()).stdout, /from .*nginx: conf\.d\/default\.conf\nThe configuration is in use/);
    await until('it is in use', async () => (await up.ask('/livez')).headers['x-mine'] === 'yes');
    edit(
      '  add_header X-Mine strict always;\n  location /open/ { auth_request off; proxy_pass http://application; }\n',
    );
    const strict = await reload({ APIGW_STRICT: 'true' });
    assert.equal(strict.status, 1);
    assert.match(
      strict.stderr,
      /APIGW_STRICT=true counts from the start of npm run up, which runs with false; nothing/,
    );
    assert.equal((await up.ask('/livez')).headers['x-mine'], 'yes');
    assert.equal((await up.ask('/open/')).status, 401);
    edit('  add_haeder X-Mine no always;\n');
    const broken = await reload();
    assert.equal(broken.status, 1);
    assert.match(broken.stderr, /unknown directive "add_haeder" in .*default\.conf:\d+[^]*from before stays in use/);
    assert.equal((await up.ask('/livez')).headers['x-mine'], 'yes');

    // what was refused, or is just being edited, is not in use after a crash either
    process.kill(Number(readFileSync(join(stateDir, 'run/nginx/nginx.pid'), 'utf8')), 'SIGKILL');
    await until('nginx is back', () => up.output().includes('nginx ended'));
    await until('nginx answers', async () => {
      const answer = await up.ask('/livez').catch(() => undefined);
      return answer?.headers['x-mine'] === 'yes';
    });

    // nginx -t takes an address that somebody else has, nginx does not
    const other = createTcpServer().unref();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    edit(`  add_header X-Mine no always;\n}\nserver {   # HTTPS\n  listen 127.0.0.1:${port};\n`);
    const taken = await reload();
    assert.equal(taken.status, 1);
    assert.match(taken.stderr, /nginx has not taken the configuration[^]*from before stays in use/);
    assert.equal((await up.ask('/livez')).headers['x-mine'], 'yes');
    await new Promise((resolve) => other.close(resolve));
    await stopUp(up, stateDir);
    for (const dir of [stateDir, configDir]) rmSync(dir, { recursive: true });
  });

  test('runs everything, keeps its state, stops on a signal with nothing left, and leaves nothing running when it is killed', async () => {
    const stateDir = makeTempDir();
    const env = { APIGW_STATE_DIR: stateDir, API_KEY_CREATE: 'true', APIGW_HOSTNAME: 'gate.example' };

    const first = await startUp(env);
    assert.match(first.output(), /made a self-signed certificate.*SHA-256 fingerprint [0-9A-F:]{95}, good until/);
    assert.equal(first.output().match(/^NEWLY GENERATED API KEY: 1\.[A-Za-z0-9]{64}$/gm)?.length, 1);
    assert.ok(first.output().includes(`curl -k --header 'Authorization: apk <key>' ${first.url}/`));
    assert.doesNotMatch(first.output(), /nginx\.crt (?:has expired|expires soon|is not valid yet)/);
    const certificate = expectCertificate(stateDir, 'gate.example');
    const other = layOut({ APIGW_HOSTNAME: 'other.example' });
    assert.notEqual(expectCertificate(other, 'other.example'), certificate);
    const { status, json } = await first.ask('/', { key: first.key() });
    assert.equal(status, 200);
    assert.equal(json['client_name'], 'bootstrap');
    assert.equal((await first.ask('/')).status, 401);
    const created = await first.manage('POST', first.key(), '', { json: { name: 'mine', is_admin: true } });
    const key = created.json['token'] as string;
    assert.match(readFileSync(join(stateDir, 'up.pid'), 'utf8'), /^[0-9]+\n$/);
    await stopUp(first, stateDir);
    assert.equal((await first.ended)[0], 0);
    assert.match(first.output(), /apigw: stopped\n/);
    assert.equal(existsSync(join(stateDir, 'run')), false);

    const second = await startUp({ ...env, API_KEY_CREATE: 'false' });
    assert.doesNotMatch(second.output(), /NEWLY GENERATED|made a self-signed/);
    assert.equal((await second.ask('/', { key })).status, 200);
    assert.equal((await second.manage('DELETE', key, '/1')).status, 204);
    const runDir = readlinkSync(join(stateDir, 'run'));
    process.kill(Number(readFileSync(join(stateDir, 'up.pid'), 'utf8')), 'SIGKILL');
    await until('nothing is left running', () => processesOf(stateDir, runDir).length === 0, 15_000);

    const third = await startUp(env);
    assert.equal(existsSync(runDir), false);
    assert.match(third.key(), /^3\./);
    for (const known of [key, third.key()]) assert.equal((await third.ask('/', { key: known })).status, 200);
    assert.equal(expectCertificate(stateDir, 'gate.example'), certificate);
    // nobody reads any more what it prints
    const printed = third.output();
    third.npm.stdout?.destroy();
    third.npm.stderr?.destroy();
    for (let round = 0; round < 20; round++) {
      assert.equal((await third.ask('/')).status, 401);
      assert.equal((await third.ask('/', { key })).status, 200);
    }
    await stopUp(third, stateDir);

    for (const output of [first.output(), second.output(), printed]) expectNoCredential(output, 'the output');
    for (const file of readdirSync(join(stateDir, 'logs'))) {
      expectNoCredential(readFileSync(join(stateDir, 'logs', file), 'utf8'), file);
    }
    rmSync(stateDir, { recursive: true });
  });

  /** Of this machine alone, with the key kept from others; returns its fingerprint. */
  function expectCertificate(stateDir: string, host: string): string {
    const certificate = new X509Certificate(readFileSync(join(stateDir, 'tls/nginx.crt')));
    for (const name of [host, 'localhost']) assert.ok(certificate.checkHost(name), name);
    for (const address of ['127.0.0.1', '::1']) assert.ok(certificate.checkIP(address), address);
    assert.ok(Date.parse(certificate.validTo) > Date.now() + 365 * 86_400_000);
    assert.equal(statSync(join(stateDir, 'tls/nginx.key')).mode & 0o777, 0o600);
    return certificate.fingerprint256;
  }

  test('puts an application and files of its own in place of the shipped ones, takes what is right however it is written, and warns of paths that are in doubt', async () => {
    const [stateDir, configDir] = [makeTempDir(), join(makeTempDir(), 'R&D|x y')];
    const application = createServer((request, response) =>
      response.end(`mine, for ${String(request.headers['x-client-name'])}`),
    );
    await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve));
    const { port } = application.address() as { port: number };
    for (const folder of ['nginx/conf.d', 'nginx/ssl']) mkdirSync(join(configDir, folder), { recursive: true });
    const shipped = (file: string) => readFileSync(join(root, 'nginx', file), 'utf8');
    const file = join(configDir, 'nginx/conf.d/default.conf');
    const conf = shipped('conf.d/default.conf')
      .replace('  # add_header Strict', '  add_header X-Mine yes always;\n  # add_header Strict')
      .replace('$require_admin        { default off;   }', "$require_admin { default off; 'Internal.Example.com' on; }")
      .replace(
        'map $server_name $oidc_required_claims { default "";',
        "map $server_name $oidc_required_claims { default 'g=a;b';",
      )
      .replace(
        '  location / {   # protected',
        '  location /x/ { auth_request /_apigw/decision/x; }\n  location / {   # protected',
      );
    const server = 'server {\n  include runtime/listen-https.conf;\n  server_name .internal.example.com;\n}\n';
    const refusing = 'server {\n  include runtime/listen-https.conf;\n  server_name "";\n  return 444;\n}\n';
    // the first server of the port is that of every name that is no other's
    const mine = 'server {   # HTTPS\n  include runtime/listen-https.conf;\n  server_name _';
    assert.ok(conf.includes(mine));
    writeFileSync(file, conf.replace(mine, `${refusing}${server}${mine} localhost`).replaceAll('\n', '\r\n'));
    writeFileSync(join(configDir, 'nginx/ssl/ssl.conf'), shipped('ssl/ssl.conf').replace('TLSv1.2 TLSv1.3', 'TLSv1.3'));
    writeCertificate(join(configDir, 'nginx/ssl/nginx.key'), join(configDir, 'nginx/ssl/nginx.crt'), 'mine.example');

    const up = await startUp({
      APIGW_STATE_DIR: stateDir,
      APIGW_CONFIG_DIR: configDir,
      APIGW_APP_UPSTREAM: `127.0.0.1:${port}`,
      API_KEY_CREATE: 'true',
    });
    assert.ok(up.output().includes(`${file}:`), up.output());
    assert.match(up.output(), /default\.conf:\d+: WARNING: some paths of this server have a policy of their own/);
    const { status, body, headers } = await up.ask('/', { key: up.key(), headers: { Host: 'localhost' } });
    assert.deepEqual([status, body, headers['x-mine']], [200, 'mine, for bootstrap', 'yes']);
    const openssl = (...args: string[]) =>
      spawnSync('openssl', ['s_client', '-connect', `127.0.0.1:${up.httpsPort}`, ...args], {
        encoding: 'utf8',
        input: '',
      });
    assert.match(openssl().stdout, /CN = ?mine\.example/);
    assert.notEqual(openssl('-tls1_2').status, 0);
    assert.equal(existsSync(join(stateDir, 'tls')), false);
    await stopUp(up, stateDir);
    await new Promise((resolve) => application.close(resolve));
    rmSync(stateDir, { recursive: true });
    rmSync(configDir, { recursive: true });
  });

  test('names a port that is in use', async () => {
    const other = createTcpServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    const said = (name: string) => new RegExp(`Port ${port} is in use\\. Set ${name} to another`);
    await expectRefusal({ APIGW_HTTPS_PORT: String(port) }, said('APIGW_HTTPS_PORT'), { command: typed });
    assert.match(await refusalOf({ APIGW_HTTP_PORT: String(port) }), said('APIGW_HTTP_PORT'));
    await new Promise((resolve) => other.close(resolve));
  });

  test("names the operator's file and line that nginx refuses", async () => {
    const configDir = makeTempDir();
    mkdirSync(join(configDir, 'nginx/conf.d'), { recursive: true });
    const file = join(configDir, 'nginx/conf.d/default.conf');
    writeFileSync(file, 'server {\n  listn 80;\n}\n');
    await expectRefusal({ APIGW_CONFIG_DIR: configDir }, new RegExp(`unknown directive "listn" in ${file}:2`));
    rmSync(configDir, { recursive: true });
  });

  test('names what it cannot read of the directory of the operator, and never takes a shipped file for it', async () => {
    const configDir = makeTempDir();
    const env = { APIGW_CONFIG_DIR: configDir };
    const [confDir, file] = [join(configDir, 'nginx/conf.d'), join(configDir, 'nginx/conf.d/default.conf')];
    mkdirSync(confDir, { recursive: true });
    symlinkSync('/nowhere/default.conf', file);
    await expectRefusal(env, new RegExp(`${file} is not a file, or a link that leads nowhere`));
    rmSync(file);
    mkdirSync(file);
    assert.match(await refusalOf(env), new RegExp(`${file} is not a file`));
    rmSync(confDir, { recursive: true });
    writeFileSync(confDir, '');
    assert.match(await refusalOf(env), new RegExp(`${confDir} is not a directory`));
    assert.match(await refusalOf({ APIGW_CONFIG_DIR: confDir }), /APIGW_CONFIG_DIR: .* is no directory/);
    rmSync(confDir);
    mkdirSync(join(configDir, 'nginx/snippets'));
    assert.match(await refusalOf(env), /nginx\/snippets is not used; yours can be nginx\/conf\.d/);
    rmSync(configDir, { recursive: true });
  });

  test('refuses what nginx takes, and what would open more than it says', async () => {
    const configDir = makeTempDir();
    mkdirSync(join(configDir, 'nginx/conf.d'), { recursive: true });
    const file = join(configDir, 'nginx/conf.d/default.conf');
    const shipped = readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8');
    const edited = (from: string, to: string) => {
      assert.ok(shipped.includes(from));
      return shipped.replace(from, to);
    };
    writeFileSync(
      file,
      edited('  location / {   # protected', '  location /x/ { set $require_admin on; }\n  location / {   # protected'),
    );
    await expectRefusal(
      { APIGW_CONFIG_DIR: configDir },
      new RegExp(`${file}:\\d+: "set \\$require_admin" goes on when`),
    );
    mkdirSync(join(configDir, 'nginx/ssl'));
    writeFileSync(join(configDir, 'nginx/ssl/more.map'), '"x" on;\n');
    const prefix = layOut({ APIGW_CONFIG_DIR: configDir });
    const require = '$require_admin        { default off;   }';
    const location = '  location / {   # protected';
    for (const [from, to, said] of [
      [
        location,
        `  location /x/ {# moved\n    set $require_admin on;\n  }\n${location}`,
        '"set \\$require_admin" goes on',
      ],
      [location, `  location /x/ { set "$require_admin"\n off; }\n${location}`, '"set \\$require_admin" goes on'],
      [location, `  set\t$require_admin\toff;\r\n${location}`, '"set \\$require_admin" goes on'],
      [require, "$require_admin { default off; 'b.example' on; }", 'has a line for "b\\.example"'],
      [
        require,
        '$require_admin { default off; "admin.example.com" on; }',
        '\\$require_admin has a line for "admin\\.example\\.com", which is not the first',
      ],
      [require, '$require_admin { default off; include ssl/more.map; }', 'an include is not looked into'],
      ['map $server_name $require_admin', 'map $uri $require_admin', 'may only depend on \\$server_name'],
      ['map $server_name $require_admin', 'map $http_x_role $require_admin', 'may only depend on \\$server_name'],
      [
        location,
        `  location = /q { include snippets/decision.conf; proxy_set_header X-Policy-Require-Admins on; }\n${location}`,
        'X-Policy-Require-Admins is not a setting',
      ],
    ] as const) {
      assert.match(refusalOfConf(prefix, configDir, edited(from, to)), new RegExp(`${file}:\\d+: .*${said}`));
    }
    rmSync(configDir, { recursive: true });
  });

  test("names a certificate without its key, and a key that is another certificate's", async () => {
    const configDir = makeTempDir();
    const elsewhere = makeTempDir();
    const ssl = join(configDir, 'nginx/ssl');
    mkdirSync(ssl, { recursive: true });
    writeCertificate(join(elsewhere, 'other.key'), join(ssl, 'nginx.crt'));
    assert.match(await refusalOf({ APIGW_CONFIG_DIR: configDir }), /has nginx\.crt but no nginx\.key; both are needed/);
    writeCertificate(join(ssl, 'nginx.key'), join(elsewhere, 'other.crt'));
    assert.match(
      await refusalOf({ APIGW_CONFIG_DIR: configDir }),
      /nginx\.key is not the key of \S+nginx\.crt \(key values mismatch\)/,
    );
    writeCertificate(join(ssl, 'nginx.key'), join(ssl, 'nginx.crt'), 'x', ['-passout', 'pass:secret']);
    assert.match(await refusalOf({ APIGW_CONFIG_DIR: configDir }), /nginx\.key has a password; name the file/);
    rmSync(configDir, { recursive: true });
  });

  test('says at every start that a certificate has expired, or will within 30 days', () => {
    const configDir = makeTempDir();
    const ssl = join(configDir, 'nginx/ssl');
    mkdirSync(ssl, { recursive: true });
    for (const [days, warning] of [
      [-1, / WARNING: \S+\/nginx\.crt has expired \(it was good until .* GMT\); clients will refuse it/],
      [29, / WARNING: \S+\/nginx\.crt expires soon \(good until .* GMT\)/],
    ] as const) {
      const { key, certificate } = makeExpiredCertificate('x', { days });
      writeFileSync(join(ssl, 'nginx.key'), key);
      writeFileSync(join(ssl, 'nginx.crt'), certificate);
      assert.match(stage({ APIGW_CONFIG_DIR: configDir }).said, warning);
    }
    rmSync(configDir, { recursive: true });
  });

  test('names a state directory that cannot be used', async () => {
    assert.match(
      await refusalOf({ APIGW_STATE_DIR: '/proc/self/nothing' }),
      /The state directory \/proc\/self\/nothing cannot be used/,
    );
  });

  test('names every setting that is wrong, and every value that cannot go into the configuration', async () => {
    await expectRefusal(
      { APIGW_HTTPS_PROT: '1', API_KEY_CREATE: 'maybe' },
      /APIGW_HTTPS_PROT is not a setting; did you mean APIGW_HTTPS_PORT\?\n.*API_KEY_CREATE is "maybe"/,
    );
    assert.match(
      await refusalOf({ APIGW_APP_UPSTREAM: '127.0.0.1:1; } server { listen 1' }),
      /APIGW_APP_UPSTREAM is ".*allowed: host:port/,
    );
    for (const upstream of ['127.0.0.1:0', '127.0.0.1:99999']) {
      assert.match(
        await refusalOf({ APIGW_APP_UPSTREAM: upstream }),
        /the port of APIGW_APP_UPSTREAM is "\d+"; allowed: a number/,
      );
    }
    assert.match(await refusalOf({ APIGW_CONFIG_DIR: 'a\nb' }), /APIGW_CONFIG_DIR has a control character/);
    assert.match(
      await refusalOf({ APIGW_CONFIG_DIR: '/nowhere/at/all' }),
      /APIGW_CONFIG_DIR: \/nowhere\/at\/all does not exist/,
    );
  });

  test('names a database that is none', async () => {
    const stateDir = makeTempDir();
    writeFileSync(
      join(stateDir, 'apigw.db'),
      'this is not a database, and long enough to be looked at as one'.repeat(20),
    );
    await expectRefusal({}, /The database .*apigw\.db cannot be opened: .*not a database/, { stateDir });
  });
});
