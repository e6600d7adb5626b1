import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { makeCertificate, makeExpiredCertificate } from '../support/certificate.ts';
import { composeCommands, ComposeProject, run } from '../support/compose.ts';
import { expectNoCredential, makeTempDir, root, until } from '../support/stack.ts';
import { madeUpKey } from '../support/keys.ts';

const shipped = (file: string) => readFileSync(join(root, 'nginx', file), 'utf8');
const [current = [], ...others] = composeCommands;

/** An operator's directory with these files. */
function makeConfig(files: Readonly<Record<string, string>>): string {
  const dir = makeTempDir();
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(dir, 'nginx', name, '..'), { recursive: true });
    writeFileSync(join(dir, 'nginx', name), text);
  }
  return dir;
}

const answers = async (project: ComposeProject, path = '/', key?: string) =>
  project.ask(path, { key }).then(
    ({ status }) => status,
    () => 0,
  );

suite('docker compose', () => {
  let project: ComposeProject;
  let key = '';
  before(async () => {
    project = await ComposeProject.make(current);
    await project.must('build');
  });
  after(() => project.remove());

  const isUp = (path = '/livez', status = 200) =>
    until(`${path} is ${status}`, async () => (await answers(project, path)) === status, 60_000);

  test('up with API_KEY_CREATE: "true": the key is in the logs, and the whole flow works by curl', async () => {
    project.edit({ createKey: true });
    await project.must('up', '-d');
    await isUp();
    const line = /^NEWLY GENERATED API KEY: (1\.[A-Za-z0-9]{64})$/m.exec(await project.logs('gateway'));
    const first = line?.[1] ?? '';
    const curl = async (...args: string[]) => {
      const { stdout } = await run('curl', ['-k', '-sS', '--write-out', '\n%{http_code}', ...args]);
      const [, body = '', status] = /^([^]*)\n(\d{3})$/.exec(stdout) ?? [];
      return { status: Number(status), body };
    };
    const api = `${project.url}/v1/management/api-clients`;
    const json = ['--header', 'Content-Type: application/json', '--header', 'Accept: application/json'];
    const as = (credential: string) => ['--header', `Authorization: apk ${credential}`];

    const granted = await curl(...as(first), `${project.url}/`);
    assert.equal(granted.status, 200);
    assert.match(granted.body, /"client_name": "bootstrap"/);
    assert.equal((await curl(`${project.url}/`)).status, 401);
    assert.equal((await curl(...as(madeUpKey(1)), `${project.url}/`)).status, 401);
    const body = '{"name": "admin-secure-key", "is_admin": true, "generate_api_key": true}';
    const created = await curl('--location', '--request', 'POST', api, ...json, ...as(first), '--data-raw', body);
    assert.equal(created.status, 201);
    const { api_key_id: id, token } = JSON.parse(created.body) as { api_key_id: number; token: string };
    assert.ok(token.startsWith(`${id}.`));
    key = token;
    assert.equal((await curl('--request', 'DELETE', `${api}/1`, ...json, ...as(key))).status, 204);
    for (const url of [`${project.url}/`, api]) assert.equal((await curl(...as(first), url)).status, 401);
    for (const url of [api, `${api}/`]) {
      const listed = await curl('--request', 'GET', url, ...as(key));
      assert.equal(listed.status, 200);
      assert.doesNotMatch(listed.body, /[A-Za-z0-9]{64}|digest|secret"/);
    }
    const keyless =
      '{"name": "oauth2-test-api-client", "is_admin": true, "api_client_id": "abc123", "generate_api_key": false}';
    const abc = await curl('--request', 'POST', api, ...json, ...as(key), '--data-raw', keyless);
    assert.equal(abc.status, 201);
    assert.doesNotMatch(abc.body, /token/);
    const clear = await curl(...as(key), `http://localhost:${project.httpPort}/x`);
    assert.equal(clear.status, 308);
    assert.match(
      (await run('curl', ['-sI', `http://localhost:${project.httpPort}/x`])).stdout,
      new RegExp(`Location: ${project.url}/x`),
    );
  });

  test('up with API_KEY_CREATE back at "false": everything is still there, and no key is made', async () => {
    project.edit({});
    await project.must('up', '-d');
    await isUp();
    assert.equal(await answers(project, '/', key), 200);
    assert.doesNotMatch(await project.logs('gateway'), /NEWLY GENERATED/);
  });

  test('a first key can be had without a log: a command prints it', async () => {
    const printed = await project.must('exec', '-T', 'gateway', 'apigw', 'bootstrap');
    assert.match(printed, /^\d+\.[A-Za-z0-9]{64}\n$/);
    assert.equal(await answers(project, '/', printed.trim()), 200);
    for (const service of ['gateway', 'proxy', 'app']) expectNoCredential(await project.logs(service), service);
  });

  test('the defaults can be copied out of the proxy', async () => {
    for (const file of ['ssl/ssl.conf', 'conf.d/default.conf']) {
      const to = join(project.dir, 'copied');
      await run('docker', ['cp', `${await project.idOf('proxy')}:/etc/config/nginx/${file}`, to]);
      assert.equal(readFileSync(to, 'utf8'), shipped(file));
    }
  });

  test('nothing runs with more than it needs: read-only, without capabilities, the gateway not as root', async () => {
    for (const service of ['gateway', 'proxy', 'app']) {
      const { HostConfig: host } = (await project.inspect(service)) as { HostConfig: Record<string, unknown> };
      assert.equal(host['ReadonlyRootfs'], true);
      assert.deepEqual(host['CapDrop'], ['ALL']);
      assert.ok((host['Memory'] as number) > 0);
      assert.deepEqual(host['SecurityOpt'], ['no-new-privileges:true']);
      assert.notEqual((await project.compose('exec', '-T', service, 'sh', '-c', ': >/usr/x')).code, 0);
      const ports = Object.keys(host['PortBindings'] ?? {}).sort();
      assert.deepEqual(ports, service === 'proxy' ? ['443/tcp', '80/tcp'] : []);
    }
    assert.equal((await project.must('exec', '-T', 'gateway', 'id', '-u')).trim(), '1000');
    const workers = await project.must('exec', '-T', 'proxy', 'sh', '-c', 'cat /proc/[0-9]*/status');
    assert.match(workers, /Name:\tnginx\n[^]*?Uid:\t101\t101/);
    // state 0A is LISTEN: the gateway has its two sockets and no port (Docker's own DNS listens on 127.0.0.11)
    const listening = await project.must('exec', '-T', 'gateway', 'sh', '-c', 'cat /proc/net/tcp /proc/net/tcp6');
    const ports = listening.split('\n').filter((line) => / 0A /.test(line) && !/0B00007F:/.test(line));
    assert.deepEqual(ports, []);
  });

  test('a certificate is made once, for this host, and kept when everything is made anew', async () => {
    const certificate = await project.presented();
    for (const host of ['localhost']) assert.ok(certificate.checkHost(host));
    for (const address of ['127.0.0.1', '::1']) assert.ok(certificate.checkIP(address));
    const log = await project.logs('proxy');
    assert.equal(log.match(/made a self-signed certificate/g)?.length, 1);
    assert.ok(log.includes(certificate.fingerprint256));
    const mode = await project.must('exec', '-T', 'proxy', 'stat', '-c', '%a', '/var/lib/apigw-proxy/nginx.key');
    assert.equal(mode.trim(), '600');
    await project.must('down');
    await project.must('up', '-d');
    await isUp();
    assert.equal((await project.presented()).fingerprint256, certificate.fingerprint256);
    assert.doesNotMatch(await project.logs('proxy'), /made a self-signed/);
    assert.equal(await answers(project, '/', key), 200);
  });

  test('each container can be made anew by itself, the application with another address too', async () => {
    for (const service of ['gateway', 'app', 'proxy']) {
      const before = await project.idOf(service);
      await project.must('rm', '-s', '-f', service);
      if (service === 'gateway') {
        const { status, json } = await project.ask('/', { key });
        assert.deepEqual([status, json['reason']], [503, 'gateway_unavailable']);
      }
      // takes the address that is free now
      const squatter = `${project.name}_squatter`;
      const network = `${project.name}_inside`;
      await run('docker', [
        'run',
        '-d',
        '--rm',
        '--name',
        squatter,
        '--network',
        network,
        'apigw-gateway',
        'sleep',
        '60',
      ]);
      await project.must('up', '-d', '--no-deps', service);
      await until(
        `the application is reached after ${service}`,
        async () => (await answers(project, '/', key)) === 200,
        30_000,
      );
      await run('docker', ['rm', '-f', squatter]);
      assert.notEqual(await project.idOf(service), before);
    }
  });

  test('a process that is killed is started again, and nothing acknowledged is lost', async () => {
    for (const service of ['gateway', 'app', 'proxy']) {
      const created = await project.manage('POST', key, '', { json: { name: `before the end of ${service}` } });
      assert.equal(created.status, 201);
      const { State: state } = (await project.inspect(service)) as { State: { Pid: number } };
      process.kill(state.Pid, 'SIGKILL');
      await until(
        `all is well after ${service}`,
        async () => (await answers(project, '/', created.json['token'] as string)) === 200,
        30_000,
      );
    }
  });

  test('the proxy needs no demonstration: without it, and before the application is there, it answers by itself', async () => {
    project.edit({ withoutApp: true });
    for (const command of composeCommands) {
      const [name = '', ...words] = command;
      assert.equal((await run(name, [...words, '-f', project.file, 'config', '-q'])).code, 0);
    }
    await project.must('up', '-d', '--remove-orphans');
    await isUp();
    // its address is gone, or its name
    assert.match((await project.ask('/', { key })).json['reason'] as string, /^application_(?:unavailable|timeout)$/);
    project.edit({});
    await project.must('up', '-d');
    await until('the application is there', async () => (await answers(project, '/', key)) === 200, 30_000);
  });

  test('reloads that come at the same time wait for each other', async () => {
    const reloads = await Promise.all(
      Array.from({ length: 5 }, () => project.compose('exec', '-T', 'proxy', 'reload')),
    );
    for (const { code, stderr } of reloads) assert.equal(code, 0, stderr);
  });

  test('stops at once and in order', async () => {
    const startedAt = Date.now();
    await project.must('stop');
    assert.ok(Date.now() - startedAt < 9_000, `${Date.now() - startedAt} ms`);
    const { stdout } = await run('docker', [
      'inspect',
      '-f',
      '{{.State.ExitCode}}',
      (await project.must('ps', '-a', '-q', 'gateway')).trim(),
    ]);
    assert.equal(stdout.trim(), '0');
    await project.must('up', '-d');
    await isUp();
  });

  test('the commands of docs/docker.md do what it says; a backup brings back what was there', async () => {
    const kept = (await project.manage('POST', key, '', { json: { name: 'kept' } })).json['token'] as string;
    let lost = '';
    const page = readFileSync(join(root, 'docs/docker.md'), 'utf8');
    const commands = [...page.matchAll(/^```sh\n([^]*?)^```$/gm)].flatMap(([, block = '']) => block.trim().split('\n'));
    assert.ok(commands.length >= 10);
    const dir = makeTempDir();
    for (const command of commands) {
      if (command.includes('apigw restore'))
        await until('it is down', async () => (await answers(project, '/', kept)) === 503);
      // there is no terminal here
      const typed = command.replace(/exec (?!-T)/, 'exec -T ').replaceAll('docker compose', current.join(' '));
      const { code, stdout, stderr } = await run('bash', ['--norc', '-c', `cd ${dir} && ${typed}`], {
        COMPOSE_PROJECT_NAME: project.name,
        COMPOSE_FILE: project.file,
        APIGW_HTTPS_PORT: String(project.httpsPort),
        APIGW_HTTP_PORT: String(project.httpPort),
      });
      assert.equal(code, 0, `${command}: ${stderr}`);
      if (command.includes('bootstrap')) assert.equal(await answers(project, '/', stdout.trim()), 200);
      if (command.includes('reload')) assert.match(stdout, /The configuration is in use/);
      if (command.includes('apigw backup')) {
        lost = (await project.manage('POST', key, '', { json: { name: 'lost' } })).json['token'] as string;
        assert.equal(await answers(project, '/', lost), 200);
      }
    }
    assert.equal(readFileSync(join(dir, 'config/nginx/conf.d/default.conf'), 'utf8'), shipped('conf.d/default.conf'));
    assert.equal(readFileSync(join(dir, 'config/nginx/ssl/ssl.conf'), 'utf8'), shipped('ssl/ssl.conf'));
    await until('the backup is in use', async () => (await answers(project, '/', kept)) === 200, 30_000);
    assert.equal(await answers(project, '/', lost), 401);
  });

  suite('with files of the operator', () => {
    const up = async (...mounts: string[]) => {
      project.edit({ mounts });
      await project.must('rm', '-s', '-f', 'proxy');
      await project.must('up', '-d', '--no-deps', 'proxy');
      await isUp();
    };
    const mine = {
      conf: shipped('conf.d/default.conf').replace(
        '  # add_header Strict',
        '  add_header X-Mine yes always;\n  # add_header Strict',
      ),
      ssl: shipped('ssl/ssl.conf').replace('TLSv1.2 TLSv1.3', 'TLSv1.3'),
    };
    const pair = makeCertificate('mine.example');
    const seen = async () => ({
      header: (await project.ask('/livez')).headers['x-mine'],
      certificate: (await project.presented()).subject,
      hasTls12: (await run('curl', ['-sk', '--tls-max', '1.2', `${project.url}/livez`])).code === 0,
    });
    const untouched = { header: undefined, certificate: 'CN=localhost', hasTls12: true };

    const combinations: Record<
      string,
      [Record<string, string>, { header?: string; certificate?: string; hasTls12?: boolean }]
    > = {
      'an empty directory': [{}, {}],
      'default.conf alone': [{ 'conf.d/default.conf': mine.conf }, { header: 'yes' }],
      'ssl.conf alone': [{ 'ssl/ssl.conf': mine.ssl }, { hasTls12: false }],
      'certificate and key alone': [
        { 'ssl/nginx.crt': pair.certificate, 'ssl/nginx.key': pair.key },
        { certificate: 'CN=mine.example' },
      ],
      'all of them': [
        {
          'conf.d/default.conf': mine.conf,
          'ssl/ssl.conf': mine.ssl,
          'ssl/nginx.crt': pair.certificate,
          'ssl/nginx.key': pair.key,
        },
        { header: 'yes', certificate: 'CN=mine.example', hasTls12: false },
      ],
    };
    for (const [what, [files, expected]] of Object.entries(combinations)) {
      for (const mode of ['ro', 'rw']) {
        test(`${what}, mounted ${mode}: what is absent comes from the image`, async () => {
          const config = makeConfig(files);
          if (files['ssl/nginx.key']) chmodSync(join(config, 'nginx/ssl/nginx.key'), 0o600);
          const before = readdirSync(config, { recursive: true });
          await up(`${config}:/etc/config:${mode}`);
          assert.deepEqual(await seen(), { ...untouched, ...expected });
          assert.deepEqual(readdirSync(config, { recursive: true }), before, 'nothing is written there');
        });
      }
    }

    test('files mounted one by one', async () => {
      const config = makeConfig({ 'conf.d/default.conf': mine.conf, 'ssl/ssl.conf': mine.ssl });
      const single = (file: string) => `${config}/nginx/${file}:/etc/config/nginx/${file}:ro`;
      await up(single('conf.d/default.conf'), single('ssl/ssl.conf'));
      assert.deepEqual(await seen(), { header: 'yes', certificate: 'CN=localhost', hasTls12: false });
    });

    test('ciphers of their own', async () => {
      const cipher = 'ECDHE-ECDSA-AES256-GCM-SHA384';
      const config = makeConfig({
        'ssl/ssl.conf': shipped('ssl/ssl.conf').replace(/ssl_ciphers +[^;]+/, `ssl_ciphers ${cipher}`),
      });
      await up(`${config}:/etc/config:ro`);
      const offer = (ciphers: string) =>
        run('curl', ['-sk', '--tls-max', '1.2', '--ciphers', ciphers, '-o', '/dev/null', `${project.url}/livez`]);
      assert.equal((await offer(cipher)).code, 0);
      assert.notEqual((await offer('ECDHE-ECDSA-AES128-GCM-SHA256')).code, 0);
    });

    test('changed on the running system: one command puts them into use, and drops no request', async () => {
      const config = makeConfig({ 'ssl/nginx.crt': pair.certificate, 'ssl/nginx.key': pair.key });
      await up(`${config}:/etc/config:ro`);
      const outcomes = new Map<string, number>();
      const load = new AbortController();
      const client = async () => {
        while (!load.signal.aborted) {
          const outcome = await askOnce(project, key);
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
      };
      const clients = Promise.all(Array.from({ length: 8 }, client));
      const next = makeCertificate('next.example');
      try {
        for (let round = 0; round < 5; round++) {
          const { certificate, key: secret } = round % 2 === 0 ? next : pair;
          writeFileSync(join(config, 'nginx/ssl/nginx.crt'), certificate);
          writeFileSync(join(config, 'nginx/ssl/nginx.key'), secret);
          assert.match(await project.must('exec', '-T', 'proxy', 'reload'), /The configuration is in use/);
          assert.equal((await project.presented()).subject, `CN=${round % 2 === 0 ? 'next' : 'mine'}.example`);
        }
      } finally {
        load.abort();
        await clients;
      }
      assert.deepEqual([...outcomes.keys()], ['200']);
      assert.ok((outcomes.get('200') ?? 0) > 100, `${outcomes.get('200') ?? 0} requests`);

      mkdirSync(join(config, 'nginx/conf.d'), { recursive: true });
      writeFileSync(
        join(config, 'nginx/conf.d/default.conf'),
        mine.conf.replace('add_header X-Mine', 'add_haeder X-Mine'),
      );
      const broken = await project.compose('exec', '-T', 'proxy', 'reload');
      assert.equal(broken.code, 1);
      assert.match(broken.stderr, /"add_haeder" in \/etc\/config\/nginx\/conf\.d\/default\.conf:\d+[^]*stays in use/);
      assert.deepEqual(await seen(), { ...untouched, certificate: 'CN=next.example' });
    });
  });

  suite('says in one sentence what is wrong and starts nothing', () => {
    const good = makeCertificate('good.example');
    const other = makeCertificate('other.example');
    const withPassword = makeCertificate('secret.example', ['-passout', 'pass:secret']);
    const mistakes: Record<string, [Record<string, string>, RegExp]> = {
      'a key of another certificate': [
        { 'ssl/nginx.crt': good.certificate, 'ssl/nginx.key': other.key },
        /^proxy: \/etc\/config\/nginx\/ssl\/nginx\.key is not the key of \/etc\/config\/nginx\/ssl\/nginx\.crt/m,
      ],
      'a certificate without a key': [
        { 'ssl/nginx.crt': good.certificate },
        /^proxy: .* has nginx\.crt but no nginx\.key/m,
      ],
      'a key without a certificate': [{ 'ssl/nginx.key': good.key }, /^proxy: .* has nginx\.key but no nginx\.crt/m],
      'a certificate that is none': [
        { 'ssl/nginx.crt': 'rubbish', 'ssl/nginx.key': good.key },
        /^proxy: \/etc\/config\/nginx\/ssl\/nginx\.crt is not a certificate in PEM form/m,
      ],
      'a key that is none': [
        { 'ssl/nginx.crt': good.certificate, 'ssl/nginx.key': '' },
        /^proxy: \/etc\/config\/nginx\/ssl\/nginx\.key is not a private key in PEM form/m,
      ],
      'a key with a password': [
        { 'ssl/nginx.crt': withPassword.certificate, 'ssl/nginx.key': withPassword.key },
        /^proxy: .*nginx\.key has a password; name the file with the password by ssl_password_file/m,
      ],
      'a syntax error in ssl.conf': [
        { 'ssl/ssl.conf': shipped('ssl/ssl.conf').replace('ssl_protocols', 'ssl_protocol') },
        /unknown directive "ssl_protocol" in \/etc\/config\/nginx\/ssl\/ssl\.conf:\d+/,
      ],
      'a protocol that does not exist': [
        { 'ssl/ssl.conf': shipped('ssl/ssl.conf').replace('TLSv1.2 TLSv1.3', 'TLSv1.4') },
        /invalid value "TLSv1\.4" in \/etc\/config\/nginx\/ssl\/ssl\.conf:\d+/,
      ],
      'a syntax error in default.conf': [
        { 'conf.d/default.conf': 'server {\n  listn 80;\n}\n' },
        /unknown directive "listn" in \/etc\/config\/nginx\/conf\.d\/default\.conf:2/,
      ],
    };
    const start = (config: string) =>
      run('docker', [
        'run',
        '--rm',
        '--read-only',
        '--tmpfs',
        '/run',
        '--tmpfs',
        '/var/cache/nginx',
        '--tmpfs',
        '/var/lib/apigw-proxy',
        '-v',
        `${config}:/etc/config:ro`,
        'apigw-proxy',
      ]);
    for (const [what, [files, said]] of Object.entries(mistakes)) {
      test(what, async () => {
        const { code, stdout, stderr } = await start(makeConfig(files));
        assert.equal(code, 1, stdout);
        assert.match(stderr, said);
      });
    }

    test('a setting of the proxy that is none, or that brings directives along', async () => {
      for (const [setting, said] of [
        [
          'APIGW_APP_UPSTREM=myapp:3000',
          /APIGW_APP_UPSTREM is not a setting of the proxy; they are: .*APIGW_APP_UPSTREAM/,
        ],
        ['APIGW_APP_UPSTREAM=app:80\n weight=5', /APIGW_APP_UPSTREAM is "app:80/],
        ['APIGW_RESOLVER=1.1.1.1; daemon on', /APIGW_RESOLVER is "1\.1\.1\.1; daemon on"/],
      ] as const) {
        const { code, stderr } = await run('docker', ['run', '--rm', '-e', setting, 'apigw-proxy']);
        assert.equal(code, 1);
        assert.match(stderr, said);
      }
    });

    test('a database folder that the gateway may not write', async () => {
      const folder = makeTempDir();
      chmodSync(folder, 0o755);
      const { code, stdout } = await run('docker', ['run', '--rm', '-v', `${folder}:/var/lib/apigw`, 'apigw-gateway']);
      assert.equal(code, 1);
      assert.match(
        stdout,
        /user 1000:101 may not read and write \/var\/lib\/apigw\. As root: chown -R 1000:101 \/var\/lib\/apigw/,
      );
    });

    test('an expired certificate is served, and said to have expired at every start', async () => {
      const expired = makeExpiredCertificate('expired.example');
      const config = makeConfig({ 'ssl/nginx.crt': expired.certificate, 'ssl/nginx.key': expired.key });
      project.edit({ mounts: [`${config}:/etc/config:ro`] });
      await project.must('rm', '-s', '-f', 'proxy');
      await project.must('up', '-d', '--no-deps', 'proxy');
      await isUp();
      assert.match(await project.logs('proxy'), /WARNING: \/etc\/config\/nginx\/ssl\/nginx\.crt has expired/);
      assert.equal((await project.presented()).subject, 'CN=expired.example');
    });
  });
});

suite('docker-compose.ha.yaml: two gateways on PostgreSQL', { skip: process.env['WITHOUT_POSTGRES'] }, () => {
  let project: ComposeProject;
  let key = '';
  before(async () => {
    project = await ComposeProject.make(current);
    const password = join(project.dir, 'database-password');
    writeFileSync(password, `${randomBytes(32).toString('hex')}\n`);
    project.addSecondGateway(password);
    await project.must('up', '-d', '--build');
    await until('it is up', async () => (await answers(project, '/readyz')) === 200, 120_000);
    key = (await project.must('exec', '-T', 'gateway', 'apigw', 'bootstrap')).trim();
  });
  after(() => project.remove());

  test('both decide, with the same clients, and one of them suffices', async () => {
    await until('the key counts', async () => (await answers(project, '/', key)) === 200);
    for (const stopped of ['gateway', 'gateway-b']) {
      await project.must('stop', stopped);
      const created = await project.manage('POST', key, '', { json: { name: `without ${stopped}` } });
      assert.equal(created.status, 201);
      assert.equal(await answers(project, '/', created.json['token'] as string), 200);
      await project.must('start', stopped);
      await until(
        `${stopped} is well`,
        async () => {
          const { State: state } = (await project.inspect(stopped)) as { State: { Health: { Status: string } } };
          return state.Health.Status === 'healthy';
        },
        60_000,
      );
    }
  });

  test('a database that is made anew from its volume has everything, and no gateway is restarted for it', async () => {
    const startsOf = async () =>
      (await Promise.all(['gateway', 'gateway-b'].map((name) => project.inspect(name)))).map(
        ({ State: state }) => (state as { StartedAt: string }).StartedAt,
      );
    const before = await startsOf();
    await project.must('rm', '-s', '-f', 'postgres');
    const { status, json } = await project.manage('GET', key);
    assert.deepEqual([status, json['reason']], [503, 'store_unavailable']);
    await project.must('up', '-d', '--no-deps', 'postgres');
    await until('it is back', async () => (await answers(project, '/', key)) === 200, 60_000);
    assert.deepEqual(await startsOf(), before);
  });

  test('the database runs with no more than it needs, on no port, and no log has its password', async () => {
    const { HostConfig: host } = (await project.inspect('postgres')) as { HostConfig: Record<string, unknown> };
    assert.equal(host['ReadonlyRootfs'], true);
    assert.deepEqual(host['CapDrop'], ['ALL']);
    assert.deepEqual(Object.keys(host['PortBindings'] ?? {}), []);
    assert.notEqual((await project.must('exec', '-T', 'postgres', 'id', '-u')).trim(), '0');
    const password = readFileSync(join(project.dir, 'database-password'), 'utf8').trim();
    for (const service of ['gateway', 'gateway-b', 'proxy', 'postgres'])
      assert.equal((await project.logs(service)).includes(password), false, service);
  });

  test('without the password nothing starts, and compose names the file', async () => {
    const other = await ComposeProject.make(current);
    const missing = join(other.dir, 'database-password');
    other.addSecondGateway(missing);
    try {
      const { code, stdout, stderr } = await other.compose('up', '-d');
      assert.ok((stdout + stderr).includes(missing), stderr);
      assert.notEqual(code, 0);
    } finally {
      await other.remove();
    }
  });
});

for (const command of others) {
  test(`${command.join(' ')} runs the same file`, async () => {
    const project = await ComposeProject.make(command);
    try {
      project.edit({ createKey: true });
      await project.must('up', '-d', '--build');
      await until('it is up', async () => (await answers(project, '/livez')) === 200, 60_000);
      const [, key] = /^NEWLY GENERATED API KEY: (.*)$/m.exec(await project.logs('gateway')) ?? [];
      assert.equal(await answers(project, '/', key), 200);
      assert.equal(await answers(project), 401);
      await project.must('down');
      project.edit({});
      await project.must('up', '-d');
      await until('it is up again', async () => (await answers(project, '/', key)) === 200, 60_000);
    } finally {
      await project.remove();
    }
  });
}

/** One request on a connection of its own: its status, or what went wrong. */
function askOnce({ httpsPort }: ComposeProject, key: string): Promise<string> {
  return new Promise((resolve) => {
    const call = request(
      {
        host: '127.0.0.1',
        port: httpsPort,
        agent: false,
        rejectUnauthorized: false,
        headers: { Authorization: `apk ${key}` },
      },
      (response) => {
        response.resume();
        response.on('end', () => {
          resolve(String(response.statusCode));
        });
        response.on('error', (error) => {
          resolve(error.message);
        });
      },
    );
    call.on('error', (error) => {
      resolve(error.message);
    });
    call.end();
  });
}
