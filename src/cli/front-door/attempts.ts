import { generateSecret } from '../../auth/api-key.ts';
import { requestBytes, type RequestParts, type SendOptions, type Target } from './raw.ts';
import { persuasiveValue, reservedHeaders, spellings } from './spellings.ts';
import type { Expectation } from './verdict.ts';

/** One request, or what passes for one, and what has to come back. */
export interface Attempt {
  /** The row of the table that it belongs to. */
  readonly check: string;
  /** What is special about it. */
  readonly what: string;
  readonly bytes: string;
  readonly expect?: Expectation;
  readonly options?: SendOptions;
}

/** What an operator says about the application behind the front door. */
export interface Paths {
  /** Further protected paths. */
  readonly protected: readonly string[];
  /** Meant to be public: one path, or all below it when it ends with a slash. */
  readonly open: readonly string[];
}

/** In any place but the header Authorization this may be found and must not be believed. It is well-formed and nobody's. */
export function madeUpKey(): string {
  return `1.${generateSecret('1')}`;
}

/** A path that nobody has. */
export const nowhere = '/apigw-doctor';
const unknownHost = 'apigw-doctor.invalid';

/** Every attempt over HTTP/1 and TLS that needs no credential. None of them can change anything, not even when it is let in. */
export function openAttempts(target: Target, paths: Paths): Attempt[] {
  const key = madeUpKey();
  const attempt = (check: string, what: string, parts: RequestParts, more: Partial<Attempt> = {}): Attempt => ({
    check,
    what,
    bytes: requestBytes(target, parts),
    ...more,
  });
  const protectedPaths = ['/', ...paths.protected].filter((path) => !isOpen(path, paths));
  return [
    ...protectedPaths.flatMap((path) => credentials(path, key, attempt)),
    ...positions(key, attempt),
    ...headers(attempt),
    ...unusualPaths(paths).map((path) =>
      attempt('tricks with the path', path, { path }, { expect: isHealthIn(path) ? 'health' : 'malformed' }),
    ),
    ...usualExceptions
      .filter((path) => !isOpen(path, paths))
      .map((path) => attempt('paths that are often open', path, { path })),
    ...neighbours(['/livez', '/readyz', ...paths.open])
      .filter((path) => !isOpen(path, paths))
      .map((path) => attempt('beside an open path', path, { path }, { expect: 'malformed' })),
    ...internal.map((path) => attempt('internal locations', path, { path }, { expect: 'hidden' })),
    ...management(target, key, attempt),
    ...targets(target, attempt),
    ...methods(protectedPaths, attempt),
    ...upgrades(attempt),
    ...bodies(attempt),
    ...framing(target),
  ];
}

type Make = (check: string, what: string, parts: RequestParts, more?: Partial<Attempt>) => Attempt;

function credentials(path: string, key: string, attempt: Make): Attempt[] {
  const at = path === '/' ? '' : ` at ${path}`;
  const lines: Readonly<Record<string, readonly string[]>> = {
    'no credential': [],
    'a made-up key': [`Authorization: apk ${key}`],
    'a made-up token': [`Authorization: Bearer ${madeUpToken}`],
    junk: ['Authorization: Bearer junk'],
    'an empty key': ['Authorization: apk '],
    'an empty header': ['Authorization:'],
    'Basic admin:admin': ['Authorization: Basic YWRtaW46YWRtaW4='],
    'letters beyond ASCII': ['Authorization: apk \xe9\xff'],
    'two headers': [`Authorization: apk ${key}`, 'Authorization: Bearer junk'],
    'a list in one header': [`Authorization: apk ${key}, Bearer junk`],
  };
  return Object.entries(lines).map(([what, added]) =>
    what === 'no credential'
      ? attempt(what, `GET ${path}`, { path })
      : attempt('bad credentials', `${what}${at}`, { path, lines: added }, { expect: 'malformed' }),
  );
}

/** {"alg":"none"}, {"sub":"1"} and no signature. */
const madeUpToken = `${base64url({ alg: 'none' })}.${base64url({ sub: '1' })}.`;

