import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { after, before, suite, test } from 'node:test';
import { startCollector, type Collector, type Span } from '../support/collector.ts';
import { makeToken, startHostileIssuer, type HostileIssuer } from '../support/hostile-issuer.ts';
import { setSettings } from '../support/settings.ts';
import { form, startTestStack, until, type TestStack } from '../support/stack.ts';

/** A client's own place in a trace. */
function makeParent() {
  const traceId = randomBytes(16).toString('hex');
  const spanId = randomBytes(8).toString('hex');
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-01` };
}

const kinds = { internal: 1, server: 2, client: 3 };
const statuses = { unset: 0, error: 2 };

suite('traces', () => {
  let collector: Collector;
  let issuer: HostileIssuer;
  let stack: TestStack;
  let isIssuerAway = true;
  /** Of requests to the issuer. */
  const issuerSaw: IncomingHttpHeaders[] = [];
  const secrets: string[] = [];

  const inTrace = (traceId: string) => collector.spans.filter((span) => span.traceId === traceId);
  /** The span with this request id, once it is there. */
  async function spanOf(requestId: unknown): Promise<Span> {
    const find = () => collector.spans.find(({ attributes }) => attributes['apigw.request_id'] === requestId);
    await until(`the span of ${String(requestId)} is exported`, () => find() !== undefined);
    const span = find();
    assert.ok(span);
    return span;
  }
  /** The lines of the gateway's log with this request id, once there is one. */
  async function logLines(requestId: unknown): Promise<Record<string, unknown>[]> {
    const find = () =>
      stack
        .output()
        .split('\n')
        .filter((line) => line.includes(`"request_id":"${String(requestId)}"`) && line.endsWith('}'));
    await until('the log has it', () => find().length > 0);
    return find().map((line) => JSON.parse(line) as Record<string, unknown>);
  }
  const requestId = (headers: IncomingHttpHeaders) => String(headers['x-request-id']);
  const tokenFor = (sub: string) => {
    const seconds = Math.floor(Date.now() / 1_000);
    const claims = { iss: issuer.url, aud: 'api', sub, iat: seconds, exp: seconds + 600 };
    const token = makeToken({ alg: 'RS256', kid: 'rsa' }, claims, issuer.rsa);
    secrets.push(...token.split('.'));
    return token;
  };
  const createClient = async (json: object) => {
    const created = await stack.manage('POST', stack.adminKey, '', { json });
    assert.equal(created.status, 201);
    const token = created.json['token'] as string | undefined;
    if (token !== undefined) secrets.push(...token.split('.').slice(1));
    return { id: created.json['id'], apiClientId: created.json['api_client_id'], key: token ?? '' };
  };

  before(async () => {
    collector = await startCollector();
    issuer = await startHostileIssuer();
    for (const path of ['/.well-known/openid-configuration', '/jwks'] as const) {
      issuer.behave(path, ({ headers }, response) => {
        issuerSaw.push(headers);
        const body =
          path === '/jwks' ? { keys: issuer.keys.jwks } : { issuer: issuer.url, jwks_uri: `${issuer.url}/jwks` };
        response.writeHead(isIssuerAway ? 500 : 200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
      });
    }
    stack = await startTestStack({
      env: {
        OIDC_ALLOW_INSECURE_HTTP: 'true',
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=one',
        OTEL_BSP_SCHEDULE_DELAY: '50',
        OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test%20bench',
      },
      edit: (conf) =>
        setSettings(conf, {
          open_id_connect_enabled: 'on',
          oidc_discovery: issuer.url,
          oidc_audience: 'api',
        }),
    });
    secrets.push(...stack.adminKey.split('.').slice(1));
  });
  after(async () => {
    await Promise.all([collector.close(), issuer.close()]);
    await stack.stop();
  });

  test('have a grant as part of the trace of the client, with its database lookup', async () => {
    const { apiClientId, key } = await createClient({ name: 'traced' });
    const { traceId, spanId, traceparent } = makeParent();
    const { status, headers } = await stack.ask('/x', { key, headers: { traceparent, tracestate: 'vendor=a:b,w=1' } });
    assert.equal(status, 200);
    const decision = await spanOf(requestId(headers));
    assert.deepEqual(
      { ...decision, resource: undefined, spanId: '' },
      {
        name: 'decision',
        kind: kinds.server,
        traceId,
        spanId: '',
        parentSpanId: spanId,
        traceState: 'vendor=a:b,w=1',
        attributes: {
          'apigw.request_id': requestId(headers),
          'apigw.outcome': 'granted',
          'apigw.auth_method': 'api_key',
          'apigw.client_id': apiClientId,
          'http.response.status_code': 204,
        },
        status: statuses.unset,
        resource: undefined,
      },
    );
    await until('its lookup is exported', () => inTrace(traceId).length === 2);
    const lookup = inTrace(traceId).find(({ name }) => name === 'SELECT api_clients');
    assert.deepEqual([lookup?.kind, lookup?.parentSpanId], [kinds.client, decision.spanId]);
    assert.equal(lookup?.attributes['db.system.name'], 'sqlite');
    assert.deepEqual([...collector.contentTypes], ['application/x-protobuf']);
  });

  test('name the service, and what OTEL_RESOURCE_ATTRIBUTES says', async () => {
    const { headers } = await stack.ask('/x');
    const { resource } = await spanOf(requestId(headers));
    assert.equal(resource['service.name'], 'apigw-gateway');
    assert.equal(resource['deployment.environment.name'], 'test bench');
    assert.match(String(resource['service.instance.id']), /^[0-9a-f-]{36}$/);
  });

  test('have no lookup when the client is known', { skip: form !== undefined }, async () => {
    const { key } = await createClient({});
    // it is forgotten once more, when its creation is read in the database
    await until('a decision on it stands alone', async () => {
      const { traceId, traceparent } = makeParent();
      const { headers } = await stack.ask('/x', { key, headers: { traceparent } });
      await spanOf(requestId(headers));
      // exported after it, so whatever belongs to it would have been as well
      await spanOf(requestId((await stack.ask('/x')).headers));
      return inTrace(traceId).length === 1;
    });
  });

  test('have a refusal with its reason, which is no error, and its line of the log has the trace', async () => {
    const { traceId, traceparent } = makeParent();
    const { headers } = await stack.ask('/x', { headers: { traceparent } });
    const { attributes, status } = await spanOf(requestId(headers));
    assert.deepEqual(attributes, {
      'apigw.request_id': requestId(headers),
      'apigw.outcome': 'unauthenticated',
      'apigw.reason': 'no_credential',
      'apigw.auth_method': 'none',
      'http.response.status_code': 401,
    });
    assert.equal(status, statuses.unset);
    assert.deepEqual(
      (await logLines(requestId(headers))).map((line) => [line['reason'], line['trace_id']]),
      [['no_credential', traceId]],
    );
  });

  test('have as an error only what could not be decided, then the verification and the fetches of the keys', async () => {
    await createClient({ api_client_id: 'by-token', generate_api_key: false });
    const ask = (traceparent: string) =>
      stack.ask('/x', { headers: { traceparent, Authorization: `Bearer ${tokenFor('by-token')}` } });
    const away = await ask(makeParent().traceparent);
    assert.equal(away.status, 503);
    const undecided = await spanOf(requestId(away.headers));
    assert.equal(undecided.attributes['apigw.reason'], 'issuer_unavailable');
    assert.deepEqual([undecided.status, undecided.attributes['http.response.status_code']], [statuses.error, 503]);
    for (const line of await logLines(requestId(away.headers))) assert.equal(line['trace_id'], undecided.traceId);

    isIssuerAway = false;
    let granted: IncomingHttpHeaders | undefined;
    await until('the issuer is asked again', async () => {
      const answer = await ask(makeParent().traceparent);
      if (answer.status === 200) granted = answer.headers;
      return granted !== undefined;
    });
    assert.ok(granted);
    const decision = await spanOf(requestId(granted));
    const children = () => inTrace(decision.traceId).filter(({ parentSpanId }) => parentSpanId === decision.spanId);
    await until('its children are exported', () => children().length === 4);
    const byName = (name: string) => children().filter((span) => span.name === name);
    assert.equal(decision.attributes['apigw.auth_method'], 'jwt');
    assert.equal(decision.attributes['apigw.client_id'], 'by-token');
    assert.deepEqual(
      byName('verify access token').map(({ kind, attributes }) => [kind, attributes]),
      [[kinds.internal, { 'apigw.verification': 'verified' }]],
    );
    assert.equal(byName('SELECT api_clients').length, 1);
    const { port } = new URL(issuer.url);
    assert.deepEqual(
      byName('GET').map(({ kind, attributes }) => [kind, attributes]),
      ['/.well-known/openid-configuration', '/jwks'].map((path) => [
        kinds.client,
        {
          'http.request.method': 'GET',
          'server.address': 'localhost',
          'server.port': Number(port),
          'url.full': issuer.url + path,
          'http.response.status_code': 200,
        },
      ]),
    );
    assert.ok(collector.spans.some(({ name, status }) => name === 'GET' && status === statuses.error));
    // somebody else's: it learns nothing of our traces
    assert.ok(issuerSaw.length > 2);
    for (const headers of issuerSaw)
      assert.deepEqual([headers['traceparent'], headers['tracestate']], [undefined, undefined]);
  });

  test('have calls of the management API under their route, and no probes', async () => {
    const { traceId, spanId, traceparent } = makeParent();
    await stack.ask('/readyz', { headers: { traceparent } });
    const listed = await stack.manage('GET', stack.adminKey, '?limit=1', { headers: { traceparent } });
    const list = await spanOf(requestId(listed.headers));
    assert.deepEqual(
      [list.name, list.kind, list.parentSpanId],
      ['GET /v1/management/api-clients', kinds.server, spanId],
    );
    const missing = await stack.manage('GET', stack.adminKey, '/987654');
    const problem = await spanOf(missing.json['request_id']);
    assert.equal(problem.name, 'GET /v1/management/api-clients/:id');
    assert.equal(problem.parentSpanId, '');
    assert.equal(problem.status, statuses.unset);
    assert.equal(problem.attributes['http.request.method'], 'GET');
    assert.equal(problem.attributes['http.route'], '/v1/management/api-clients/:id');
    assert.equal(problem.attributes['http.response.status_code'], 404);
    assert.match(String(problem.attributes['apigw.client_id']), /^[0-9a-f-]{36}$/);
    assert.deepEqual(
      (await logLines(missing.json['request_id'])).map((line) => [line['msg'], line['trace_id']]),
      [['management call', problem.traceId]],
    );
    const refused = await stack.ask('/v1/management/api-clients');
    assert.equal((await spanOf(requestId(refused.headers))).attributes['http.response.status_code'], 401);
    assert.ok(inTrace(traceId).every(({ attributes }) => attributes['http.route'] !== '/readyz'));
  });

  const { traceId, spanId } = makeParent();
  for (const [what, traceparent] of [
    ['in capitals', `00-${traceId.toUpperCase()}A-${spanId}-01`.replace('A-', '-')],
    ['without a trace', `00-${'0'.repeat(32)}-${spanId}-01`],
    ['without a span', `00-${traceId}-${'0'.repeat(16)}-01`],
    ['of another version', `01-${traceId}-${spanId}-01`],
    ['of no version', `ff-${traceId}-${spanId}-01`],
    ['that goes on', `00-${traceId}-${spanId}-01-more`],
    ['that is too short', `00-${traceId.slice(1)}-${spanId}-01`],
    ['that is something else', 'zz'],
    ['with a tab in it', `00-${traceId}-${spanId}-\t01`],
  ] as const) {
    test(`begin anew with a traceparent ${what}; the application gets it as it came`, async () => {
      const headers = { traceparent, tracestate: 'v=1' };
      const answer = await stack.ask('/x', { key: stack.adminKey, headers });
      assert.equal(answer.status, 200);
      const span = await spanOf(requestId(answer.headers));
      assert.deepEqual([span.parentSpanId, span.traceState], ['', '']);
      assert.notEqual(span.traceId, traceId);
      const seen = stack.application.seen.at(-1)?.headers;
      assert.deepEqual([seen?.['traceparent'], seen?.['tracestate']], [[traceparent], ['v=1']]);
    });
  }

  test('reach the application as the client sent them, and not at all when it sent none', async () => {
    const { traceparent } = makeParent();
    await stack.ask('/x', { key: stack.adminKey, headers: { traceparent, tracestate: 'a=1,b=2' } });
    const seen = stack.application.seen.at(-1)?.headers;
    assert.deepEqual([seen?.['traceparent'], seen?.['tracestate']], [[traceparent], ['a=1,b=2']]);
    await stack.ask('/x', { key: stack.adminKey });
    assert.equal(stack.application.seen.at(-1)?.headers['traceparent'], undefined);
  });

  test(
    'take no grant out of the decision cache: its key has nothing of them',
    { skip: form !== 'decision-cache' },
    async () => {
      const { key } = await createClient({});
      const hasSpan = (id: string) => collector.spans.some(({ attributes }) => attributes['apigw.request_id'] === id);
      await until(
        'nginx answers by itself, although each request has another trace',
        async () => {
          const { headers } = await stack.ask('/x', { key, headers: { traceparent: makeParent().traceparent } });
          // exported after it
          await spanOf(requestId((await stack.ask('/x')).headers));
          return !hasSpan(requestId(headers));
        },
        20_000,
      );
    },
  );

  test('hold no credential, wherever a client puts one', async () => {
    const { key } = await createClient({});
    const { traceparent } = makeParent();
    const tracestate = `key=${stack.adminKey},jwt=${tokenFor('x')}`;
    const answers = [
      await stack.ask(`/${key}`, { key, headers: { traceparent, tracestate } }),
      await stack.ask('/x', { key: `${key.slice(0, -1)}x`, headers: { traceparent, tracestate: key } }),
      await stack.ask('/x', { headers: { Authorization: `Bearer ${tokenFor(key)}` } }),
      await stack.manage('GET', key, `/${stack.adminKey}`, { headers: { traceparent, tracestate } }),
    ];
    for (const { headers } of answers) await spanOf(requestId(headers));
    const sent = Buffer.concat(collector.bodies).toString('latin1');
    assert.ok(secrets.length > 10);
    for (const secret of secrets) {
      assert.ok(!sent.includes(secret.slice(0, 20)), secret);
      for (const encoding of ['hex', 'base64', 'base64url'] as const)
        assert.ok(!sent.includes(createHash('sha256').update(secret).digest(encoding)), `the digest of ${secret}`);
    }
  });
});
