import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, type ClientHttp2Session, type OutgoingHttpHeaders } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import fc from 'fast-check';
import { policySettings } from '../../src/auth/policy.ts';
import { madeUpKey } from '../support/keys.ts';
import { acceptTokensOf, startProvider, type RealProvider } from '../support/provider.ts';
import { createRawClient, type RawAnswer, type RawClient } from '../support/raw-http.ts';
import { runs } from '../support/runs.ts';
import { addLocations, locationWithPolicy, setSettings } from '../support/settings.ts';
import { freePorts, startTestStack, until, withoutLimits, type TestStack } from '../support/stack.ts';

type Line = readonly [name: string, value: string];

const allRequests = runs(5_000).numRuns;
/** Batches of 1 to 100 requests that are sent at once, 50 on average: with some to spare. */
const batches = 130;
const clients = 4;
/** Milliseconds for one answer. */
const patience = 60_000;

const policies: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  admins: { 'Require-Admin': 'on' },
  scoped: { 'Required-Scopes': 'orders.read' },
  listed: { 'Allowed-Clients': 'abc123 Zo%C3%AB' },
  keys: { 'Open-Id-Connect-Enabled': 'off' },
  tokens: { 'Api-Keys-Enabled': 'off', 'Oidc-Required-Scopes': 'orders.read' },
  broken: { 'Oidc-Algorithms': 'HS256' },
  nobody: { 'Api-Keys-Enabled': 'off', 'Open-Id-Connect-Enabled': 'off' },
};

