import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import type { Finding } from '../../src/cli/front-door/verdict.ts';
import { makeExpiredCertificate } from '../support/certificate.ts';
import { runCli, type Ran } from '../support/cli.ts';
import { freePorts, makeTempDir, root, startTestStack, withoutLimits, type TestStack } from '../support/stack.ts';

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
    const ended = makeExpiredCertificate('localhost');
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
    const fixed =
      'location = /pages { auth_request off; proxy_pass http://application/pages; include snippets/proxy.conf; }';
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

  test('passes a public path that is one path to the application, however it is spelt', async () => {
    const ran = await doctor(stack.httpsPort, ['--public', '/pages', '--path', '/orders', '--only', 'public paths']);
    assert.equal(ran.exitCode, 0, ran.stdout);
    assert.match(ran.stdout, /^public paths +ok +7 tried/m);
  });

  test('passes what is shipped with a key, whose holder it is not taken for', async () => {
    const ran = await doctor(stack.httpsPort, withKey());
    assert.equal(ran.exitCode, 0, ran.stdout);
    assert.match(ran.stdout, /^identity headers, received +ok +\d+ tried/m);
    assert.match(ran.stdout, /^after a good key +ok +5 tried/m);
    assert.ok(!ran.stdout.includes(stack.adminKey) && !ran.stderr.includes(stack.adminKey));
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
