import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { before, suite, test } from 'node:test';
import { promisify } from 'node:util';
import { readLocalSettings } from '../../src/local/settings.ts';
import { runCli } from '../support/cli.ts';
import { blocks, read, withBlocks } from '../support/pages.ts';
import { addLocations } from '../support/settings.ts';
import { form, makeTempDir, root, startTestStack } from '../support/stack.ts';
import { spawnUp } from '../support/up.ts';

const shipped = readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8');
const sslConf = readFileSync(join(root, 'nginx/ssl/ssl.conf'), 'utf8');
const nginx = process.env['APIGW_NGINX'] ?? 'nginx';

const run = promisify(execFile);

/** An operator's files, by their path below config/nginx; `server`: lines of the HTTPS server of default.conf. */
type Files = Readonly<Record<string, string>>;

/** default.conf with every example in use. */
const examples = uncommented(shipped);

function uncommented(text: string): string {
  const start = text.indexOf('# --- Servers');
  const servers = text
    .slice(start)
    .replace(/^( *)# (?= *(?:location|include|root|auth_request|proxy_|add_header|limit_req |\}))/gm, '$1')
    .replace(/ # (?=proxy_set_header X-Policy)/, ' ');
  assert.doesNotMatch(servers, /^ *# [^:\n]*[;{]$/m);
  return `${text.slice(0, start)}limit_req_zone $claimed_client zone=per_client:10m rate=500r/s;\n${servers}`;
}

const conf = (text: string): Files => ({ 'conf.d/default.conf': text });
const inServer = (lines: string): Files => ({ server: lines });
const inLocation = (lines: string) =>
  conf(
    shipped.replace('# protected\n    proxy_pass http://${if_granted}application;\n', (text) => `${text}${lines}\n`),
  );
const inHttp = (lines: string) => conf(shipped.replace('upstream application {', (text) => `${lines}\n${text}`));
const behind = (lines: string) => conf(`${shipped}\n${lines}\n`);
const question = (lines: string) => `
  location = /_apigw/decision/own {
    ${lines}
  }
  location = /own {   # protected
    auth_request /_apigw/decision/own;
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
  include snippets/strict-paths.conf;
`;
const headersOfQuestion = 'proxy_pass_request_headers off; proxy_pass_request_body off;';

let base = '';
before(() => {
  base = makeTempDir();
  const env = {
    PATH: process.env['PATH'],
    APIGW_PREFIX: base,
    APIGW_NGINX: nginx,
    APIGW_HTTP_PORT: '18080',
    APIGW_HTTPS_PORT: '18443',
    APIGW_APP_UPSTREAM: '127.0.0.1:9',
  };
  execFileSync('sh', [join(root, 'nginx/stage.sh')], { env });
});

/** The shipped files with an operator's in their place, as stage.sh lays them out; returns where. */
function layOut({ server, ...others }: Files): string {
  const files = server === undefined ? others : { ...others, ...conf(addLocations(shipped, server)) };
  const prefix = makeTempDir();
  const next = join(prefix, 'next');
  for (const folder of ['temp', 'logs', 'next/conf.d', 'next/ssl'])
    mkdirSync(join(prefix, folder), { recursive: true });
  for (const name of ['snippets', 'runtime', 'nginx.conf', 'conf.d/default.conf', 'conf.d/limits.conf', ...sslFiles])
    if (!(name in files)) symlinkSync(join(base, 'next', name), join(next, name));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(next, name)), { recursive: true });
    writeFileSync(join(next, name), text.replaceAll('OPERATOR', next));
  }
  return prefix;
}

const sslFiles = ['ssl/ssl.conf', 'ssl/nginx.crt', 'ssl/nginx.key'];

/** What nginx says is in effect. */
async function dump(files: Files): Promise<{ readonly text: string; readonly place: (file: string) => string }> {
  const prefix = layOut(files);
  const args = ['-p', prefix, '-e', 'stderr', '-c', 'next/nginx.conf', '-q', '-T'];
  return { text: (await run(nginx, args)).stdout, place: (file) => join(prefix, 'next', file) };
}

async function guard(text: string, strict: string, awk = 'awk'): Promise<string> {
  const [program = '', ...args] = awk.split(' ');
  const env = { ...process.env, APIGW_STRICT: strict };
  const running = run(program, [...args, '-f', join(root, 'nginx/conf-guard.awk')], { env });
  running.child.stdin?.end(text);
  return (await running).stdout;
}

const isThere = (awk: string) => spawnSync('sh', ['-c', 'command -v "$0"', awk.split(' ')[0] ?? '']).status === 0;

/** The number of the line on which this text begins, which is there once. */
function lineOf(text: string, part: string): number {
  const start = text.indexOf(part);
  assert.ok(start >= 0 && text.indexOf(part, start + 1) < 0, `"${part}" is not there once`);
  return text.slice(0, start).split('\n').length;
}

interface Mistake {
  readonly files: Files;
  /** Text on the line that is named, and words of what is said; all of what is said. */
  readonly says: readonly (readonly [at: string, words: RegExp, file?: string])[];
}

