import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpsServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls';
import { promisify } from 'node:util';
import { CliError } from '../../src/cli/exit-codes.ts';
import { examineFrontDoor, type FrontDoor } from '../../src/cli/front-door/examine.ts';
import type { Finding } from '../../src/cli/front-door/verdict.ts';
import { makeCertificate, makeExpiredCertificate } from '../support/certificate.ts';
import { runCli, type Ran } from '../support/cli.ts';
import { freePorts, makeTempDir, root, startTestStack, withoutLimits, type TestStack } from '../support/stack.ts';

const run = promisify(execFile);

interface Hole {
  /** Edits the server as nginx reads it, with its snippets in it. */
  readonly edit: (server: string) => string;
  /** A check that finds it, and what is found there. */
  readonly found: readonly [check: string, what: RegExp];
  readonly args?: readonly string[];
  readonly hasKey?: boolean;
}

const proxied = 'proxy_pass http://application;';
const inLocation = (line: string) => (server: string) =>
  server.replace('location / {   # protected', (head) => `${head}\n    ${line}`);
const withLocation = (location: string) => (server: string) =>
  server.replace('location / {   # protected', (head) => `${location}\n  ${head}`);
const open = `{ auth_request off; ${proxied} }`;
const replacing = (from: string | RegExp, to: string) => (server: string) => {
  assert.ok(typeof from === 'string' ? server.includes(from) : from.test(server), String(from));
  return server.replaceAll(typeof from === 'string' ? from : new RegExp(from, 'g'), () => to);
};