function base64url(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function positions(key: string, attempt: Make): Attempt[] {
  const basic = Buffer.from(`apk:${key}`).toString('base64');
  const header = (line: string): [string, RequestParts] => [
    `${line.split(/[:=]/, 1)[0] ?? ''} header`,
    { lines: [line] },
  ];
  const places: [string, RequestParts][] = [
    ...['key', 'apk', 'api_key', 'apikey', 'api-key', 'token', 'access_token', 'authorization'].map(
      (name): [string, RequestParts] => [`?${name}=`, { path: `/?${name}=${key}` }],
    ),
    ['?authorization=apk ...', { path: `/?authorization=apk%20${key}` }],
    [
      'cookie',
      { lines: [`Cookie: apk=${key}; api_key=${key}; token=${key}; access_token=${key}; Authorization=${key}`] },
    ],
    header(`X-Api-Key: ${key}`),
    header(`Api-Key: ${key}`),
    header(`X-Authorization: apk ${key}`),
    header(`Proxy-Authorization: apk ${key}`),
    header(`X-Forwarded-Authorization: apk ${key}`),
    header(`X-Original-Authorization: apk ${key}`),
    header(`X-Access-Token: ${key}`),
    header(`Authorization : apk ${key}`),
    header(`Authorization_: apk ${key}`),
    ['folded line', { lines: ['Authorization:', ` apk ${key}`] }],
    ['folded into another line', { lines: ['X-Filler: a', ` Authorization: apk ${key}`] }],
    ['Sec-WebSocket-Protocol', { lines: [`Sec-WebSocket-Protocol: apk, ${key}`] }],
    ['in the path', { path: `/apk/${key}` }],
    ['before the host', { path: `https://apk:${key}@${unknownHost}/` }],
    ['form in the body', form(`access_token=${key}&api_key=${key}`)],
  ];
  // what Basic has in it is a credential of another scheme, and refused as such
  return [
    ...places.map(([what, parts]) => attempt('a key in another place', what, parts, { expect: 'uncredentialed' })),
    attempt('a key in another place', 'Basic', { lines: [`Authorization: Basic ${basic}`] }),
  ];
}

function form(body: string): RequestParts {
  return {
    lines: ['Content-Type: application/x-www-form-urlencoded', `Content-Length: ${body.length}`],
    body,
  };
}

function headers(attempt: Make): Attempt[] {
  const all = Object.entries(spellings).flatMap(([what, spell]) => {
    const lines = reservedHeaders.flatMap((name) => spell(name, persuasiveValue(name)));
    return [
      attempt('identity headers', what, { lines }, { expect: 'malformed' }),
      attempt('identity headers', `${what}, before Host`, { before: lines }, { expect: 'malformed' }),
    ];
  });
  const elsewhere = ['X-Original-URL: /', 'X-Rewrite-URL: /', 'X-Original-URI: /', 'X-Forwarded-Uri: /'];
  const trusted = [
    'X-Forwarded-For: 127.0.0.1',
    'X-Real-IP: 127.0.0.1',
    'Forwarded: for=127.0.0.1',
    'Client-IP: 127.0.0.1',
  ];
  const override = ['X-HTTP-Method-Override: OPTIONS', 'X-Method-Override: OPTIONS'];
  const agents = ['kube-probe/1.30', 'ELB-HealthChecker/2.0', 'GoogleHC/1.0', 'Prometheus/2.0', 'curl/8.0'];
  return [
    ...all,
    attempt('other persuasive headers', 'a path', { path: '/livez', lines: elsewhere }, { expect: 'health' }),
    attempt('other persuasive headers', 'an open path', { lines: elsewhere.map((line) => `${line}livez`) }),
    attempt('other persuasive headers', 'a trusted address', { lines: trusted }),
    attempt('other persuasive headers', 'a method', { lines: override }),
    attempt('other persuasive headers', 'a referrer and an origin', {
      lines: ['Referer: https://localhost/', 'Origin: https://localhost'],
    }),
    ...agents.map((agent) => attempt('other persuasive headers', agent, { lines: [`User-Agent: ${agent}`] })),
  ];
}

/** Paths for which people like to make exceptions, by an exact location or by a pattern. */
const usualExceptions = [
  ...['.css', '.js', '.png', '.ico', '.svg', '.txt', '.html', '.json', '.php', '.woff2'].map((end) => nowhere + end),
  // what is often answered with 404 by nginx itself, and then led elsewhere by error_page
  ...['.bak', '.sql', '.log', '.ini', '.htaccess', '~'].map((end) => nowhere + end),
  ...['/fallback', '/error', '/errors/404', '/404', '/404.html', '/50x.html', '/maintenance.html'],
  '/.htaccess',
  '/.svn/entries',
  '/index.html',
  '/favicon.ico',
  '/robots.txt',
  '/static/x',
  '/assets/x',
  '/public/x',
  '/images/x',
  '/health',
  '/healthz',
  '/status',
  '/ping',
  '/version',
  '/docs',
  '/openapi.json',
  '/swagger/',
  '/login',
  '/admin',
  '/admin;x.css',
  '/api/',
  '/graphql',
  '/ws',
  '/events',
  '/metrics',
  '/denials/x',
  '/nginx_status',
  '/actuator/health',
  '/debug/pprof/',
  '/.well-known/x',
  '/.well-known/acme-challenge/x',
  '/.git/config',
  '/.env',
  '/decision',
];

/** Spellings of protected paths that lead over an open one, or that only some programs take for the same path. */
function unusualPaths({ protected: more, open }: Paths): string[] {
  const through = ['/livez', ...open.map((path) => path.replace(/\/$/, ''))];
  const around = through.flatMap((path) => [
    `${path}/../`,
    `${path}/%2e%2e/`,
    `${path}/..%2f`,
    `${path}%2f..%2f`,
    `${path}/%252e%252e/`,
    `${path}/..%252f`,
    `${path}/..;/`,
    `${path}/..%5c`,
    `${path}/..\\`,
    `${path}/..%00/`,
    `${path}/..%c0%af`,
  ]);
  const rest = more.flatMap((path) => {
    const tail = path.slice(1);
    return [
      `/${path}`,
      `/.${path}`,
      `/x/..${path}`,
      `/x/..;${path}`,
      `/%2f${tail}`,
      `/${encode(tail)}`,
      `${path}/`,
      `${path}/.`,
      `${path};x`,
      `${path}%20`,
      `${path}%09`,
      `${path}%00`,
      `${path}?x`,
      `${path}%3fx`,
      `${path}.json`,
      path.toUpperCase(),
      `/\\${tail}`,
      `/livez/..;${path}`,
      `/livez/..%2f${tail}`,
    ];
  });
  const root = [
    '//',
    '///',
    '/.',
    '/./',
    '/%2e/',
    '/%2f',
    '/\\',
    '/;',
    '/;x=y/',
    '/?',
    '/?/livez',
    '/#/livez',
    '/%00',
    '/\0',
    '/\x01',
  ];
  const odd = [
    '/..',
    '/../',
    '/../livez/..',
    '/%',
    '/%zz',
    '/%u002f',
    '/*',
    '*',
    '',
    'livez',
    '?',
    '//livez/..//',
    '/livez#/x',
  ];
  return [...new Set([...root, ...odd, ...around, ...rest])];
}

/** Some of the odd ones are /livez itself to nginx, and that is public. */
function isHealthIn(path: string): boolean {
  return path.includes('livez');
}

/** The first letter after each slash percent-encoded. */
function encode(path: string): string {
  return path.replace(
    /(^|\/)([a-z])/gi,
    (_, slash: string, letter: string) => `${slash}%${letter.charCodeAt(0).toString(16)}`,
  );
}

/** What a location for that path takes along when it is no exact one. */
function neighbours(open: readonly string[]): string[] {
  const exact = open.filter((path) => !path.endsWith('/'));
  return exact.flatMap((path) => [
    `${path}z`,
    `${path}/`,
    `${path}/x`,
    `${path}.x`,
    `${path}%2fx`,
    `${path};x`,
    `${path}/..;/x`,
    `/x${path}`,
    path.toUpperCase(),
  ]);
}

/** Whether the operator has said that this path is public. */
export function isOpen(path: string, { open }: Paths): boolean {
  const [plain = ''] = path.split('?');
  const isPlain = !/%|\\|;|\/\.|\/\//.test(plain);
  return open.some((entry) => entry === plain || (entry.endsWith('/') && isPlain && plain.startsWith(entry)));
}

const internal = [
  '/_apigw/decision',
  '/_apigw/decision/',
  '/_apigw/decision/admin',
  '/_apigw/decision/partner',
  '/_apigw/decision/orders',
  '/_apigw/decision/billing',
  '/_apigw/problem',
  '/_apigw/forbidden',
  '/_apigw/no-upstream',
  '/_apigw/',
  '/_APIGW/decision',
  '/%5fapigw/decision',
  '//_apigw//decision',
  '/x/../_apigw/decision',
  '/livez/%2e%2e/_apigw/decision',
];

const api = '/v1/management/api-clients';

/** Nothing is created even by a server that lets everybody in: the bodies are not allowed, and 0 is nobody's id. */
function management(target: Target, key: string, attempt: Make): Attempt[] {
  const check = 'management without admin';
  const spelt = [
    `${api}/`,
    `${api}/1`,
    `${api}/1/keys`,
    '/v1/management',
    '/v1/management/',
    '/v1/management/export',
    '/v1/management/audit-events',
    '/v1/management/decisions/x',
    '/v1//management/api-clients',
    '/v1/./management/api-clients',
    '/x/../v1/management/api-clients',
    '/v1/management/problems/..%2fapi-clients',
    '/v1/management/problems/..;/api-clients',
    '/v1/management/%61pi-clients',
    '/V1/Management/Api-Clients',
    `${api}%2f`,
    `${api};x`,
    `${api}?x=/livez`,
    '/livez/..;/v1/management/api-clients',
  ];
  const json = '{"apigw_doctor":true}';
  const body = { lines: ['Content-Type: application/json', `Content-Length: ${json.length}`], body: json };
  const calls: [string, string][] = [
    ['POST', api],
    ['PUT', `${api}/0`],
    ['DELETE', `${api}/0`],
    ['POST', '/v1/management/introspect'],
    ['POST', '/v1/management/apply'],
  ];
  const identity = reservedHeaders.map((name) => `${name}: ${persuasiveValue(name)}`);
  return [
    attempt(check, 'no credential', { path: api }),
    attempt(check, 'a made-up key', { path: api, lines: [`Authorization: apk ${key}`] }),
    attempt(check, 'junk', { path: api, lines: ['Authorization: Bearer junk'] }),
    attempt(check, 'identity headers', { path: api, lines: identity }),
    attempt(check, 'a key in the query', { path: `${api}?api_key=${key}` }, { expect: 'uncredentialed' }),
    ...spelt.map((path) => attempt(check, path, { path })),
    ...calls.map(([method, path]) => attempt(check, `${method} ${path}`, { method, path, ...body })),
    attempt(
      check,
      'X-HTTP-Method-Override',
      { path: api, lines: ['X-HTTP-Method-Override: GET'], method: 'HEAD' },
      { options: { isHead: true } },
    ),
    attempt(check, 'another Host', { path: api, host: unknownHost }, { expect: 'malformed' }),
    attempt(check, `GET https://${target.authority}${api}`, { path: `https://${target.authority}${api}` }),
  ];
}

/** Requests for another server than the one that the operator has in mind. */
function targets({ authority, host }: Target, attempt: Make): Attempt[] {
  const check = 'other hosts and servers';
  const expect: Expectation = 'malformed';
  const names = [
    unknownHost,
    'localhost',
    '127.0.0.1',
    '[::1]',
    '_',
    'default',
    'gateway',
    'management',
    'application',
    'app:8000',
    'not-granted.invalid',
    `admin.${host}`,
    `${authority}.`,
    host.toUpperCase(),
  ];
  return [
    ...names.map((name) => attempt(check, `Host: ${name}`, { host: name }, { expect })),
    attempt(check, 'Host: (empty)', { host: '' }, { expect }),
    attempt(check, 'no Host', { host: null }, { expect }),
    attempt(check, 'two Hosts', { lines: [`Host: ${unknownHost}`] }, { expect }),
    attempt(check, 'no server name in TLS', {}, { options: { serverName: '' }, expect }),
    attempt(check, 'an unknown server name in TLS', {}, { options: { serverName: unknownHost }, expect }),
    attempt(check, 'the same, with that Host', { host: unknownHost }, { options: { serverName: unknownHost }, expect }),
    attempt(check, 'an absolute target', { path: `https://${authority}/` }, { expect }),
    attempt(check, 'an absolute target elsewhere', { path: `https://${unknownHost}/` }, { expect }),
    attempt(check, 'http://gateway/decision', { path: 'http://gateway/decision' }, { expect }),
    attempt(check, 'an absolute target within', { path: 'http://127.0.0.1/', host: '127.0.0.1' }, { expect }),
    attempt(check, 'HTTP/1.0 without Host', { version: 'HTTP/1.0', host: null }, { expect }),
    attempt(check, 'HTTP/1.9', { version: 'HTTP/1.9' }, { expect }),
    attempt(check, 'HTTP/2.0 as a word', { version: 'HTTP/2.0' }, { expect }),
    { check, what: 'HTTP/0.9', bytes: 'GET /\r\n', expect },
    attempt(check, 'X-Forwarded-Host', { lines: [`X-Forwarded-Host: ${unknownHost}`, 'X-Forwarded-Server: gateway'] }),
  ];
}

/**
 * None by which an application changes anything: those that could are for a path that nobody has, and for a state of it
 * that cannot be (RFC 9110, section 13.1.1).
 */
function methods(protectedPaths: readonly string[], attempt: Make): Attempt[] {
  const check = 'methods';
  const expect: Expectation = 'malformed';
  const preflight = ['Origin: https://apigw-doctor.invalid', 'Access-Control-Request-Method: GET'];
  return [
    ...protectedPaths.flatMap((path) => [
      attempt(check, `HEAD ${path}`, { method: 'HEAD', path }, { options: { isHead: true } }),
      attempt(check, `OPTIONS ${path}`, { method: 'OPTIONS', path }),
      attempt(check, `a preflight for ${path}`, { method: 'OPTIONS', path, lines: preflight }),
    ]),
    ...['POST', 'PUT', 'PATCH', 'DELETE'].map((method) =>
      attempt(check, `${method} ${nowhere}`, {
        method,
        path: nowhere,
        lines: ['If-Match: "apigw-doctor"', 'Content-Length: 0'],
      }),
    ),
    ...['TRACE', 'TRACK', 'PROPFIND', 'SEARCH', 'REPORT', 'BREW', 'get', 'PRI'].map((method) =>
      attempt(check, method, { method, path: method === 'PRI' ? '*' : '/' }, { expect }),
    ),
    attempt(check, 'OPTIONS *', { method: 'OPTIONS', path: '*' }, { expect }),
    attempt(check, 'CONNECT', { method: 'CONNECT', path: '127.0.0.1:80', host: '127.0.0.1:80' }, { expect }),
    attempt(check, 'CONNECT /', { method: 'CONNECT' }, { expect }),
    { check, what: 'the preface of HTTP/2 in HTTP/1', bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', expect },
  ];
}

function upgrades(attempt: Make): Attempt[] {
  const check = 'upgrades';
  const webSocket = ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: ZG9jdG9yIGRvY3RvciEhIQ=='];
  const h2c = ['Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA'];
  const connection = 'Upgrade';
  return [
    ...['/', '/ws', '/websocket', '/socket.io/?EIO=4&transport=websocket'].map((path) =>
      attempt(check, `WebSocket ${path}`, { path, lines: webSocket, connection }),
    ),
    attempt(check, 'h2c', { lines: h2c, connection: 'Upgrade, HTTP2-Settings' }),
    attempt(
      check,
      'h2c at /livez',
      { path: '/livez', lines: h2c, connection: 'Upgrade, HTTP2-Settings' },
      { expect: 'health' },
    ),
    attempt(check, 'TLS/1.3', { lines: ['Upgrade: TLS/1.3'], connection }),
  ];
}

/** Bodies that are announced, or begin, and never end: the answer has to come without them. */
function bodies(attempt: Make): Attempt[] {
  const check = 'large bodies';
  const upload = { method: 'POST', path: nowhere };
  const length = 'Content-Length: 1073741824';
  const chunk = `400\r\n${'x'.repeat(1024)}\r\n`;
  return [
    attempt(check, '1 GB announced', { ...upload, lines: [length, 'Expect: 100-continue'] }),
    attempt(check, '500 KB announced', { ...upload, lines: ['Content-Length: 512000', 'Expect: 100-continue'] }),
    attempt(check, '1 GB begun', { ...upload, lines: [length], body: 'x'.repeat(4096) }),
    attempt(check, 'chunks without end', { ...upload, lines: ['Transfer-Encoding: chunked'], body: chunk.repeat(4) }),
    attempt(check, '1 GB for the management API', {
      method: 'POST',
      path: api,
      lines: [length, 'Expect: 100-continue'],
    }),
    attempt(
      check,
      '16 KB of a header',
      { lines: Array.from({ length: 6 }, () => `X-Filler: ${'x'.repeat(15_000)}`) },
      { expect: 'malformed' },
    ),
    attempt(check, '20 KB of a path', { path: `/${'x'.repeat(20_000)}` }, { expect: 'malformed' }),
  ];
}

/**
 * Requests whose end two programs may see in different places. Whatever they see, what is left over is an end of a body or
 * empty lines, and no request: no connection to the application is left with something of ours on it.
 */
function framing(target: Target): Attempt[] {
  const check = 'where a request ends';
  const pair = (what: string, lines: readonly string[], body: string, version = 'HTTP/1.1'): Attempt => ({
    check,
    what,
    bytes: requestBytes(target, { method: 'POST', path: nowhere, version, lines, body, connection: '' }),
    expect: 'malformed',
    options: { expected: 2 },
  });
  const end = '0\r\n\r\n';
  const chunked = 'Transfer-Encoding: chunked';
  return [
    pair('length and chunks', ['Content-Length: 5', chunked], end),
    pair('chunks and length', [chunked, 'Content-Length: 5'], end),
    pair('two lengths', ['Content-Length: 0', 'Content-Length: 4'], '\r\n\r\n'),
    pair('a list of lengths', ['Content-Length: 4, 4'], '\r\n\r\n'),
    pair('a length with a sign', ['Content-Length: +4'], '\r\n\r\n'),
    pair('a negative length', ['Content-Length: -4'], '\r\n\r\n'),
    pair('two codings', [chunked, 'Transfer-Encoding: identity'], end),
    pair('an unknown coding', ['Transfer-Encoding: xchunked'], end),
    pair('a list of codings', ['Transfer-Encoding: chunked, identity'], end),
    pair('a space before the colon', ['Transfer-Encoding : chunked', 'Content-Length: 5'], end),
    pair('a vertical tab before the value', ['Transfer-Encoding:\vchunked', 'Content-Length: 5'], end),
    pair('a folded coding', ['Transfer-Encoding:', ' chunked', 'Content-Length: 5'], end),
    pair('chunks in HTTP/1.0', [chunked], end, 'HTTP/1.0'),
    pair('no size of a chunk', [chunked], 'z\r\n\r\n'),
    {
      check,
      what: 'two requests at once',
      bytes: requestBytes(target, { connection: '' }) + requestBytes(target, {}),
      options: { expected: 2 },
    },
  ];
}