const mistakes: Readonly<Record<string, Mistake>> = {
  // 1. proxied without a question, and no exact, declared exemption
  'a prefix that is exempt': {
    files: inServer('  location /open/ {\n    auth_request off;\n    proxy_pass http://application;\n  }'),
    says: [
      ['location /open/ {', /"location \/open\/" goes to an application and nobody is asked.*"location = \/path"/],
    ],
  },
  'a prefix that is exempt, and says so in another place than behind its brace': {
    files: inServer(
      '  # public\n  location /open/ {\n    auth_request off; # public\n    proxy_pass http://application; # public\n  }',
    ),
    says: [['location /open/ {', /nobody is asked/]],
  },
  'a declaration that is none': {
    files: inServer('  location /open/ {   # publications\n    auth_request off; proxy_pass http://application;\n  }'),
    says: [['location /open/ {', /nobody is asked/]],
  },
  'a regular expression with braces and a semicolon, exempt': {
    files: inServer('  location ~ "^/v[0-9]{1,2};x$" { auth_request off; proxy_pass http://application; }'),
    says: [['location ~ "^/v', /"location ~ \^\/v\[0-9\]\{1,2\};x\$" goes to an application and nobody is asked/]],
  },
  'a server on one line without a question': {
    files: behind(
      'server{listen 18081;server_name other.example.com;location / {proxy_pass http://application;include snippets/proxy.conf;}}',
    ),
    says: [['server{listen', /no auth_request counts here.*snippets\/gateway\.conf/]],
  },
  'quoted words': {
    files: inServer(
      `  "location" '/open/' {\n    'auth_request' "off"; "proxy_pass" "http://application"; # } location = /x {\n  }`,
    ),
    says: [[`'/open/' {`, /nobody is asked/]],
  },
  'a nested location that inherits the exemption': {
    files: inServer(
      '  location /out {   # public: a page\n    auth_request off;\n    return 200;\n    location /out/in {\n      proxy_pass http://application;\n    }\n  }',
    ),
    says: [['location /out/in', /"auth_request off" stands around it \(.*default\.conf:\d+\)/]],
  },
  'an if with an upstream of its own': {
    files: inServer(
      '  location /open/ {\n    auth_request off;\n    if ($request_method = POST) {\n      proxy_pass http://application;\n    }\n  }',
    ),
    says: [['location /open/ {', /nobody is asked/]],
  },
  'a limit_except with an upstream of its own': {
    files: inServer(
      '  location /open/ {\n    auth_request off;\n    limit_except GET {\n      proxy_pass http://application;\n    }\n  }',
    ),
    says: [['location /open/ {', /nobody is asked/]],
  },
  'a named location that try_files falls to': {
    files: inServer(
      '  location /try/ {\n    root /srv;\n    try_files $uri @app;\n  }\n  location @app {\n    auth_request off;\n    proxy_pass http://application;\n  }',
    ),
    says: [['location @app', /nobody is asked/]],
  },
  'an upstream by variable': {
    files: {
      server:
        '  location /open/ {\n    auth_request off;\n    set $backend application;\n    proxy_pass http://$backend;\n  }',
    },
    says: [['location /open/ {', /nobody is asked/]],
  },
  'FastCGI, uwsgi, SCGI, gRPC and memcached': {
    files: inServer(
      ['fastcgi', 'uwsgi', 'scgi', 'grpc', 'memcached']
        .map(
          (name) =>
            `  location /${name}/ { auth_request off; ${name}_pass_request_headers off; ${name}_ignore_headers X-Accel-Redirect; ${name}_pass 127.0.0.1:9; }`,
        )
        .join('\n')
        .replace(/(?:grpc|memcached)_pass_request_headers off;/g, '')
        .replace('memcached_ignore_headers X-Accel-Redirect;', '')
        .replace('memcached_pass', 'set $memcached_key x; memcached_pass')
        .replace(
          'grpc_pass',
          'grpc_set_header X-Client-Id ""; grpc_set_header X-Client-Name ""; grpc_set_header X-Auth-Method ""; grpc_set_header Authorization ""; grpc_pass',
        ),
    ),
    says: ['fastcgi', 'uwsgi', 'scgi', 'grpc', 'memcached'].map(
      (name) => [`location /${name}/`, /nobody is asked/] as const,
    ),
  },
  'a file that an operator includes': {
    files: {
      server: '  include "ssl/part-[!b].con?";',
      'ssl/part-a.conf': '# mine\n\nlocation /open/ {\n  auth_request off;\n  proxy_pass http://application;\n}\n',
    },
    says: [['location /open/ {', /nobody is asked/, 'ssl/part-a.conf']],
  },
  'files that are handed out by a server that does not ask': {
    files: behind('server {\n  listen 18081;\n  server_name files.example.com;\n  root /srv/files;\n}'),
    says: [['server {\n', /this server hands out files \(root \/srv\/files\) and nobody is asked/]],
  },
  'files below a prefix that is exempt': {
    files: inServer('  location /files/ {\n    auth_request off;\n    alias /srv/files/;\n  }'),
    says: [['location /files/', /hands out files \(alias \/srv\/files\/\)/]],
  },
  'an exact path that is exempt, and handed on as the client wrote it': {
    files: inServer(
      [
        '  location = /a { auth_request off; proxy_pass http://application; }',
        '  location = /b {   # public\n    auth_request off;\n    proxy_pass http://unix:/run/b.sock;\n  }',
        '  location = /c { auth_request off; if ($arg_x) { proxy_pass http://application; } }',
        '  location = /d { auth_request off; rewrite ^/d /x break; proxy_pass http://application; }',
      ].join('\n'),
    ),
    says: [
      ['location = /a', /hands on the path as the client wrote it: "\/admin\/\.\.\/a".*http:\/\/application\/a;/],
      ['proxy_pass http://unix:/run/b.sock', /application\/b;/],
      ['location = /c', /application\/c;/],
      ['location = /d', /application\/d;/],
    ],
  },
  'an exact path that is exempt, and leads to what the client chooses': {
    files: inServer(
      ['$request_uri', '/$arg_path', '/a?$args&$http_x', '.$host/', '/$chosen']
        .map(
          (url, n) =>
            `  location = /${n} { auth_request off; set $chosen $cookie_x; proxy_pass http://application${url}; }`,
        )
        .concat(
          '  location = /f { auth_request off; fastcgi_pass_request_headers off; fastcgi_param REQUEST_URI $request_uri; fastcgi_ignore_headers X-Accel-Redirect; fastcgi_pass 127.0.0.1:9; }',
        )
        .join('\n'),
    ),
    says: [
      ['location = /0', /hands on \$request_uri, which the client chooses/],
      ['location = /1', /\$arg_path/],
      ['location = /2', /\$args/],
      ['location = /3', /\$host/],
      ['location = /4', /\$chosen/],
      ['location = /f', /\$request_uri/],
    ],
  },
  'proxy_pass without the marker': {
    files: inServer('  location /api/ {   # protected\n    proxy_pass http://application;\n  }'),
    says: [['proxy_pass http://application', /\$\{if_granted\} before the name/]],
  },
  // 2. identity headers lost by inheritance
  'a proxy_set_header alone': {
    files: inServer(
      '  location /api/ {   # protected\n    proxy_pass http://${if_granted}application;\n    proxy_set_header X-Tenant blue;\n  }',
    ),
    says: [
      [
        'X-Tenant blue',
        /gets X-Client-Id, X-Client-Name, X-Auth-Method, Authorization as the client wrote.*snippets\/proxy\.conf/,
      ],
    ],
  },
  'an identity that comes from the client': {
    files: inLocation('    proxy_set_header x-client-id $http_x_user;'),
    says: [['$http_x_user', /takes? what the client sends \(\$http_x_user\) for an identity/]],
  },
  'an identity that comes from the client by way of a map': {
    files: {
      'conf.d/default.conf': (
        inHttp('map $cookie_user $user {\n  default $cookie_user;\n}')['conf.d/default.conf'] ?? ''
      ).replace(
        '    include snippets/proxy.conf;\n  }\n\n  # --- Examples',
        (text) => `    proxy_set_header X-Client-Name $user;\n${text}`,
      ),
    },
    says: [['X-Client-Name $user', /\$cookie_user/]],
  },
  'an auth_request_set alone': {
    files: inLocation('    auth_request_set $tenant $upstream_http_x_tenant;'),
    says: [['$tenant', /drops those of snippets\/gateway\.conf.*\$auth_decision, \$auth_client_id/]],
  },
  'FastCGI without the identity': {
    files: inServer('  location ~ \\.php$ {   # protected\n    fastcgi_pass 127.0.0.1:9;\n    fastcgi_param X y;\n  }'),
    says: [
      ['fastcgi_pass', /fastcgi_param HTTP_X_CLIENT_ID \$auth_client_id/],
      ['fastcgi_pass', /any location of nginx by X-Accel-Redirect.*"fastcgi_ignore_headers X-Accel-Redirect;"/],
    ],
  },
  'a public path of the same application in a server without the gateway': {
    files: behind(
      'server {\n  listen 18081;\n  location = /ping {   # public\n    proxy_pass http://application/ping;\n  }\n}',
    ),
    says: [['http://application/ping', /gets X-Client-Id.*as the client wrote it/]],
  },
  'proxy_ignore_headers alone': {
    files: inServer(
      '  location /api/ {   # protected\n    proxy_pass http://${if_granted}application;\n    proxy_ignore_headers Expires;\n  }',
    ),
    says: [['proxy_ignore_headers Expires', /X-Accel-Redirect/]],
  },
  // 3. the question
  'a question that is not there': {
    files: inLocation('    auth_request /_apigw/decison;\n    include snippets/strict-paths.conf;'),
    says: [['decison', /leads to no "location = \/_apigw\/decison" of this server/]],
  },
  'a question for every server, most of which have none': {
    files: inHttp('auth_request /_apigw/decision;'),
    says: [['auth_request /_apigw/decision;\nupstream', /leads to no/]],
  },
  'a question that can be asked from outside, with headers of the client, cached': {
    files: {
      ...inServer(
        question(
          'auth_request off;\n    proxy_pass http://gateway/decision;\n    proxy_cache kept;\n    proxy_cache_valid any 1m;',
        ),
      ),
      'conf.d/cache.conf': 'proxy_cache_path OPERATOR/kept keys_zone=kept:1m;\n',
    },
    says: [
      ['location = /_apigw/decision/own {', /can be asked from outside.*"internal;"/],
      ['location = /_apigw/decision/own {', /proxy_pass_request_headers off/],
      ['proxy_cache kept', /"proxy_cache kept" counts in it/],
      ['proxy_cache_valid', /"proxy_cache_valid any 1m" counts in it/],
    ],
  },
  'a cache for every server, which counts in a question': {
    files: {
      ...inServer(question(`internal; auth_request off; proxy_pass http://gateway/decision; ${headersOfQuestion}`)),
      'conf.d/cache.conf': 'proxy_cache_path OPERATOR/kept keys_zone=kept:1m;\nproxy_cache kept;\n',
    },
    says: [
      ['location = /_apigw/decision/own {', /"proxy_cache kept" counts in it/],
      ['proxy_cache kept', /one client is answered with what was for another/, 'conf.d/cache.conf'],
    ],
  },
  'an answer that is stored': {
    files: inServer(
      question(
        `internal; auth_request off; ${headersOfQuestion}\n    proxy_pass http://gateway/decision;\n    proxy_store on;`,
      ),
    ),
    says: [['proxy_store on', /"proxy_store on" counts in it/]],
  },
  'a page of ours in place of the question': {
    files: inLocation('    auth_request /_apigw/problem; include snippets/strict-paths.conf;'),
    says: [['auth_request /_apigw/problem', /does not ask the gateway/]],
  },
  'a variable of ours that somebody else sets': {
    files: {
      server:
        '  location = /open {\n    auth_request off;\n    set $auth_client_id $http_x_client_id;\n    proxy_pass http://application/open;\n  }',
      'conf.d/more.conf': 'map $http_x $if_granted {\n  default "";\n}\n',
    },
    says: [
      ['set $auth_client_id', /gives \$auth_client_id another value/],
      ['map $http_x', /gives \$if_granted another value/, 'conf.d/more.conf'],
    ],
  },
  'somebody else who is asked': {
    files: inServer(question(`internal; auth_request off; ${headersOfQuestion}\n proxy_pass http://127.0.0.1:9/ok;`)),
    says: [['127.0.0.1:9/ok', /does not ask the gateway/]],
  },
  'a question that answers itself': {
    files: inServer(question(`internal; auth_request off; ${headersOfQuestion}\n return 204;`)),
    says: [[' return 204', /does not ask the gateway/]],
  },
  'a policy that the client chooses': {
    files: inServer(
      question('include snippets/decision.conf;\n    proxy_set_header X-Policy-Required-Scopes $arg_scope;'),
    ),
    says: [['$arg_scope', /\$arg_scope, which the client chooses/]],
  },
  // 4. to 9.
  'satisfy any': {
    files: inServer('  satisfy Any;\n  allow 10.0.0.0/8;\n  deny all;'),
    says: [['satisfy Any', /without the gateway/]],
  },
  'satisfy any for every server': {
    files: inHttp('satisfy any;'),
    says: [['satisfy any', /without the gateway/]],
  },
  'a return in a protected location': {
    files: inServer('  location = /secret {\n    return 200 "secret {}";\n  }'),
    says: [['return 200', /answers before anybody is asked.*"# public"/]],
  },
  'a return in an if, and one of the server': {
    files: inServer(
      '  if ($arg_x) {\n    return 302 /y;\n  }\n  location /api/ {\n    if ($arg_z) { return 204; }\n    proxy_pass http://${if_granted}application;\n  }',
    ),
    says: [
      ['return 302', /answers before/],
      ['return 204', /answers before/],
    ],
  },
  'a rewrite that redirects, and one that leads elsewhere': {
    files: inServer(
      '  location /old/ {\n    rewrite ^/old/a$ /new/a permanent;\n    rewrite ^/old/b$ https://example.com/;\n    rewrite ^/old/(.*)$ /new/$1;\n    proxy_pass http://${if_granted}application;\n  }',
    ),
    says: [
      ['permanent;', /answers before anybody is asked/],
      ['https://example.com/;', /answers before anybody is asked/],
      ['/new/$1;', /leads to another location before anybody is asked/],
    ],
  },
  'an error_page to a named location that proxies': {
    files: inServer(
      '  error_page 401 = @app;\n  location @app {   # public\n    auth_request off;\n    proxy_pass http://application;\n  }',
    ),
    says: [['error_page 401 = @app', /leads to "location @app", which goes to an application/]],
  },
  'an error_page for what is missing, to a location that asks nobody': {
    files: inServer(
      '  error_page 404 502 /fall/back;\n  location /fall/ {   # public\n    auth_request off;\n    proxy_pass http://application;\n  }',
    ),
    says: [['error_page 404 502', /leads to "location \/fall\/"/]],
  },
  'a TLS setting of a server': {
    files: conf(
      shipped.replace('server_name _;\n  include snippets/gateway.conf', (text) => `ssl_protocols TLSv1.2;\n  ${text}`),
    ),
    says: [['ssl_protocols TLSv1.2', /ssl_protocols may silently not count here.*ssl\/ssl\.conf/]],
  },
  'query strings in a log': {
    files: inHttp(`log_format mine '$remote_addr'\n  "$request_uri";\naccess_log logs/mine.log mine;`),
    says: [['log_format mine', /log_format mine writes \$request_uri into the log/]],
  },
  'the credential in a log, by way of a map of ours': {
    files: inHttp(`log_format mine '$remote_addr \${credential}';`),
    says: [['log_format mine', /writes \$credential into the log/]],
  },
  'a log in the format combined': {
    files: inServer('  access_log logs/mine.log;\n  location = /x { access_log logs/other.log combined; deny all; }'),
    says: [
      ['logs/mine.log', /writes \$request into the log/],
      ['logs/other.log', /writes \$request into the log/],
    ],
  },
  'names of headers that some take for ours': {
    files: inServer('  underscores_in_headers ON;\n  ignore_invalid_headers off;'),
    says: [
      ['underscores_in_headers', /X_Client_Id/],
      ['ignore_invalid_headers', /X\.Client\.Id/],
    ],
  },
  // ways past these rules
  'a rewrite of the server that leads where nobody is asked': {
    files: inServer(
      [
        '  if ($http_x_debug) { rewrite ^(.*)$ /open$1 last; }',
        '  if ($arg_y) {\n    rewrite ^ /ping?y=1;\n  }',
        '  rewrite ^/to/(.*)$ /open/$1 last;',
        '  location /open/ {   # public\n    auth_request off;\n    proxy_pass http://application;\n  }',
        '  location = /ping { auth_request off; proxy_pass http://application/ping; }',
      ].join('\n'),
    ),
    says: [
      ['if ($http_x_debug)', /leads into "location \/open\/" before anybody is asked/],
      ['rewrite ^ /ping', /leads into "location = \/ping"/],
      ['rewrite ^/to/', /leads into "location \/open\/"/],
    ],
  },
  'a header from which everybody may take an address': {
    files: inHttp(
      'set_real_ip_from 0.0.0.0/0;\nset_real_ip_from ::/0;\nset_real_ip_from 128.0.0.0/1;\nreal_ip_header X-Forwarded-For;',
    ),
    says: [
      ['0.0.0.0/0', /has every client say by a header which address it has/],
      ['::/0', /which address it has/],
      ['128.0.0.0/1', /which address it has/],
    ],
  },
  'a question about another credential, and another address': {
    files: inServer(
      question(
        'include snippets/decision.conf;\n    proxy_set_header authorization $cookie_key;\n    proxy_set_header X-Client-Address $http_x_real_ip;',
      ),
    ),
    says: [
      ['$cookie_key', /decide on something else than the client's Authorization/],
      ['$http_x_real_ip', /another address for the client's/],
    ],
  },
  'a credential that is written out, without showing it': {
    files: inServer(question('include snippets/decision.conf;\n    proxy_set_header Authorization "apk 1.Abc123";')),
    says: [
      ['"apk 1.Abc123"', /"proxy_set_header Authorization apk \[redacted\]" has the gateway decide on something else/],
    ],
  },
  'a cache that all clients share': {
    files: {
      ...inServer(
        '  location /up/ {\n    proxy_cache kept;\n    proxy_cache_key $request_uri;\n    proxy_pass http://${if_granted}application;\n  }',
      ),
      'conf.d/cache.conf': 'proxy_cache_path OPERATOR/kept keys_zone=kept:1m;\n',
    },
    says: [['proxy_cache kept', /what was for another.*proxy_cache_key \$auth_client_id/]],
  },
  'a tunnel': {
    files: inLocation('    proxy_set_header Upgrade $http_upgrade;'),
    says: [['$http_upgrade', /h2c.*\$forwarded_upgrade/]],
  },
  'variables of ours that a regular expression captures': {
    files: {
      server:
        '  location ~ "^/u/(?<auth_client_id>[a-z]+)$" { proxy_pass http://${if_granted}application; }\n  if ($uri ~ "^/i/(?P<if_granted>.*)") { set $x y; }\n  rewrite "^/r/(?\'credential\'.*)$" /r last;',
      'conf.d/more.conf':
        'map $http_x $y {\n  default "";\n  "~(?<auth_decision>granted)" y;\n}\nserver {\n  listen 18081;\n  server_name "~^(?<oidc_audience>.+)$";\n  return 404;\n}\n',
    },
    says: [
      ['location ~ "^/u/', /gives \$auth_client_id another value/],
      ['if ($uri', /gives \$if_granted another value/],
      ['rewrite "^/r/', /gives \$credential another value/],
      ['auth_decision', /gives \$auth_decision another value/, 'conf.d/more.conf'],
      ['oidc_audience', /gives \$oidc_audience another value/, 'conf.d/more.conf'],
    ],
  },
  'files for some addresses, which drops the deny of around it': {
    files: inServer(
      '  deny all;\n  location /files/ {\n    auth_request off;\n    root /srv;\n    allow 10.0.0.1;\n  }',
    ),
    says: [['location /files/', /hands out files/]],
  },
  'an identity that the gateway has not said': {
    files: inLocation('    proxy_set_header X-Client-Id root;'),
    says: [['X-Client-Id root', /something else for an identity/]],
  },
  'a marker that is not in front': {
    files: inServer(
      '  location /a/ { proxy_pass http://application${if_granted}; }\n  location /b/ {\n    set $backend application$if_granted;\n    proxy_pass http://$backend;\n  }\n  location /c/ { proxy_pass http://application/$if_granted; }',
    ),
    says: [
      ['location /a/', /before the name/],
      ['proxy_pass http://$backend', /before the name/],
      ['location /c/', /before the name/],
    ],
  },
  'headers in error.log': {
    files: inServer('  error_log logs/debug.log debug;'),
    says: [['error_log', /writes every header into the log/]],
  },
  'bodies in a log': {
    files: inHttp('log_format bodies $request_body;'),
    says: [['log_format bodies', /\$request_body/]],
  },
  'credentials in clear': {
    files: behind(
      'server {\n  listen 18081;\n  server_name clear.example.com;\n  include snippets/gateway.conf;\n}\nserver { include snippets/gateway.conf; }'.replace(
        'server { include',
        'server { server_name none.example.com; include',
      ),
    ),
    says: [
      ['listen 18081', /credentials come in clear here.*"# in clear"/],
      ['server { server_name none', /listens for plain HTTP: credentials/],
    ],
  },
  'snippets that are not ours': {
    files: {
      server: question('include snippets/decision.conf;').replace(
        'include snippets/strict-paths.conf;',
        'include conf.d/snippets/strict-paths.conf;',
      ),
      'conf.d/snippets/strict-paths.conf': 'set $auth_client_id root;\n',
    },
    says: [
      ['set $auth_client_id', /another value/, 'conf.d/snippets/strict-paths.conf'],
      ['auth_request /_apigw/decision/own', /does not include snippets\/strict-paths\.conf/],
    ],
  },
  // an internal location that asks nobody, and what leads there
  'an internal location that asks nobody, with a path that the client chooses': {
    files: inServer(
      [
        '  rewrite ^/x$ /int/a last;',
        '  location = /int/a { internal; auth_request off; proxy_pass http://application/$arg_p; }',
        '  location = /status { auth_request off; mirror /int/b; proxy_pass http://application/status; }',
        '  location = /int/b { internal; auth_request off; proxy_pass http://application$request_uri; }',
      ].join('\n'),
    ),
    says: [
      ['location = /int/a', /hands on \$arg_p, which the client chooses/],
      ['location = /int/b', /hands on \$request_uri/],
    ],
  },
  'an error_page, for what is said before the question, to an internal location that asks nobody': {
    files: inServer(
      [
        '  location = /int { internal; auth_request off; proxy_pass http://application/int; }',
        '  location /a/ {\n    error_page 418 = /int;\n    if ($arg_debug) { return 418; }\n    proxy_pass http://${if_granted}application;\n  }',
        '  location /b/ { error_page 413 /int; proxy_pass http://${if_granted}application; }',
        '  location /c/ { set $status_page /int; error_page 404 $status_page; proxy_pass http://${if_granted}application; }',
      ].join('\n'),
    ),
    says: [
      ['error_page 418', /leads to "location = \/int", which goes to an application and asks nobody.*\$\{if_granted\}/],
      ['location /b/', /before anybody is asked/],
      ['location /c/', /error_page \$status_page leads to "location = \/int"/],
    ],
  },
  'a refusal that a variable leads to an application': {
    files: inServer(
      [
        '  location = /int { internal; auth_request off; proxy_pass http://application/int; }',
        '  location @app {   # public\n    auth_request off;\n    proxy_pass http://application;\n  }',
        '  set $refusal_page /int;',
        '  location /a/ { error_page 401 = $refusal_page; proxy_pass http://${if_granted}application; }',
        '  location /b/ { set $refusal_name app; error_page 403 @$refusal_name; proxy_pass http://${if_granted}application; }',
        '  location /c/ { if ($arg_x) { error_page 418 = @app; return 418; } proxy_pass http://${if_granted}application; }',
      ].join('\n'),
    ),
    says: [
      ['location /a/', /error_page \$refusal_page leads to "location = \/int"/],
      ['location /b/', /leads to "location @app"/],
      ['location /c/', /leads to "location @app"/],
    ],
  },
  'targets that the client chooses': {
    files: inServer(
      [
        '  location /int/ { internal; auth_request off; alias /srv/int/; }',
        '  location = /track { internal; auth_request off; proxy_pass http://application/track; }',
        '  error_page 404 $arg_page;',
        '  rewrite ^/v1/(.*)$ /$1 last;',
        '  location /p/ {   # public\n    auth_request off;\n    root /srv;\n    try_files $uri /int$uri;\n  }',
      ].join('\n'),
    ),
    says: [
      ['error_page 404', /leads where the client says, into "location \/int\/" too/],
      ['error_page 404', /into "location = \/track" too/],
      ['rewrite ^/v1/', /leads into "location \/int\/"/],
      ['rewrite ^/v1/', /leads into "location = \/track"/],
      ['try_files', /into "location \/int\/" too/],
    ],
  },
  'what a refusal or a copy comes to by way of another location, or of a regular expression': {
    files: inServer(
      [
        '  location = /hop/a { internal; auth_request off; try_files /none @raw; }',
        '  location @raw {   # public\n    auth_request off;\n    proxy_pass http://application$request_uri;\n  }',
        '  location ~* ^/int/.*\\.(php|cgi)$ {   # public\n    auth_request off;\n    proxy_pass http://application;\n  }',
        '  location = /hop/b { internal; auth_request off; root /dev/null; try_files /none /docs/x; }',
        '  location /docs/ { root /srv; }',
        '  location /a/ { error_page 401 /hop/a; proxy_pass http://${if_granted}application; }',
        '  location /b/ { error_page 403 = /int/x.PHP; proxy_pass http://${if_granted}application; }',
        '  location = /c { auth_request off; root /srv; mirror /hop/b; }',
        '  location = /d { auth_request off; root /srv; if ($arg_x) { ssi on; } }',
      ].join('\n'),
    ),
    says: [
      ['location /a/', /leads to "location @raw"/],
      ['location /b/', /leads to "location ~\* \^\/int\//],
      ['location = /c', /"mirror \/hop\/b" counts in/],
      ['location = /d', /"ssi on" counts in "if \(\$arg_x\)"/],
    ],
  },
  'a rewrite of the server that ends with break, and one by a variable': {
    files: inServer(
      '  rewrite ^/to/(.*)$ /open/$1 break;\n  set $old_path /open;\n  rewrite ^/old/ $old_path/x last;\n  location /open/ {   # public\n    auth_request off;\n    proxy_pass http://application;\n  }',
    ),
    says: [
      ['rewrite ^/to/', /leads into "location \/open\/"/],
      ['rewrite ^/old/', /leads into "location \/open\/"/],
    ],
  },
  'a post_action that nobody is asked about': {
    files: inServer(
      '  post_action /track;\n  location = /track { internal; auth_request off; proxy_pass http://application/track; }',
    ),
    says: [['post_action', /goes to "location = \/track" after every request, one that was refused too/]],
  },
  'what the client chooses in an exempt place by something else than proxy_pass': {
    files: inServer(
      [
        'rewrite ^ /$arg_path break; proxy_pass http://application/x;',
        'if ($arg_x) { rewrite ^ /$ARG_path break; } proxy_pass http://application$uri;',
        'if ($arg_x ~ (.*)) { proxy_pass http://application/x$1y; }',
        'alias /srv/$arg_name;',
        'root /srv; try_files /$cookie_name /$1 =404;',
        'root /srv/$ssl_server_name;',
        'fastcgi_pass_request_headers off; fastcgi_param SCRIPT_FILENAME /srv/$arg_name; fastcgi_ignore_headers X-Accel-Redirect; fastcgi_pass 127.0.0.1:9;',
        'set $memcached_key $arg_key; memcached_pass 127.0.0.1:9;',
        'proxy_pass $scheme://application;',
      ]
        .map((lines, n) => `  location = /${n} { auth_request off; ${lines} }`)
        .concat(
          '  location /files/ {   # public\n    auth_request off;\n    alias /srv/pub/$arg_name;\n    index $arg_index;\n  }',
        )
        .concat('  if ($arg_x ~ "(?<from_arg>.*)") { set $seen 1; }')
        .concat('  location /more/ {   # public\n    auth_request off; alias /srv/$from_arg;\n  }')
        .join('\n'),
    ),
    says: [
      [
        'location = /0',
        /"rewrite \^ \/\$arg_path break" counts where nobody is asked, and \$arg_path, which the client/,
      ],
      ['location = /1', /\$arg_path/],
      ['location = /2', /hands on \$1/],
      ['location = /3', /\$arg_name, which the client chooses, decides which path or file/],
      ['location = /4', /\$cookie_name/],
      ['location = /5', /\$ssl_server_name/],
      ['location = /6', /\$arg_name/],
      ['location = /7', /\$memcached_key/],
      ['location = /8', /as the client wrote it/],
      ['alias /srv/pub/', /\$arg_name/],
      ['index $arg_index', /\$arg_index/],
      ['alias /srv/$from_arg', /\$from_arg/],
    ],
  },
  'a public server that does not empty the identity, whatever the application is called': {
    files: behind(
      'server {   # public\n  listen 18081;\n  location /a/ { proxy_pass http://127.0.0.1:9; }\n  location /b/ { proxy_pass http://APPLICATION; }\n  location /c/ { set $app application; proxy_pass http://$app; }\n  location /d/ { fastcgi_pass 127.0.0.1:9; }\n}',
    ),
    says: ['a', 'b', 'c', 'd'].map(
      (path) => [`location /${path}/ {`, /gets X-Client-Id.*as the client wrote/] as const,
    ),
  },
  'variables of nginx that the snippets read': {
    files: {
      server:
        '  set $upstream_http_x_client_id $http_x_foo;\n  set $AUTH_client_name root;\n  location ~ "^/u/(?<http_upgrade>.*)$" { proxy_pass http://${if_granted}application; }',
      'conf.d/more.conf':
        'map "" $http_authorization {\n  default "apk $cookie_key";\n}\nmap $auth_decision $if_granted {\n  default "";\n}\n',
    },
    says: [
      ['set $upstream_http_x_client_id', /gives \$upstream_http_x_client_id another value/],
      ['set $AUTH_client_name', /gives \$auth_client_name another value/],
      ['location ~ "^/u/', /gives \$http_upgrade another value/],
      ['map "" $http_authorization', /gives \$http_authorization another value/, 'conf.d/more.conf'],
      ['map $auth_decision', /gives \$if_granted another value/, 'conf.d/more.conf'],
    ],
  },
  'answers that are put together past the question': {
    files: inServer(
      [
        '  location = /a { auth_request off; root /srv; add_after_body /docs/x.txt; }',
        '  location = /b { auth_request off; root /srv; ssi on; }',
        '  location = /c { auth_request off; root /srv; mirror /docs/run; }',
        '  location /docs/ { alias /srv/; }',
      ].join('\n'),
    ),
    says: [
      ['location = /a', /"add_after_body \/docs\/x.txt" counts in "location = \/a".*fetched without its question/],
      ['location = /b', /"ssi on" counts in "location = \/b"/],
      ['location = /c', /"mirror \/docs\/run" counts in/],
    ],
  },
  'an answer with what is behind a stricter question in it': {
    files: inServer(
      `${question('include snippets/decision.conf;')}  location /a/ { root /srv; add_before_body /own; }\n  location = /b { ssi on; root /srv; }`,
    ),
    says: [
      ['location /a/', /"add_before_body \/own" counts in "location \/a\/"/],
      ['location = /b', /"ssi on" counts in/],
    ],
  },
  'a question in whose place something else answers': {
    files: inServer(
      question(
        'include snippets/decision.conf;\n    proxy_intercept_errors on;\n    error_page 401 403 =204 /none;\n    if ($arg_x) {\n      return 204;\n    }',
      ),
    ),
    says: [
      ['error_page 401', /counts in "location = \/_apigw\/decision\/own", which answers auth_request.*can let in/],
      ['return 204', /stands in "location = \/_apigw\/decision\/own", which answers auth_request/],
    ],
  },
  'a refusal that is answered with success': {
    files: inServer('  error_page 401 =200 /login.html;\n  location = /login.html { auth_request off; root /srv; }'),
    says: [['error_page 401', /answers whoever was refused with =200/]],
  },
  'the gateway, asked by anybody': {
    files: inServer(
      '  location = /a { auth_request off; proxy_pass http://gateway/decision; }\n  location = /b { proxy_pass http://${if_granted}GATEWAY; }',
    ),
    says: [
      ['location = /a', /lets a client ask the gateway itself/],
      ['location = /b', /lets a client ask the gateway itself/],
    ],
  },
  'parts of secrets in a log': {
    files: {
      server:
        '  if ($http_cookie ~ "sid=(.*)") { set $session $1; }\n  if ($args ~ "key=(?<key_shown>.*)") { set $x_key 1; }\n  rewrite_log on;\n  error_log logs/mine.log notice;',
      'conf.d/more.conf': [
        'map $http_authorization $part { "~*^apk (.*)$" $1; }',
        'map $request_uri $whole { "~(?<all_of_it>.*)" $all_of_it; }',
        'log_format a $part;\nlog_format b $whole;\nlog_format c $session;\nlog_format d $key_shown;',
      ].join('\n'),
    },
    says: [
      ['log_format a', /writes \$part into/, 'conf.d/more.conf'],
      ['log_format b', /writes \$whole into/, 'conf.d/more.conf'],
      ['log_format c', /writes \$session into/, 'conf.d/more.conf'],
      ['log_format d', /writes \$key_shown into/, 'conf.d/more.conf'],
      ['rewrite_log on', /query strings into the log.*"warn" in place of "notice"/],
    ],
  },
  'markers that not every value has': {
    files: {
      server:
        '  location /a/ { proxy_pass http://${prefix}application; }\n  location /b/ { proxy_pass http://$by_marker; }',
      'conf.d/more.conf':
        'map $host $prefix { a "${if_granted}applica"; }\nmap $if_granted $by_marker { default application; }\n',
    },
    says: [
      ['location /a/', /before the name/],
      ['location /b/', /before the name/],
    ],
  },
  // what check.sh has warned of before
  'a policy of some paths without strict paths': {
    files: inServer(question('include snippets/decision.conf;').replace('include snippets/strict-paths.conf;', '')),
    says: [['auth_request /_apigw/decision/own', /does not include snippets\/strict-paths\.conf/]],
  },
};

/** What nobody may be bothered with. */
const silent: Readonly<Record<string, Files>> = {
  'an exact path that is exempt': inServer(
    '  location = /status { auth_request off; proxy_pass http://application/status; include snippets/proxy.conf; }\n  location = /s2 {   # public\n    auth_request off;\n    set $backend application;\n    proxy_pass http://$backend$uri$is_args$args;\n  }\n  location = /s3 { auth_request off; rewrite ^ /status break; proxy_pass http://application; }\n  location = /s4 { auth_request off; proxy_pass http://unix:/run/app.sock:/status; include snippets/proxy.conf; }',
  ),
  'an exact path without a space': inServer(
    '  location =/status{auth_request off;proxy_pass http://application/status;}location ^~/more {proxy_pass http://$if_granted/application;}'.replace(
      '$if_granted/',
      '${if_granted}',
    ),
  ),
  'a prefix that is declared': inServer(
    '  location /assets/ { #public: pictures\n    auth_request off;\n    proxy_pass http://application;\n  }',
  ),
  'files of a location that is declared, and files that are asked for': inServer(
    '  location /assets/ {   # public\n    auth_request off;\n    root /srv;\n  }\n  location /docs/ {   # protected\n    root /srv;\n    try_files $uri $uri/ =404;\n  }',
  ),
  'another server, of another application, that is declared': behind(
    'server {   # public: a site\n  listen 18081;\n  root /srv/site;\n  location / { try_files $uri =404; }\n  location /app/ { proxy_pass http://127.0.0.1:9; include snippets/proxy.conf; }\n}',
  ),
  'servers that redirect or refuse': behind(
    'server { listen 18081 default_server; return 444; }\nserver { listen 18081; server_name old.example.com; return 301 https://new.example.com$request_uri; }',
  ),
  'refusals before the question': inServer(
    '  if ($request_method = TRACE) { return 405; }\n  location ~ /\\.git { return 404; }\n  location = /gone { return 410 "gone\\n"; }\n  location /no/ { deny all; }',
  ),
  'a redirect that is declared, and one of a preflight': inServer(
    '  location = /old {   # public\n    return 301 /new;\n  }\n  location /api/ {   # protected\n    if ($request_method = OPTIONS) {   # public\n      return 204;\n    }\n    proxy_pass http://${if_granted}application;\n  }',
  ),
  'a rewrite that stays, and one of the server': inServer(
    '  rewrite ^/index$ / last;\n  location /cut/ {\n    rewrite ^/cut/(.*)$ /$1 break;\n    proxy_pass http://${if_granted}application;\n  }',
  ),
  'headers beside the include': inLocation(
    '    proxy_set_header X-Tenant blue;\n    proxy_set_header X-Who $auth_client_id;\n    proxy_ignore_headers Expires;\n    add_header X-Mine yes;',
  ),
  'no headers of the client at all': inServer(
    '  location /api/ {\n    proxy_pass http://${if_granted}application;\n    proxy_pass_request_headers off;\n    proxy_set_header X-Tenant blue;\n    proxy_ignore_headers X-Accel-Redirect Expires;\n  }',
  ),
  'an auth_request_set of the server': inServer('  auth_request_set $tenant $upstream_http_x_tenant;'),
  'FastCGI with the identity': inServer(
    '  location ~ \\.php$ {\n    fastcgi_pass 127.0.0.1:9;\n    fastcgi_param HTTP_X_CLIENT_ID $auth_client_id;\n    fastcgi_param HTTP_X_CLIENT_NAME $auth_client_name;\n    fastcgi_param HTTP_X_AUTH_METHOD $auth_method;\n    fastcgi_param HTTP_AUTHORIZATION $application_authorization;\n    fastcgi_ignore_headers X-Accel-Redirect;\n  }',
  ),
  'a page for an application that is away, by another that asks': inServer(
    '  location /api/ {\n    proxy_pass http://${if_granted}application;\n    error_page 502 504 = @other;\n  }\n  location @other {\n    proxy_pass http://${if_granted}application;\n  }',
  ),
  'error pages in files': inServer(
    '  error_page 404 /404.html;\n  error_page 500 502 503 504 /50x.html;\n  location = /50x.html {   # public\n    auth_request off;\n    root /srv;\n  }',
  ),
  'a nested location': inServer(
    '  location /a/ {\n    proxy_pass http://${if_granted}application;\n    location /a/b/ {\n      proxy_pass http://${if_granted}application;\n      client_max_body_size 1g;\n    }\n  }',
  ),
  'a mirror': inServer(
    '  location /api/ {\n    mirror /_mirror;\n    proxy_pass http://${if_granted}application;\n  }\n  location = /_mirror {\n    internal;\n    proxy_pass http://${if_granted}application$request_uri;\n  }',
  ),
  'a certificate for a server, and a server that refuses handshakes': behind(
    'server {\n  listen 18443 ssl;\n  server_name other.example.com;\n  ssl_certificate ssl/nginx.crt;\n  ssl_certificate_key ssl/nginx.key;\n  include snippets/gateway.conf;\n}\nserver { listen 18445 ssl; ssl_reject_handshake on; }'.replaceAll(
      '18443',
      '18444',
    ),
  ),
  'TLS settings at http level': { 'ssl/ssl.conf': `${sslConf}\nssl_buffer_size 8k;\n` },
  'a log without secrets, and one with what a map makes of them': inHttp(
    `map $arg_kind $kind { default other; a "a;}"; }\nlog_format mine escape=json '{"path":"$request_path","method":"$logged_method",' '"kind":"$kind","status":$status,"referer":"$http_referer"}';\naccess_log logs/mine.log mine buffer=32k flush=1m;\naccess_log off;`.replace(
      '\naccess_log off;',
      '',
    ),
  ),
  'satisfy any where nobody is asked': behind(
    'server {   # public\n  listen 18081;\n  satisfy any;\n  allow 10.0.0.0/8;\n  deny all;\n  location / { proxy_pass http://127.0.0.1:9; include snippets/proxy.conf; }\n}',
  ),
  'comments, strings and braces that look like mistakes': inServer(
    `  # location /open/ { auth_request off; proxy_pass http://application; }\n  location /x/ {   # protected; "return 200;"\n    set $text 'satisfy any; } underscores_in_headers on; # {';\n    set $more "a \\"quoted\\" {word}; return 200;";\n    proxy_pass http://\${if_granted}application;\n  }\n  location ~ "^/y/[a-f0-9]{32}\\.{2}$" { proxy_pass http://\${if_granted}application; }`,
  ),
  'a rewrite of one path, of what is declared, and of what asks': inServer(
    '  rewrite ^/favicon\\.ico$ /assets/favicon.ico last;\n  rewrite ^/alive$ /livez last;\n  rewrite ^/v1/(.*)$ /v2/$1 last;\n  if ($arg_out) {   # public: a page\n    rewrite ^ /assets/out.html last;\n  }\n  location /assets/ {   # public\n    auth_request off;\n    root /srv;\n  }',
  ),
  'a server in clear that says so, and one of this machine': behind(
    'server {   # in clear: within a tunnel\n  listen 18081;\n  server_name clear.example.com;\n  include snippets/gateway.conf;\n}\nserver {\n  listen 127.0.0.1:18082;\n  listen [::1]:18082;\n  listen unix:/run/apigw-test.sock;\n  server_name clear.example.com;\n  include snippets/gateway.conf;\n}'.replace(
      '  listen unix:/run/apigw-test.sock;\n',
      '',
    ),
  ),
  'proxies with an address, captures of others, a marker by way of a map': {
    server:
      '  location ~ "^/t/(?<tenant>[a-z]+)$" { proxy_pass http://${if_granted}application; }\n  location /m/ { proxy_pass http://$chosen; }',
    'conf.d/more.conf':
      'set_real_ip_from 10.0.0.0/8;\nset_real_ip_from fc00::/7;\nset_real_ip_from 10.0.0.2;\nset_real_ip_from unix:;\nmap $host $chosen {\n  default ${if_granted}application;\n}\nerror_log logs/mine.log info;\n',
  },
  'names that are spelt like ours': inServer('  location /return/200 { proxy_pass http://${if_granted}application; }'),
  'a larger upload, a longer answer, a cache of the application': {
    ...inServer(
      '  location /up/ {\n    client_max_body_size 5g;\n    proxy_read_timeout 1h;\n    proxy_cache kept;\n    proxy_cache_key "$auth_client_id $request_uri";\n    proxy_pass http://${if_granted}application;\n    include snippets/proxy.conf;\n  }',
    ),
    'conf.d/cache.conf': 'proxy_cache_path OPERATOR/kept keys_zone=kept:1m;\n',
  },
  'internal locations for files, and for pages': inServer(
    [
      '  location /files/ { internal; alias /srv/files/; }',
      '  location /kept/ { internal; auth_request off; alias /srv/kept/; }',
      '  error_page 404 /errors/$status.html;\n  location /errors/ { internal; auth_request off; root /srv; }',
      '  location = /maintenance { internal; auth_request off; proxy_pass http://application/maintenance; }',
      '  location /a/ { error_page 502 504 /maintenance; proxy_pass http://${if_granted}application; }',
      '  location = /large {   # public: the page about what is too large\n    internal;\n    auth_request off;\n    proxy_pass http://application/large;\n  }',
      '  location /b/ { error_page 413 /large; proxy_pass http://${if_granted}application; }',
      '  location = /copy { internal; auth_request off; proxy_pass http://${if_granted}application$request_uri; }',
      '  location /c/ { mirror /copy; post_action /copy; proxy_pass $scheme://${if_granted}application; }',
    ].join('\n'),
  ),
  'files that no client chooses, and answers of several parts': inServer(
    [
      '  location /app/ {   # public\n    auth_request off;\n    root /srv;\n    try_files $uri $uri/ /app/index.html?$args;\n  }',
      '  location = /favicon.ico { auth_request off; root /srv/$host; try_files /favicon.ico =404; }',
      '  location ~ ^/st/(.*)$ {   # public\n    auth_request off;\n    alias /srv/$1;\n  }',
      '  location /w/ { root /srv; ssi on; add_after_body /w/foot.html; }',
      '  location = /old { auth_request off; rewrite ^ /login last; proxy_pass http://application/old; }',
      '  proxy_intercept_errors on;\n  rewrite_log on;\n  error_log logs/mine.log warn;',
    ].join('\n'),
  ),
  'variables of an operator, and markers by way of maps': {
    server:
      '  set $http_x_mine 1;\n  location /a/ { proxy_pass http://$one; }\n  location /b/ { proxy_pass http://$two; }\n  location /c/ { set $three ${if_granted}application; proxy_pass http://$three$request_uri; }',
    'conf.d/more.conf': [
      'map $http_x_tenant $tenant_part { default none; "~^([a-z]+)$" $1; }',
      'map $upstream_http_x_kind $arg_kind { default 1; }',
      'log_format mine "$tenant_part $upstream_http_x_cache $claimed_client";',
      'map "$if_granted$host" $one { default ""; a.example.com application; }',
      'map $if_granted $two { "" application; default not-granted.invalid; }',
    ].join('\n'),
  },
  'pages by language, sites by name, pictures of an application, and a hook': {
    server: [
      '  location = /start { auth_request off; root /srv; try_files /start.$lang.html =404; }',
      '  error_page 404 /e/$lang/404.html;\n  location /e/ { internal; auth_request off; root /srv; }',
      '  error_page 497 https://$http_host$request_uri;',
      '  location /img/ {   # public\n    auth_request off;\n    root $root_of;\n    try_files $uri /img/none.png;\n  }',
      '  location /pics/ {   # public\n    auth_request off;\n    proxy_pass http://application;\n    error_page 404 = /pics/none.png;\n  }',
      '  location = /hook { auth_request off; limit_except POST { deny all; } proxy_pass http://application/hook$is_args$args; }',
      '  if ($host ~ ^(a|b)) { set $backend_of_host "${if_granted}$1"; }',
      '  location /m/ { proxy_pass http://$backend_of_host; }\n  location /n/ { proxy_pass http://$backend_of_map; }',
    ].join('\n'),
    'conf.d/more.conf': [
      'map $http_accept_language $lang { default en; ~^de de; }',
      'map $host $root_of { hostnames; default /srv/a; *.b.example /srv/b; }',
      'map $host $backend_of_map { default ""; "~^(a|b)" "${if_granted}$1"; }',
    ].join('\n'),
  },
  'the port for metrics': { 'conf.d/metrics.conf': readFileSync(join(root, 'monitoring/metrics.conf'), 'utf8') },
  'Windows line ends': conf(shipped.replaceAll('\n', '\r\n')),
  'every example of default.conf': conf(
    examples.replace(' include snippets/decision-cache.conf;', ' # has no room here'),
  ),
  ...Object.fromEntries(
    ['nginx', 'protect', 'tls'].map((page) => [`the examples of docs/${page}.md`, documented(`docs/${page}.md`)]),
  ),
};

function documented(page: string): Files {
  const all = blocks(page, 'nginx');
  assert.ok(all.length > 1);
  const [rewrite = ''] = /rewrite [^`]+;(?=`)/.exec(read(page)) ?? [];
  const text = withBlocks(
    shipped,
    all.filter((block) => !block.startsWith('ssl_')),
  ).replace('location /reports/ {   # protected', (head) => `${head}\n${rewrite}`);
  return {
    'conf.d/default.conf': text.replaceAll('ssl/reports.', 'ssl/nginx.'),
    'ssl/ssl.conf': `${sslConf}\n${all.filter((block) => block.startsWith('ssl_')).join('')}`.replace(
      'ssl/clients.crt',
      'ssl/nginx.crt',
    ),
  };
}

/** Those that are in a server alone, each in one of its own, so that nginx reads them all at once. */
async function readTogether(): Promise<
  (lines: string) => { readonly said: readonly string[]; readonly first: number }
> {
  const all = [...Object.values(mistakes).map(({ files }) => files), ...Object.values(silent)];
  let text = shipped;
  const ranges = new Map<string, { first: number; last: number }>();
  for (const { server, ...others } of all) {
    if (server === undefined || Object.keys(others).length > 0) continue;
    text += `server {\n  listen 127.0.0.1:18081;\n  server_name case${ranges.size}.example.com;\n  include snippets/gateway.conf;\n`;
    const first = text.split('\n').length;
    text += `${server}\n`;
    ranges.set(server, { first, last: text.split('\n').length });
    text +=
      '  location / {\n    proxy_pass http://${if_granted}application;\n    include snippets/proxy.conf;\n  }\n}\n';
  }
  const { text: dumped, place } = await dump(conf(text));
  const lines = (await guard(dumped, '')).split('\n').filter((line) => line !== '');
  const numberOf = (line: string) => {
    assert.ok(line.startsWith(`${place('conf.d/default.conf')}:`), line);
    return Number(/:(\d+): WARNING: /.exec(line)?.[1]);
  };
  const isInside = (line: string) =>
    [...ranges.values()].some(({ first, last }) => numberOf(line) >= first && numberOf(line) <= last);
  for (const line of lines) assert.ok(isInside(line), line);
  return (server) => {
    const { first = 0, last = 0 } = ranges.get(server) ?? {};
    return { first, said: lines.filter((line) => numberOf(line) >= first && numberOf(line) <= last) };
  };
}

suite('the guard of the configuration', () => {
  let together: Awaited<ReturnType<typeof readTogether>>;
  before(async () => {
    together = await readTogether();
  });

  /** What is said about these files, and where a text of one of them begins. */
  async function look(files: Files) {
    const { server, ...others } = files;
    if (server !== undefined && Object.keys(others).length === 0) {
      const { said, first } = together(server);
      const lineNumber = (at: string) => first + lineOf(server, at) - 1;
      return { said, placeOf: (_: string, at: string) => `conf.d/default.conf:${lineNumber(at)}` };
    }
    const { text, place } = await dump(files);
    const said = (await guard(text, '')).split('\n').filter((line) => line !== '');
    const textOf = (file: string) => others[file] ?? addLocations(shipped, server ?? '');
    return { said, placeOf: (file: string, at: string) => `${place(file)}:${lineOf(textOf(file), at)}` };
  }

  for (const [name, { files, says }] of Object.entries(mistakes)) {
    test(`reports ${name}, with its file and line`, async () => {
      const { said, placeOf } = await look(files);
      for (const [at, words, file = 'conf.d/default.conf'] of says) {
        const start = `${placeOf(file, at)}: WARNING: `;
        assert.ok(
          said.some((line) => line.includes(start) && words.test(line)),
          `${start}${words.source}\n${said.join('\n')}`,
        );
      }
      assert.equal(said.length, says.length, said.join('\n'));
    });
  }

  for (const [name, files] of Object.entries(silent)) {
    test(`has nothing to say about ${name}`, async () => {
      assert.deepEqual((await look(files)).said, []);
    });
  }

  const several = ['FastCGI, uwsgi, SCGI, gRPC and memcached', 'quoted words', 'a file that an operator includes'];
  several.push('variables of ours that a regular expression captures', 'a marker that is not in front');
  several.push('targets that the client chooses', 'parts of secrets in a log');
  several.push('a credential that is written out, without showing it');
  several.push('what the client chooses in an exempt place by something else than proxy_pass');
  several.push('the credential in a log, by way of a map of ours');
  let dumps: Promise<readonly { readonly text: string; readonly said: string }[]> | undefined;
  /** What is said of several mistakes by the awk that is there. */
  const readSeveral = () =>
    (dumps ??= Promise.all(
      several.map(async (name) => {
        const { text } = await dump(mistakes[name]?.files ?? {});
        return { text, said: await guard(text, '') };
      }),
    ));
  for (const awk of ['mawk', 'gawk', 'busybox awk', 'original-awk']) {
    test(`says the same with ${awk}`, { skip: !isThere(awk) }, async () => {
      for (const { text, said } of await readSeveral()) {
        assert.notEqual(said, '');
        assert.equal(await guard(text, '', awk), said);
      }
    });
  }

  test('reads a comment that looks like what nginx -T prints, and says what it then cannot see', async () => {
    const { text } = await dump(
      conf(`${shipped}\n# configuration file /etc/nginx/x.conf:\nserver { listen 18081; }\n`),
    );
    assert.match(
      await guard(text, ''),
      /^\/etc\/nginx\/x\.conf:1: WARNING: this file is read in a way that is not followed/,
    );
    const read = /^# configuration file (.*snippets\/proxy\.conf):$/m.exec(text)?.[1] ?? '';
    const twice = await dump(conf(`${shipped}\n# configuration file ${read}:\nserver { listen 18081; }\n`));
    assert.match(
      await guard(twice.text.replaceAll(twice.place(''), read.replace('snippets/proxy.conf', '')), ''),
      /snippets\/proxy\.conf:1: WARNING: this file is read in a way that is not followed/,
    );
    assert.match(await guard('server { }\n', ''), /^this is not what nginx -T prints$/m);
  });

  test('reads a stream, which no gateway is asked about', async () => {
    const { text, place } = await dump({});
    const stream = (lines: string) =>
      guard(
        text.replace('\nhttp {', () => `\nstream {\n  ${lines}\n}\nhttp {`),
        '',
      );
    const open = 'server { listen 18099;\n proxy_pass application; }';
    const line = lineOf(readFileSync(join(root, 'nginx/nginx.conf'), 'utf8'), '\nhttp {') + 3;
    assert.match(
      await stream(open),
      new RegExp(`^${place('nginx.conf')}:${line}: WARNING: "proxy_pass application" hands on connections.*\n$`),
    );
    assert.equal(await stream(open.replace('{', '{ # public\n')), '');
  });

  test('finds in every example a way past the gateway, once somebody has made one', async () => {
    const open = examples.replaceAll(/^ *auth_request \/.*$/gm, '    auth_request off;');
    const { text } = await dump(conf(open.replace(' include snippets/decision-cache.conf;', '')));
    const said = await guard(text, '');
    for (const path of ['admin', 'partner', 'orders', 'billing'])
      assert.match(said, new RegExp(`"location ~\\* \\^/${path}.*nobody is asked`));
  });

  test('reads fifty servers in a moment', async (t) => {
    const server = (n: number) =>
      `server { listen 127.0.0.1:18082; server_name s${n}.example.com; include snippets/gateway.conf;\n` +
      '  location / { proxy_pass http://${if_granted}application; include snippets/proxy.conf; } }\n';
    const { text } = await dump(behind(Array.from({ length: 50 }, (_, n) => server(n)).join('')));
    const startedAt = performance.now();
    assert.equal(await guard(text, 'true'), '');
    const duration = performance.now() - startedAt;
    t.diagnostic(`50 servers: ${Math.round(duration)} ms`);
    assert.ok(duration < 15_000, `${duration} ms`);
  });
});

const open = '  location /open/ {\n    auth_request off;\n    proxy_pass http://application;\n  }';
const openLine = lineOf(addLocations(shipped, open), 'location /open/');
const nobodyIsAsked = new RegExp(`nginx/conf\\.d/default\\.conf:${openLine}: (?:WARNING: )?"location /open/" goes to`);

/** An operator's directory, whose default.conf can be edited. */
function makeOperator(): { readonly dir: string; readonly write: (text: string) => void } {
  const dir = makeTempDir();
  mkdirSync(join(dir, 'nginx/conf.d'), { recursive: true });
  const write = (text: string) => {
    writeFileSync(join(dir, 'nginx/conf.d/default.conf'), text);
  };
  return { dir, write };
}

suite('a start and a reload', () => {
  test('go on with a warning that names the file, and the hole is the one that it says', async () => {
    const stack = await startTestStack({ edit: (text) => addLocations(text, open) });
    try {
      // a form has lines of its own in the file
      assert.match(stack.output(), form === undefined ? nobodyIsAsked : /"location \/open\/" goes to/);
      assert.match(stack.output(), /: WARNING: /);
      assert.equal((await stack.ask('/open/x')).status, 200);
      assert.equal((await stack.ask('/')).status, 401);
    } finally {
      await stack.stop();
    }
  });

  test('under APIGW_STRICT=true take every example, and a reload refuses a mistake and keeps what was before', async () => {
    const operator = makeOperator();
    operator.write(examples);
    const env = { APIGW_STRICT: 'true', APIGW_CONFIG_DIR: operator.dir };
    const stack = await startTestStack({ env });
    try {
      assert.doesNotMatch(stack.output(), /WARNING/);
      operator.write(addLocations(examples, open));
      await assert.rejects(stack.stack.reload, ({ message }: Error) => {
        assert.match(message, /default\.conf:\d+: "location \/open\/" goes to an application/);
        assert.doesNotMatch(message, /WARNING/);
        assert.match(message, /The configuration from before stays in use\.$/);
        return true;
      });
      assert.equal((await stack.ask('/open/x')).status, 401);
      operator.write(shipped);
      assert.match(await stack.stack.reload(), /The configuration is in use\./);
    } finally {
      await stack.stop();
    }
  });

  test('under APIGW_STRICT=true are refused with exit code 1, file, line and what to do; so is any other value', async () => {
    const operator = makeOperator();
    operator.write(addLocations(shipped, open));
    const env = { APIGW_STATE_DIR: makeTempDir(), APIGW_CONFIG_DIR: operator.dir, APIGW_STRICT: 'true' };
    const up = await spawnUp(env);
    const [code] = await up.ended;
    assert.equal(code, 1, up.output());
    assert.match(up.output(), nobodyIsAsked);
    assert.doesNotMatch(up.output(), /WARNING/);
    assert.throws(
      () => readLocalSettings({ APIGW_STRICT: 'yes' }, root, false),
      /APIGW_STRICT is "yes", which is not allowed; allowed: true or false\./,
    );
    await assert.rejects(
      run('sh', [join(root, 'nginx/check-config.sh')], { env: { ...settings, APIGW_STRICT: 'yes' } }),
      /APIGW_STRICT is "yes"; allowed: true or false/,
    );
  });
});

const settings = { PATH: process.env['PATH'], APIGW_NGINX: nginx, APIGW_APP_UPSTREAM: '127.0.0.1:9' };

suite('apigw check-config', () => {
  const operator = makeOperator();
  const cli = (args: readonly string[], env: Readonly<Record<string, string>> = {}, input = '') =>
    runCli(['check-config', ...args], { env: { APIGW_CONFIG_DIR: operator.dir, APIGW_NGINX: nginx, ...env }, input });
  before(() => {
    operator.write(addLocations(shipped, open));
  });

  test('warns and ends with 0; --strict and APIGW_STRICT=true end with 1', async () => {
    const warned = await cli([]);
    assert.equal(warned.exitCode, 0, warned.stderr);
    assert.match(warned.stdout, /^nginx +ok +nginx takes the configuration$/m);
    assert.match(warned.stdout, /^nginx +warning +\S*default\.conf:\d+: "location \/open\/" goes to an application/m);
    assert.match(warned.stdout, nobodyIsAsked);
    const refused = await cli([], { APIGW_STRICT: 'true' });
    assert.equal(refused.exitCode, 1);
    assert.match(refused.stdout, /^nginx +wrong +\S*default\.conf:\d+: "location \/open\/"/m);
  });

  test('reads the file of --conf in place of the one that is there', async () => {
    const file = join(makeTempDir(), 'mine.conf');
    writeFileSync(file, shipped.replace('proxy_pass http://${if_granted}application', 'return 200'));
    const { exitCode, stdout } = await cli(['--conf', file, '--strict']);
    assert.equal(exitCode, 1);
    assert.ok(
      stdout.includes(
        `${file}:${lineOf(shipped, 'proxy_pass http://${if_granted}application;\n    include snippets/proxy.conf;\n  }\n\n')}: "return 200"`,
      ),
      stdout,
    );
    assert.doesNotMatch(stdout, /open/);
  });

  test('reads what nginx -T has printed elsewhere', async () => {
    const { text } = await dump({ server: open });
    const saved = join(makeTempDir(), 'dump');
    writeFileSync(saved, text);
    const warned = await cli(['--dump', '-'], {}, text);
    assert.equal(warned.exitCode, 0);
    assert.match(warned.stdout, /^nginx +warning +.*"location \/open\/" goes to an application/m);
    assert.equal((await cli(['--dump', saved, '--strict'])).exitCode, 1);
    assert.match((await cli(['--dump', '-'], {}, 'junk')).stdout, /^nginx +wrong +this is not what nginx -T prints$/m);
  });

  test('leaves nothing behind, as in the container of the proxy', async () => {
    const temp = makeTempDir();
    const shared = () => readdirSync('/dev/shm').filter((name) => name.startsWith('apigw-check.'));
    const before = shared();
    const env = { ...settings, TMPDIR: temp, APIGW_CONFIG_DIR: operator.dir };
    operator.write(examples);
    const { stdout } = await run('sh', [join(root, 'nginx/check-config.sh')], { env });
    assert.doesNotMatch(stdout, /WARNING/);
    assert.deepEqual([readdirSync(temp), shared()], [[], before]);
  });
});