/** One server of nginx for each, with everything else as it is shipped. */
const holes: Readonly<Record<string, Hole>> = {
  'auth_request off in the location': {
    edit: (server) =>
      replacing('http://${if_granted}application', 'http://application')(inLocation('auth_request off;')(server)),
    found: ['no credential', /GET \//],
  },
  'an open pattern for static files': {
    edit: withLocation(`location ~ \\.(?:css|js|png)$ ${open}`),
    found: ['paths that are often open', /\/apigw-doctor\.css/],
  },
  'a public location that is a prefix': {
    edit: withLocation(`location /livez/ ${open}`),
    found: ['beside an open path', /^\/livez\/x/],
  },
  'a public path that takes along what begins like it': {
    edit: withLocation(`location /status ${open}`),
    found: ['beside an open path', /^\/statusz/],
    args: ['--public', '/status'],
  },
  'a public folder that leads out of itself': {
    edit: withLocation(`location /static/ ${open}`),
    found: ['tricks with the path', /^\/static\/\.\.;\//],
    args: ['--public', '/static/'],
  },
  'a public path that is handed on as the client wrote it': {
    edit: withLocation(`location = /pages ${open}`),
    found: ['public paths', /^\/orders(?:\/\.\.|\/%2e%2e|%2f\.\.)\/pages$/],
    args: ['--public', '/pages', '--path', '/orders'],
  },
  'an open path of the application': {
    edit: withLocation(`location /orders ${open}`),
    found: ['no credential', /^GET \/orders/],
    args: ['--path', '/orders'],
  },
  'satisfy any, with everybody allowed': {
    edit: (server) =>
      replacing('http://${if_granted}application', 'http://application')(inLocation('satisfy any; allow all;')(server)),
    found: ['bad credentials', /junk/],
  },
  'a typo in auth_request, without the marker': {
    edit: (server) =>
      replacing(
        'http://${if_granted}application',
        'http://application',
      )(replacing('auth_request /_apigw/decision;', 'auth_request /_apigw/descision;')(server)),
    found: ['HTTP/2', /GET \//],
  },
  'refusals that go to the application': {
    edit: (server) =>
      inLocation('error_page 401 = @application;')(withLocation(`location @application ${open}`)(server)),
    found: ['no credential', /GET \//],
  },
  'pages of 404 that the application writes': {
    edit: (server) =>
      replacing(
        'server_name _;',
        'server_name _; error_page 404 = @open;',
      )(withLocation(`location @open ${open}`)(server)),
    found: ['internal locations', /\/_apigw\/problem/],
  },
  'a page of 404 that is open by itself': {
    edit: withLocation(`error_page 404 = /fallback; location = /fallback ${open}`),
    found: ['paths that are often open', /^\/fallback/],
  },
  'files that are not there, and are asked of the application': {
    edit: (server) =>
      withLocation('location ~ \\.(?:bak|sql)$ { error_page 404 = @open; return 404; }')(
        withLocation(`location @open ${open}`)(server),
      ),
    found: ['paths that are often open', /\/apigw-doctor\.bak/],
  },
  'a public path of which a parameter makes another one': {
    edit: withLocation(
      'location = /status { auth_request off; rewrite ^ /$arg_path break; proxy_pass http://application/status; }',
    ),
    found: ['public paths', /^\/status\?path=apigw-doctor$/],
    args: ['--public', '/status'],
  },
  'a public path of which a whole path makes another one': {
    edit: withLocation(
      'location = /pages { auth_request off; if ($arg_next) { rewrite ^ $arg_next break; } proxy_pass http://application; }',
    ),
    found: ['public paths', /^\/pages\?next=\/orders$/],
    args: ['--public', '/pages', '--path', '/orders'],
  },
  'the question, to be asked from outside': {
    edit: replacing('internal;   # 404 from outside', ''),
    found: ['internal locations', /\/_apigw\/decision/],
  },
  'metrics for everybody': {
    edit: withLocation('location = /metrics { auth_request off; proxy_pass http://management; }'),
    found: ['paths that are often open', /\/metrics/],
  },
  'refusals that the gateway remembers, for everybody': {
    edit: withLocation('location /denials/ { auth_request off; proxy_pass http://management; }'),
    found: ['paths that are often open', /\/denials\/x/],
  },
  'a management API that the application answers for': {
    edit: withLocation(`location = /v1/management/api-clients ${open}`),
    found: ['management without admin', /no credential/],
  },
  'OPTIONS for everybody': {
    edit: (server) =>
      inLocation('error_page 418 = @open; if ($request_method = OPTIONS) { return 418; }')(
        withLocation(`location @open ${open}`)(server),
      ),
    found: ['methods', /OPTIONS \//],
  },
  'deletions for everybody': {
    edit: (server) =>
      inLocation('error_page 418 = @open; if ($request_method = DELETE) { return 418; }')(
        withLocation(`location @open ${open}`)(server),
      ),
    found: ['methods', /DELETE \/apigw-doctor/],
  },
  'WebSockets for everybody': {
    edit: withLocation(
      `location = /ws { auth_request off; ${proxied} proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }`,
    ),
    found: ['upgrades', /WebSocket \/ws/],
  },
  'uploads that are read before anybody is asked': {
    edit: withLocation(`location = /apigw-doctor ${open}`),
    found: ['large bodies', /500 KB announced/],
  },
  'a key in the query string': {
    edit: replacing('$credential', '$credential_or_query'),
    found: ['a key in another place', /\?api_key=/],
  },
  'a default server without protection': {
    edit: (server) =>
      `${server.replace('server_name _;', 'server_name localhost;')}\nserver { ${listenOf(server)} default_server; location / { ${proxied} } }`,
    found: ['other hosts and servers', /Host: apigw-doctor\.invalid/],
  },
  'spelt with underscores': {
    edit: (server) => server.replace('server_name _;', 'server_name _; underscores_in_headers on;'),
    found: ['identity headers, received', /underscores/],
    hasKey: true,
  },
  'spelt with dots': {
    edit: (server) => server.replace('server_name _;', 'server_name _; ignore_invalid_headers off;'),
    found: ['identity headers, received', /dots/],
    hasKey: true,
  },
  'a location that has lost the identity headers': {
    edit: withLocation(
      'location = /echo { proxy_pass http://${if_granted}application; proxy_set_header X-Tenant blue; }',
    ),
    found: ['identity headers, received', /as they are at \/echo/],
    args: ['--echo', '/echo'],
    hasKey: true,
  },
  'an h2c tunnel': {
    edit: (server) =>
      replacing('$forwarded_upgrade', '$http_upgrade')(replacing('$forwarded_connection', 'upgrade')(server)),
    found: ['after a good key', /an h2c tunnel/],
    hasKey: true,
  },
  'TLS 1.0 and 1.1': {
    edit: (server) =>
      server.replace(
        'server_name _;',
        'server_name _; ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_ciphers ALL:@SECLEVEL=0;',
      ),
    found: ['TLS 1.0 and 1.1', /TLS 1\.1/],
  },
  'a certificate that has ended': {
    edit: (server) =>
      server.replace(
        'server_name _;',
        'server_name _; ssl_certificate ssl/ended.crt; ssl_certificate_key ssl/ended.key;',
      ),
    found: ['certificate', /its end/],
  },
};

/** Of the side without TLS. */
const clearHoles: Readonly<Record<string, { readonly location: string; readonly found: RegExp }>> = {
  'plain HTTP that serves the application': { location: `location / { ${proxied} }`, found: /GET \// },
  'plain HTTP that serves one path': {
    location: `location / { return 308 https://$host; } location = /livez { return 200 alive; }`,
    found: /GET \/livez/,
  },
  'plain HTTP that asks for a credential': {
    location: `include snippets/gateway.conf; location / { proxy_pass http://\${if_granted}application; include snippets/proxy.conf; }`,
    found: /a made-up key/,
  },
};

function listenOf(server: string): string {
  return /listen \d+ ssl http2/.exec(server)?.[0] ?? '';
}

/** The server as nginx reads it. */
function flatten(text: string): string {
  return text.replace(/^ *include (snippets\/[a-z-]+\.conf);.*$/gm, (_, file: string) =>
    flatten(readFileSync(join(root, 'nginx', file), 'utf8')),
  );
}

suite('apigw doctor, from outside', { concurrency: 3 }, () => {
  const names = [...Object.keys(holes), ...Object.keys(clearHoles)];
  let stack: TestStack;
  let ports: number[];
  const dir = makeTempDir();
  before(async () => {
    ports = await freePorts(names.length);
    const portOf = (name: string) => ports[names.indexOf(name)] ?? 0;
    const authority = makeCertificate('a private authority');
    const ended = makeExpiredCertificate('elsewhere.example', { authority });
    writeFileSync(join(dir, 'ca.crt'), authority.certificate);
    writeFileSync(join(dir, 'other.crt'), makeCertificate('another authority').certificate);
    const [ssl, shipped] = [join(dir, 'nginx/ssl'), readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8')];
    const https = flatten(shipped.slice(shipped.indexOf('server {   # HTTPS')));
    const servers = Object.entries(holes).map(([name, { edit }]) => {
      const server = https.replace('include runtime/listen-https.conf;', `listen ${portOf(name)} ssl http2;`);
      const edited = edit(server);
      assert.notEqual(edited, server, name);
      return edited;
    });
    const clear = Object.entries(clearHoles).map(
      ([name, { location }]) => `server { listen ${portOf(name)}; ${location} }`,
    );
    const fixed = Object.entries({ '/pages': '/pages', '/state': '/status' })
      .map(([path, to]) => `location = ${path} { auth_request off; proxy_pass http://application${to}; }`)
      .join('\n  ');
    const query =
      'map $request_uri $credential_or_query {\n  default $credential;\n  "~[?&]api_key=(?<asked>[^&]+)" "apk $asked";\n}\n';
    mkdirSync(ssl, { recursive: true });
    writeFileSync(join(ssl, 'ended.crt'), ended.certificate);
    writeFileSync(join(ssl, 'ended.key'), ended.key);
    stack = await startTestStack({
      editLimits: withoutLimits,
      edit: (conf) =>
        [withLocation(fixed)(conf), query, ...servers, ...clear].join('\n').replaceAll('ssl/ended', join(ssl, 'ended')),
    });
    writeFileSync(join(dir, 'key'), stack.adminKey, { mode: 0o600 });
  });
  after(() => stack.stop());

  const doctor = (port: number, args: readonly string[] = []) =>
    runCli(['doctor', `https://localhost:${port}`, '--http', `http://localhost:${stack.httpPort}`, ...args]);
  const withKey = () => ['--key-file', join(dir, 'key'), '--insecure'];
  const told = (ran: Ran) => (ran.json as Finding[]).filter(({ result }) => result === 'wrong');

  test('passes what is shipped, and says what it has not looked at', async (t) => {
    const startedAt = performance.now();
    const ran = await doctor(stack.httpsPort);
    t.diagnostic(`${Math.round(performance.now() - startedAt)} ms; ${ran.stderr.trim()}`);
    assert.equal(ran.exitCode, 0, ran.stdout);
    assert.match(ran.stdout, /^no credential +ok +GET \/: 401 no_credential$/m);
    assert.match(ran.stdout, /^identity headers, received +not checked +this needs a key/m);
    assert.match(ran.stdout, /^certificate +warning +trust: clients do not trust it/m);
    assert.match(ran.stdout, /^plain HTTP +ok +\d+ tried/m);
    assert.doesNotMatch(ran.stdout, / wrong /);
  });

  test('shows on a terminal how far it is, and elsewhere nothing of that', async () => {
    const args = ['doctor', `https://localhost:${stack.httpsPort}`, '--only', 'bad credentials'];
    const line = [process.execPath, join(root, 'dist/cli/main.js'), ...args].map((word) => `'${word}'`).join(' ');
    const { stdout } = await run('script', ['-qec', line, '/dev/null']);
    assert.match(stdout, /attempts \[.*\] 9\/9/);
    assert.doesNotMatch((await runCli(args)).stderr, /attempts/);
  });

  test('passes a public path that is one path to the application, however it is spelt', async () => {
    const args = ['--public', '/pages', '--public', '/state', '--path', '/orders', '--only', 'public paths'];
    const ran = await doctor(stack.httpsPort, args);
    assert.equal(ran.exitCode, 0, ran.stdout);
    assert.match(ran.stdout, /^public paths +ok +22 tried/m);
    assert.doesNotMatch(ran.stdout, /warning/);
  });

  test('passes what is shipped with a key, whose holder it is not taken for', async () => {
    const ran = await doctor(stack.httpsPort, withKey());
    assert.equal(ran.exitCode, 0, ran.stdout);
    assert.match(ran.stdout, /^identity headers, received +ok +\d+ tried/m);
    assert.match(ran.stdout, /^after a good key +ok +5 tried/m);
    assert.ok(!ran.stdout.includes(stack.adminKey) && !ran.stderr.includes(stack.adminKey));
  });

  test('says of a certificate that has ended also that it is for another name, and whether it would be trusted', async () => {
    const port = ports[names.indexOf('a certificate that has ended')] ?? 0;
    const certificate = async (...args: string[]) =>
      (await doctor(port, ['--only', 'certificate', '--all', ...args])).stdout;
    const untrusted =
      /^certificate +warning +trust: clients do not trust it: no authority that is known here has signed/m;
    const seen = await certificate();
    assert.match(seen, untrusted);
    assert.match(seen, /^certificate +wrong +its end: .*, -\d+ days left/m);
    assert.match(seen, /^certificate +warning +name: is not for localhost/m);
    assert.match(await certificate('--ca-file', join(dir, 'other.crt')), untrusted);
    const known = await certificate('--ca-file', join(dir, 'ca.crt'));
    assert.match(known, /^certificate +ok +trust: trusted but for its dates$/m);
  });

  test('takes no file for authorities that has none', async () => {
    for (const args of [
      ['--ca-file', '/etc/passwd'],
      ['--ca-file', join(dir, 'nginx/ssl/ended.key')],
    ]) {
      const ran = await doctor(stack.httpsPort, args);
      assert.equal(ran.exitCode, 2);
      assert.match(ran.stderr, /^apigw: --ca-file \(APIGW_CA_FILE\): \/.* has no certificate in PEM form/);
    }
  });

  for (const [name, { found, args = [], hasKey = false }] of Object.entries(holes)) {
    test(`finds ${name}`, async () => {
      const ran = await doctor(ports[names.indexOf(name)] ?? 0, [
        ...['--output', 'json', '--only', found[0], ...args],
        ...(hasKey ? withKey() : []),
      ]);
      const wrong = told(ran);
      const [check, what] = found;
      assert.ok(
        wrong.some((one) => one.check === check && what.test(one.what)),
        JSON.stringify(wrong.length > 0 ? wrong : ran, null, 1),
      );
      assert.equal(ran.exitCode, 1);
    });
  }

  for (const [name, { found }] of Object.entries(clearHoles)) {
    test(`finds ${name}`, async () => {
      const http = `http://localhost:${ports[names.indexOf(name)] ?? 0}`;
      const ran = await runCli(['doctor', stack.url, '--http', http, '--output', 'json', '--only', 'plain HTTP']);
      const wrong = told(ran);
      assert.ok(
        wrong.some(({ check, what }) => check === 'plain HTTP' && found.test(what)),
        JSON.stringify(wrong, null, 1),
      );
      assert.equal(ran.exitCode, 1);
    });
  }
});

suite('apigw doctor, of a host that hangs', { concurrency: true }, () => {
  const { certificate: cert, key } = makeCertificate('localhost');
  const sockets = new Set<TLSSocket>();
  const servers: (Server | TlsServer)[] = [];
  after(() => {
    for (const socket of sockets) socket.destroy();
    for (const server of servers) server.close();
  });

  async function listen(server: Server | TlsServer): Promise<URL> {
    servers.push(server);
    server.on('secureConnection', (socket) => {
      sockets.add(socket.on('error', () => undefined));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new URL(`https://localhost:${(server.address() as AddressInfo).port}`);
  }
  const host = (talk: (socket: TLSSocket) => void) =>
    listen(
      createTlsServer({ cert, key, ALPNProtocols: ['http/1.1'] }, (socket) => {
        talk(socket.resume());
      }),
    );
  /** Says the first part at once and the other, whole or byte by byte, again and again. */
  const chatter = (first: string, again: string, pause: number) =>
    host((socket) => {
      socket.write(first);
      const timer = setInterval(() => socket.write(again), pause);
      socket.on('close', () => {
        clearInterval(timer);
      });
    });
  const examine = (url: URL, door: Partial<FrontDoor> = {}) =>
    examineFrontDoor({
      url,
      http: undefined,
      paths: { protected: [], open: [] },
      echoes: [],
      only: [],
      credential: undefined,
      ca: undefined,
      isInsecure: false,
      limits: { patience: 1_000, total: 60_000 },
      ...door,
    });
  const givesUp = (failure: RegExp) => (error: unknown) => {
    assert.ok(error instanceof CliError, String(error));
    assert.match(error.message, /takes the connection, with TLS, but answers no request/);
    assert.match(error.message, failure);
    return error.exitCode === 69;
  };

  test('gives up after one request that is not answered, and says so', async () => {
    const url = await host(() => undefined);
    const ran = await runCli(['doctor', url.origin]);
    assert.equal(ran.exitCode, 69, ran.stdout);
    assert.match(
      ran.stderr,
      /localhost:\d+ takes the connection, with TLS, but answers no request: no answer within 4 s/,
    );
    assert.equal(ran.stdout, '');
  });

  test('gives up when a head comes byte by byte, or never ends, or what comes is no HTTP', async () => {
    const [drip, endless, noise, drops] = await Promise.all([
      chatter('HTTP/1.1 200 ', 'x', 50),
      chatter('HTTP/1.1 200 OK\r\n', 'X: y\r\n'.repeat(4_000), 10),
      chatter('hello', 'x'.repeat(16_000), 10),
      chatter('h', 'x', 50),
    ]);
    await Promise.all([
      assert.rejects(examine(drip), givesUp(/no answer within 1 s/)),
      assert.rejects(examine(endless), givesUp(/no end of a head within 64 KB/)),
      assert.rejects(examine(noise), givesUp(/what comes back is no HTTP/)),
      assert.rejects(examine(drops), givesUp(/what comes back is no HTTP/)),
    ]);
  });

  test('waits for no end of a body that has none, and judges what there is', async () => {
    const only = ['no credential', 'bad credentials'];
    const bodies = await Promise.all([
      chatter('HTTP/1.1 200 OK\r\n\r\n', 'x', 20),
      chatter('HTTP/1.1 200 OK\r\n\r\n', 'x'.repeat(16_000), 10),
    ]);
    for (const found of await Promise.all(bodies.map((url) => examine(url, { only })))) {
      assert.equal(found.length, 10);
      assert.ok(
        found.every(({ result, seen }) => result === 'wrong' && seen === '200'),
        JSON.stringify(found),
      );
    }
  });

  test('stops when nothing is answered any more; what is left is not checked, and nothing of it wrong', async () => {
    let answered = 0;
    const server = createHttpsServer({ cert, key }, (_, response) => {
      if (answered++ < 3) response.writeHead(404).end();
    });
    const [steps, done]: [number[], { count: number }] = [[], { count: 0 }];
    const found = await examine(await listen(server), {
      paths: { protected: ['/orders'], open: ['/status'] },
      onCounted: (count) => steps.push(count),
      onDone: () => done.count++,
    });
    assert.deepEqual(steps, [done.count]);
    const wrong = found.filter(({ result }) => result === 'wrong');
    assert.ok(wrong.length <= 2 && wrong.every(({ seen }) => seen.startsWith('404')), JSON.stringify(wrong));
    const isLeft = ({ seen }: Finding) => /^not tried: nothing is answered any more \(no answer within/.test(seen);
    const left = found.filter(isLeft);
    assert.ok(left.length > 250 && left.every(({ result }) => result === 'not checked'), String(left.length));
    for (const check of ['upgrades', 'public paths', 'TLS 1.0 and 1.1', 'TLS 1.2', 'HSTS'])
      assert.ok(found.filter((one) => one.check === check).every(isLeft), check);
    // by then it has asked a handful of times
    assert.ok(answered < 40, String(answered));
  });

  test('ends after the time that all of it may take', async () => {
    const server = createHttpsServer({ cert, key }, (_, response) => {
      setTimeout(() => response.writeHead(404).end(), 50);
    });
    const found = await examine(await listen(server), { limits: { patience: 2_000, total: 300 } });
    const left = found.filter(({ seen }) => seen === 'not tried: 0.3 s were over');
    assert.ok(left.length > 200 && left.every(({ result }) => result === 'not checked'), String(left.length));
  });
});