suite('the same verdict', () => {
  let provider: RealProvider;
  let stack: TestStack;
  /** Values of Authorization by what they are. */
  const credentials: Record<string, string> = {};

  before(async () => {
    const [port] = await freePorts(2);
    provider = await startProvider(port, ['abc123', 'stranger']);
    stack = await startTestStack({
      editLimits: withoutLimits,
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) =>
        addLocations(
          setSettings(conf, acceptTokensOf(provider, 'ES256')),
          Object.entries(policies)
            .map(([name, headers]) => locationWithPolicy(name, headers))
            .join('\n'),
        ),
    });
    const create = async (json: Record<string, unknown>) => {
      const created = await stack.manage('POST', stack.adminKey, '', { json });
      assert.equal(created.status, 201, created.body);
      return { id: String(created.json['id']), key: String(created.json['token']) };
    };
    const put = (id: string, json: Record<string, unknown>) => stack.manage('PUT', stack.adminKey, `/${id}`, { json });
    const good = await create({ name: 'Zoë', api_client_id: 'Zoë', scopes: ['orders.read'] });
    const disabled = await create({ enabled: false });
    const expired = await create({});
    await put(expired.id, { expires_at: '2020-01-01T00:00:00Z' });
    const elsewhere = await create({ allowed_cidrs: ['192.0.2.0/24'] });
    await create({ name: 'by token', api_client_id: 'abc123', scopes: ['orders.read'], generate_api_key: false });
    const token = await provider.token('ES256');
    Object.assign(credentials, {
      admin: `apk ${stack.adminKey}`,
      good: `apk ${good.key}`,
      disabled: `apk ${disabled.key}`,
      expired: `apk ${expired.key}`,
      elsewhere: `apk ${elsewhere.key}`,
      'made up': `apk ${madeUpKey(good.id)}`,
      'of nobody': `apk ${madeUpKey(77_777)}`,
      mistyped: `apk ${good.key.slice(0, -1)}${good.key.endsWith('x') ? 'y' : 'x'}`,
      'of another': `apk ${disabled.id}.${good.key.split('.')[1] ?? ''}`,
      token: `Bearer ${token}`,
      'token with scope': `Bearer ${await provider.token('ES256', 'abc123', 'orders.read')}`,
      "a stranger's token": `Bearer ${await provider.token('ES256', 'stranger')}`,
      'token of another audience': `Bearer ${await provider.token('RS256')}`,
      'opaque token': `Bearer ${await provider.opaqueToken()}`,
      'changed token': `Bearer ${token.slice(0, -8)}AAAA${token.slice(-4)}`,
    });
    // the issuer is found in the background
    const ask = { headers: { Authorization: credentials['token'] ?? '' } };
    await until('tokens are accepted', async () => (await stack.ask('/', ask)).status === 200);
  });
  after(async () => {
    await stack.stop();
    await provider.stop();
  });

  /** One of them, as it is or oddly spelled; undefined for none. */
  const authorizations = fc
    .tuple(
      fc.constantFrom(
        ...['admin', 'good', 'good', 'disabled', 'expired', 'elsewhere', 'made up', 'of nobody', 'mistyped'],
        ...['of another', 'token', 'token', 'token with scope', "a stranger's token", 'token of another audience'],
        ...['opaque token', 'changed token', 'none'],
      ),
      fc.constantFrom(
        ...Array<string>(5).fill('as it is'),
        ...['upper', 'swapped', 'two spaces', 'no scheme', 'no value', 'comma', 'padded', 'short', 'basic'],
      ),
      fc.nat(),
    )
    .map(([who, how, at]) => {
      const value = credentials[who];
      return value === undefined ? undefined : respell(value, how, at);
    });

  function respell(value: string, how: string, at: number): string {
    const [scheme = '', secret = ''] = value.split(' ');
    const place = at % secret.length;
    switch (how) {
      case 'upper':
        return `${scheme.toUpperCase()} ${secret}`;
      case 'swapped':
        return `${scheme === 'apk' ? 'Bearer' : 'apk'} ${secret}`;
      case 'two spaces':
        return `${scheme}  ${secret}`;
      case 'no scheme':
        return secret;
      case 'no value':
        return scheme;
      case 'comma':
        return `${value}, ${value}`;
      case 'padded':
        return `${value}=`;
      case 'short':
        return `${scheme} ${secret.slice(0, place)}${secret.slice(place + 1)}`;
      case 'basic':
        return `Basic ${Buffer.from(secret.slice(0, 20)).toString('base64')}`;
      default:
        return value;
    }
  }

  const casings = fc.constantFrom<(name: string) => string>(
    (name) => name,
    (name) => name.toLowerCase(),
    (name) => name.toUpperCase(),
  );

  suite('is given over HTTP/1.1 and HTTP/2', () => {
    /**
     * What HTTP/2 cannot say, or Node's client will not, is left out: white space around a value, in another place than
     * the head (a continued line), names in upper case, and connection-specific headers (RFC 9113 8.2) are sent over
     * HTTP/1.1 alone, where they must make no difference; the target is an absolute path of visible ASCII (8.3.1);
     * values are visible ASCII; CONNECT is another thing (8.5); and Authorization comes once, for Node sends no second.
     */
    interface Request {
      readonly method: string;
      readonly path: string;
      /** Authorization among them. */
      readonly headers: readonly Line[];
      /** Before which of them Host is written over HTTP/1.1. */
      readonly hostAt: number;
      readonly casing: (name: string) => string;
      readonly blank: string;
      readonly body: string | undefined;
    }

    const segments = fc.constantFrom(
      ...[
        ...Object.keys(policies),
        ...Object.keys(policies),
        'x',
        'x',
        '',
        '.',
        '..',
        '..',
        '%2e%2e',
        '%2E.',
        'ADMINS',
      ],
      ...['..;', 'a;b=c', '%2f..%2f', '%5c..', 'x%00', '%zz', '%252e%252e', 'admins%2f', '%61dmins', '\\..', '#', '?'],
    );
    const paths = fc
      .tuple(
        fc.array(segments, { minLength: 1, maxLength: 4 }),
        fc.constantFrom('', '', '/', '?', '?a=1', '?/../admins/', '#/../'),
      )
      .map(([parts, end]) => `/${parts.join('/')}${end}`);
    const others = fc.constantFrom<Line>(
      ...[['X-Client-Id', 'spoofed'] as const, ['X_Client_Id', 'spoofed'] as const, ['X-Client-Name', 'x'] as const],
      ...[['X-Auth-Method', 'jwt'] as const, ['X-Auth-Decision', 'granted'] as const, ['Accept', '*/*'] as const],
      ...[['X-Policy', 'api_keys_enabled=on'] as const, ['X-Policy-Require-Admin', 'off'] as const],
      ...[['X-Original-URL', '/x'] as const, ['X-HTTP-Method-Override', 'GET'] as const, ['X.Client.Id', 'x'] as const],
      ...[['X-Forwarded-For', '192.0.2.1'] as const, ['X-Client-Address', '192.0.2.1'] as const],
    );
    const requests: fc.Arbitrary<Request> = fc
      .record({
        method: fc.constantFrom(
          'GET',
          'GET',
          'GET',
          'HEAD',
          'POST',
          'PUT',
          'DELETE',
          'PATCH',
          'OPTIONS',
          'PURGE',
          'TRACE',
        ),
        path: paths,
        authorization: authorizations,
        others: fc.array(others, { maxLength: 3 }),
        at: fc.nat({ max: 3 }),
        hostAt: fc.nat({ max: 4 }),
        casing: casings,
        // nginx takes a tab for a part of the value, which then is no credential
        blank: fc.constantFrom(' ', '', '  '),
        body: fc.constantFrom('', 'body'),
      })
      .map(({ authorization, others: more, at, body, ...rest }) => ({
        ...rest,
        headers:
          authorization === undefined
            ? more
            : [...more.slice(0, at), ['Authorization', authorization] as const, ...more.slice(at)],
        body: ['POST', 'PUT', 'PATCH'].includes(rest.method) ? body : undefined,
      }));

    /** What the caller is told, and what the application saw. */
    interface Verdict {
      readonly status: number;
      readonly reason: string | undefined;
      readonly challenge: string;
      readonly tokenError: string;
      readonly seen: unknown;
    }

    const openSessions = () =>
      Array.from({ length: clients }, () => connectHttp2(stack.url, { rejectUnauthorized: false }));
    let sessions: ClientHttp2Session[];
    let batchesOfSessions = 0;
    let connections: RawClient[];
    before(() => {
      sessions = openSessions();
      connections = Array.from({ length: clients }, () =>
        createRawClient(async () => {
          const options = { host: '127.0.0.1', port: stack.httpsPort, rejectUnauthorized: false };
          const socket = connectTls({ ...options, ALPNProtocols: ['http/1.1'] });
          await once(socket, 'secureConnect');
          return socket;
        }),
      );
    });
    after(() => {
      for (const session of sessions) session.destroy();
      for (const connection of connections) connection.close();
    });

    function toVerdict({ status, headers, body }: RawAnswer, name: string): Verdict {
      const isProblem = headers.get('content-type') === 'application/problem+json' && body !== '';
      const seen = stack.application.seen.find((request) => request.headers['x-case']?.[0] === name);
      const identity = Object.entries(seen?.headers ?? {})
        .filter(([header]) => /^(?:x.client|x.auth|x.policy|authorization)/.test(header))
        .sort();
      return {
        status,
        reason: isProblem ? (JSON.parse(body) as { reason: string }).reason : undefined,
        challenge: headers.get('www-authenticate') ?? '',
        tokenError: headers.get('x-jwt-error') ?? '',
        seen: seen && { method: seen.method, url: seen.url, bodyBytes: seen.bodyBytes, identity },
      };
    }

    async function askByHttp1(
      { method, path, headers, hostAt, casing, blank, body }: Request,
      name: string,
      at: number,
    ) {
      const lines = headers.map(([header, value]) => `${casing(header)}:${blank}${value}${blank}`);
      lines.splice(hostAt, 0, `${casing('Host')}: localhost:${stack.httpsPort}`);
      if (body !== undefined) lines.push(`Content-Length: ${body.length}`);
      const head = [`${method} ${path} HTTP/1.1`, ...lines, `X-Case: ${name}`].join('\r\n');
      const connection = connections[at % clients];
      assert.ok(connection);
      return toVerdict(await connection.ask(`${head}\r\n\r\n${body ?? ''}`), name);
    }

    async function askByHttp2({ method, path, headers, body }: Request, name: string, at: number): Promise<Verdict> {
      const fields: OutgoingHttpHeaders = {
        ...{ ':method': method, ':path': path, ':scheme': 'https', ':authority': `localhost:${stack.httpsPort}` },
        'x-case': name,
      };
      for (const [header, value] of headers) {
        const field = header.toLowerCase();
        const known = fields[field];
        fields[field] = known === undefined ? value : [known as string | string[], value].flat();
      }
      if (body !== undefined) fields['content-length'] = String(body.length);
      const stream = sessions[at % clients]?.request(fields, { endStream: body === undefined });
      assert.ok(stream);
      if (body !== undefined) stream.end(body);
      let status = 0;
      let answered = new Map<string, string>();
      let text = '';
      stream.on('response', (answer) => {
        status = answer[':status'] ?? 0;
        answered = new Map(Object.entries(answer).map(([header, value]) => [header, String(value)]));
      });
      stream.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
      await once(stream, 'close', { signal: AbortSignal.timeout(patience) });
      return toVerdict({ status, headers: answered, body: text }, name);
    }

    test(`to ${allRequests} requests of any kind, on any path, with any credential`, async (t) => {
      let sent = 0;
      const counts = new Map<string, number>();
      await fc.assert(
        fc.asyncProperty(fc.array(requests, { minLength: 1, maxLength: 100, size: 'max' }), async (batch) => {
          if (sent >= allRequests) return;
          stack.application.seen.length = 0;
          // nginx ends a connection after 1,000 requests (keepalive_requests), and what is just being sent with it
          if (++batchesOfSessions % 30 === 0) {
            for (const session of sessions) session.close();
            sessions = openSessions();
          }
          const first = sent;
          sent += batch.length;
          const answers = await Promise.all(
            batch.map(async (request, at) =>
              Promise.all([askByHttp1(request, `one-${first + at}`, at), askByHttp2(request, `two-${first + at}`, at)]),
            ),
          );
          for (const [at, [one, two]] of answers.entries()) {
            assert.deepEqual(two, one, JSON.stringify(batch[at]));
            const key = `${one.status} ${one.reason ?? ''}`.trim();
            counts.set(key, (counts.get(key) ?? 0) + 1);
          }
        }),
        { ...runs(batches), unbiased: true, endOnFailure: true },
      );
      t.diagnostic(`${sent} requests, each over both: ${show(counts)}`);
      assert.ok(sent >= allRequests, `${sent} requests`);
      for (const wanted of ['200', '401 no_credential', '403 admin_required', '400', '401 unknown_key'])
        assert.ok(
          [...counts.keys()].some((key) => key.startsWith(wanted)),
          `none was ${wanted}: ${show(counts)}`,
        );
    });
  });

  const show = (counts: ReadonlyMap<string, number>) =>
    [...counts]
      .sort(([, one], [, other]) => other - one)
      .map(([key, count]) => `${count} x ${key}`)
      .join(', ');

  suite('is given by both listeners', () => {
    let decision: RawClient[];
    let management: RawClient[];
    const open = (socketName: string) =>
      Array.from({ length: clients }, () =>
        createRawClient(async () => {
          const socket = connect(join(stack.stack.runDir, socketName));
          await once(socket, 'connect');
          return socket;
        }),
      );
    before(() => {
      decision = open('decision.sock');
      management = open('management.sock');
    });
    after(() => {
      for (const client of [...decision, ...management]) client.close();
    });

    /** As nginx writes it, and as it never would: policy headers in any order, credentials that come twice. */
    const questions = fc
      .record({
        policy: fc.constantFrom(...Object.keys(policies), ...Object.keys(policies), '', '', 'none'),
        authorizations: fc.oneof(
          { arbitrary: authorizations.map((one) => [one]), weight: 9 },
          fc.tuple(authorizations, authorizations),
        ),
        address: fc.constantFrom('127.0.0.1', '192.0.2.9', '::ffff:192.0.2.9', '', 'unix:', '::1'),
        misspelt: fc.constantFrom(...Array<string>(30).fill(''), 'X_Policy_Require_Admin', 'X-Policy-Require-Admins'),
        blank: fc.constantFrom(' ', '', '\t'),
        casing: casings,
      })
      .chain(({ policy, authorizations: all, address, misspelt, blank, casing }) => {
        const lines: Line[] = [
          ...all.flatMap((value): Line[] => (value === undefined ? [] : [['Authorization', value]])),
          ...Object.entries(policies[policy] ?? {}).map(([name, value]): Line => [`X-Policy-${name}`, value]),
          ...(policy === 'none' ? [] : [['X-Policy', '(the server)'] as const]),
          ...(address === '' ? [] : [['X-Client-Address', address] as const]),
          ...(misspelt === '' ? [] : [[misspelt, 'on'] as const]),
        ];
        return fc
          .shuffledSubarray(lines, { minLength: lines.length })
          .map((shuffled) => shuffled.map(([name, value]) => `${casing(name)}:${blank}${value}${blank}`));
      });

    function writeLines(lines: readonly string[]): string {
      const accepted: Record<string, string> = { api_keys_enabled: 'on', ...acceptTokensOf(provider, 'ES256') };
      const server = policySettings.map((name) => `${name}=${accepted[name] ?? ''}`).join('\t');
      return ['Host: gateway', ...lines].join('\r\n').replace('(the server)', server);
    }

    /** What the authenticator has said. */
    function toVerdict({ status, headers }: RawAnswer) {
      const identity = ['x-client-id', 'x-client-name', 'x-auth-method'].map((name) => headers.get(name));
      // management lets administrators alone in; who it is it has said before
      if (identity[0] !== undefined) return { identity };
      const told = ['x-auth-reason', 'www-authenticate', 'x-jwt-error', 'retry-after'];
      return { status, told: told.map((name) => headers.get(name) || undefined) };
    }

    test(`to ${allRequests} questions under any policy, with any credential`, async (t) => {
      let sent = 0;
      const counts = new Map<string, number>();
      await fc.assert(
        fc.asyncProperty(fc.array(questions, { minLength: 1, maxLength: 100, size: 'max' }), async (batch) => {
          if (sent >= allRequests) return;
          sent += batch.length;
          await Promise.all(
            batch.map(async (lines, at) => {
              const head = writeLines(lines);
              const [one, other] = await Promise.all([
                decision[at % clients]?.ask(`GET /decision HTTP/1.1\r\n${head}\r\n\r\n`),
                management[at % clients]?.ask(`GET /v1/management/api-clients?limit=1 HTTP/1.1\r\n${head}\r\n\r\n`),
              ]);
              assert.ok(one && other);
              assert.deepEqual(toVerdict(other), toVerdict(one), head);
              const key = `${one.status} ${one.headers.get('x-auth-reason') ?? ''}`.trim();
              counts.set(key, (counts.get(key) ?? 0) + 1);
            }),
          );
        }),
        { ...runs(batches), unbiased: true, endOnFailure: true },
      );
      t.diagnostic(`${sent} questions, each to both: ${show(counts)}`);
      assert.ok(sent >= allRequests, `${sent} questions`);
      for (const wanted of ['204', '401 unknown_key', '403 admin_required', '403 address_not_allowed', '503'])
        assert.ok(
          [...counts.keys()].some((key) => key.startsWith(wanted)),
          `none was ${wanted}: ${show(counts)}`,
        );
    });
  });
});
