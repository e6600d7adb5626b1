import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { createOpenApiDocument } from '../../src/http/openapi/document.ts';
import type {
  ExampleObject,
  JsonSchema,
  OperationObject,
  ParameterObject,
  Referenced,
  ResponseObject,
} from '../../src/http/openapi/openapi.ts';
import type { Answer, Ask } from '../support/front-door.ts';
import { madeUpKey } from '../support/keys.ts';
import { form, startTestStack, until, type TestStack } from '../support/stack.ts';

type Json = Record<string, unknown>;

/** An operation with what it refers to in place. */
interface Call {
  readonly method: string;
  readonly path: string;
  readonly operation: OperationObject;
  readonly parameters: readonly ParameterObject[];
  readonly responses: Readonly<Record<string, ResponseObject>>;
}

/** One example: what is sent and what comes back. */
interface Exchange {
  readonly name: string;
  readonly status: string;
  readonly mediaType: string | undefined;
  readonly parameters: Json;
  readonly body: unknown;
  readonly answer: ExampleObject | undefined;
  /** Whether the document has all of the request; else its cause is below. */
  readonly isWhole: boolean;
}

/** An API client of this gateway. */
interface Client {
  readonly id: number;
  readonly keyId: number;
  readonly token: string;
}

const document = createOpenApiDocument();
const calls = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]): Call => ({
    method: method.toUpperCase(),
    path,
    operation,
    parameters: (operation.parameters ?? []).map((one) => resolve(one, document.components.parameters)),
    responses: Object.fromEntries(
      Object.entries(operation.responses).map(([status, one]) => [status, resolve(one, document.components.responses)]),
    ),
  })),
);
const creation = calls.find(({ operation }) => operation.operationId === 'createApiClient');
const billingRequest = creation?.operation.requestBody?.content['application/json']?.examples?.['billing']
  ?.value as Json;
const exampleToken = (creation?.responses['201']?.content?.['application/json']?.examples?.['billing']?.value as Json)[
  'token'
] as string;

/** A member that is not documented is a fault here, though it is none for a client. */
const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
ajv.addSchema(
  { ...document, components: { ...document.components, schemas: close(document.components.schemas) } },
  'doc',
);

const ofTransport = ['server', 'date', 'connection', 'content-type', 'content-length', 'transfer-encoding'];
const ofPage = ['content-security-policy', 'referrer-policy', 'x-content-type-options'];

/** An address of this machine that nobody has used: what is limited by address is so for each example by itself. */
let addresses = 1;
function nextAddress(): string {
  addresses += 1;
  return `127.0.${Math.floor(addresses / 200) + 1}.${(addresses % 200) + 1}`;
}

suite('the OpenAPI document of a gateway', () => {
  let stack: TestStack;
  let admin: Client;
  let ordinary: string;
  before(async () => {
    stack = await startTestStack();
    admin = await create({ name: 'operator', is_admin: true }, stack.adminKey);
    // so that there is a last administrator, which a bootstrap key is not
    await remove(1);
    ordinary = (await create({ name: 'ordinary' })).token;
  });
  after(() => stack.stop());

  test('is for administrators, and is the one that is tested here', async () => {
    const path = '/v1/management/openapi.json';
    assert.equal((await stack.ask(path)).status, 401);
    assert.equal((await stack.ask(path, { key: ordinary })).status, 403);
    const { status, headers, json } = await stack.ask(path, { key: admin.token });
    assert.deepEqual([status, headers['content-type']], [200, 'application/json; charset=utf-8']);
    assert.equal(headers['cache-control'], 'no-store');
    assert.deepEqual(json, JSON.parse(JSON.stringify(document)));
    assert.equal((await stack.ask(path, { key: admin.token, method: 'POST' })).status, 405);
  });

  for (const call of calls) {
    for (const exchange of exchangesOf(call)) {
      const { operationId } = call.operation;
      test(`${operationId}: ${exchange.status} ${exchange.name}`, async () => {
        const billing =
          operationId === 'createApiClient' && exchange.status === '201' ? undefined : await create(billingRequest);
        try {
          const answer = await perform(call, exchange, billing);
          expectDocumented(call, exchange, answer);
          if (!billing) await remove(answer.json['id'] as number);
        } finally {
          if (billing) await remove(billing.id);
        }
      });
    }
  }

  test('has 503 for a gateway that does not answer', async () => {
    const unavailable = calls.map((call) => {
      const found = problemsOf(call).find(({ name }) => name === 'gateway_unavailable');
      return [call, found ?? assert.fail(call.operation.operationId)] as const;
    });
    const pids = stack.gatewayPids();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      await Promise.all(
        unavailable.map(async ([call, exchange]) => {
          const ask = { method: call.method, key: admin.token, localAddress: nextAddress() };
          expectDocumented(call, exchange, await stack.ask(fill(call.path, {}), ask));
        }),
      );
    } finally {
      for (const pid of pids) process.kill(pid, 'SIGCONT');
    }
    await until('the gateway answers again', async () => (await stack.ask('/livez')).status === 200);
  });

  async function create(request: Json, by = admin.token): Promise<Client> {
    const { status, json, body } = await stack.manage('POST', by, '', { json: request });
    assert.equal(status, 201, body);
    const id = json['id'] as number;
    const [key] = (await stack.manage('GET', by, `/${id}/keys`)).json as unknown as [Json];
    return { id, keyId: key['id'] as number, token: json['token'] as string };
  }

  async function remove(id: number): Promise<void> {
    const { status } = await stack.manage('DELETE', admin.token, `/${id}`);
    assert.ok(status === 204 || status === 404);
  }

  /** For a call that is about one. */
  async function refusedRequest(path: string): Promise<string | undefined> {
    if (!path.includes('{request_id}')) return undefined;
    const { headers } = await stack.ask('/', { headers: { Authorization: 'Basic eDp5' } });
    return headers['x-request-id'] as string;
  }

  async function perform(call: Call, exchange: Exchange, billing: Client | undefined): Promise<Answer> {
    const { method, path, parameters } = call;
    const of = (place: string) =>
      parameters
        .filter((one) => one.in === place && exchange.parameters[one.name] !== undefined)
        .map(({ name }): [string, string] => [name, String(exchange.parameters[name])]);
    const ids = {
      id: billing?.id,
      key_id: billing?.keyId,
      reason: 'unknown_key',
      request_id: await refusedRequest(path),
    };
    const body =
      exchange.body === undefined
        ? undefined
        : JSON.stringify(exchange.body).replaceAll(exampleToken, billing?.token ?? '');
    const ask: Ask = {
      method,
      key: call.operation.security ? undefined : admin.token,
      body,
      headers: {
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...Object.fromEntries(of('header')),
      },
      localAddress: nextAddress(),
    };
    const query = new URLSearchParams(of('query')).toString();
    if (exchange.isWhole) return stack.ask(`${fill(path, ids)}${query && `?${query}`}`, ask);
    const cause = causes[exchange.name] ?? assert.fail(`nothing causes ${exchange.name}`);
    const { ids: others, query: otherQuery = '', ...change } = await cause({ call, billing: billing ?? assert.fail() });
    return stack.ask(`${fill(path, { ...ids, ...others })}${otherQuery}`, { ...ask, ...change });
  }

  interface Cause extends Ask {
    readonly ids?: Readonly<Record<string, number | string>>;
    readonly query?: string;
  }

  const requestOf = ({ operation }: Call) =>
    Object.values(operation.requestBody?.content['application/json']?.examples ?? {})[0]?.value as Json;
  const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString();

  /** By reason: how to be refused with it. */
  const causes: Record<string, (at: { call: Call; billing: Client }) => Cause | Promise<Cause>> = {
    no_credential: () => ({ key: undefined }),
    admin_required: () => ({ key: ordinary }),
    invalid_json: () => ({ body: '{"name": ', headers: { 'Content-Type': 'application/json' } }),
    invalid_body: ({ call }) => ({ json: { ...requestOf(call), colour: 'blue' } }),
    invalid_parameter: () => ({ query: '?fields=name', json: {} }),
    invalid_id: () => ({ ids: { id: '01' }, json: {} }),
    invalid_idempotency_key: () => ({ headers: { 'Idempotency-Key': 'short' }, json: {} }),
    not_an_api_key: () => ({ json: { token: 'a.b.c' } }),
    unknown_api_client: () => ({ ids: { id: 999_999 }, json: {} }),
    unknown_api_key: () => ({ ids: { key_id: 999_999 } }),
    unknown_key: () => ({ json: { token: madeUpKey(999_999) } }),
    duplicate_api_client_id: async () => {
      const { json } = await stack.manage('GET', admin.token, `/${admin.id}`);
      return { json: { api_client_id: json['api_client_id'] } };
    },
    last_admin: ({ call }) => ({
      ids: { id: admin.id, key_id: admin.keyId },
      ...(call.method === 'PUT' && { json: { is_admin: false } }),
      ...(call.method === 'POST' && { json: { overlap: 0, expires_at: inAnHour() } }),
      ...(call.path.endsWith('/apply') && { query: '?prune=true', json: { version: 1, clients: [] } }),
    }),
    too_many_keys: async ({ billing }) => {
      for (let count = 1; count < 20; count++) await stack.manage('POST', admin.token, `/${billing.id}/keys`);
      return { json: {} };
    },
    unknown_decision: () => ({ ids: { request_id: '0'.repeat(32) } }),
    unknown_reason: () => ({ ids: { reason: 'bad_weather' } }),
    revision_changed: () => ({ query: '?revision=0', json: { version: 1, clients: [] } }),
    id_taken: () => ({ json: { version: 1, clients: [{ id: 1, api_client_id: 'late' }] } }),
    body_too_large: ({ call }) => ({
      body: Buffer.alloc((call.path.endsWith('/apply') ? 16 : 1 / 16) * 1024 * 1024 + 1, ' '),
      headers: { 'Content-Type': 'application/json' },
    }),
    unsupported_media_type: () => ({ body: '{}', headers: { 'Content-Type': 'text/plain' } }),
    idempotency_key_reused: async () => {
      const headers = { 'Idempotency-Key': 'one-for-two-calls' };
      const { json } = await stack.manage('POST', admin.token, '', { json: { name: 'first' }, headers });
      await remove(json['id'] as number);
      return { json: { name: 'second' }, headers };
    },
    rate_limited: async ({ call }) => {
      const localAddress = nextAddress();
      const ask = { method: call.method, localAddress, json: {} };
      await until('the address is limited', async () => (await stack.ask(call.path, ask)).status === 429);
      return ask;
    },
  };
});

function exchangesOf(call: Call): Exchange[] {
  return [...successesOf(call), ...problemsOf(call).filter(({ name }) => name !== 'gateway_unavailable')];
}

/** Those with one name belong together. What 202 needs is a gateway that is behind: test/management/wait.test.ts. */
function successesOf({ operation, parameters, responses }: Call): Exchange[] {
  const [status, response] =
    Object.entries(responses).find(([code]) => Number(code) < 400 && code !== '202') ?? assert.fail();
  const [mediaType, content] = Object.entries(response.content ?? {})[0] ?? [];
  const bodies = operation.requestBody?.content['application/json']?.examples ?? {};
  const names = new Set([
    ...[bodies, content?.examples ?? {}, ...parameters.map(({ examples = {} }) => examples)].flatMap(Object.keys),
  ]);
  return (names.size > 0 ? [...names] : ['done']).map((name) => ({
    name,
    status,
    mediaType,
    parameters: Object.fromEntries(parameters.map((one) => [one.name, one.examples?.[name]?.value])),
    body: bodies[name]?.value,
    answer: content?.examples?.[name],
    isWhole: true,
  }));
}

function problemsOf({ responses }: Call): Exchange[] {
  const mediaType = 'application/problem+json';
  return Object.entries(responses).flatMap(([status, { content = {} }]) =>
    Object.entries(content[mediaType]?.examples ?? {}).map(([name, answer]) => ({
      name,
      status,
      mediaType,
      parameters: answer['x-request']?.parameters ?? {},
      body: answer['x-request']?.body,
      answer,
      isWhole: answer['x-request'] !== undefined,
    })),
  );
}

/** The answer is what the document says: its status, headers and body, and its example but for ids, times and secrets. */
function expectDocumented(call: Call, { status, mediaType, answer: example }: Exchange, answer: Answer): void {
  assert.equal(String(answer.status), status, answer.body);
  const response = call.responses[status] ?? assert.fail();
  expectHeaders(response, answer, call.path);
  if (mediaType === undefined) {
    assert.equal(answer.body, '');
    return;
  }
  assert.equal(answer.headers['content-type']?.split(';')[0], mediaType);
  const body = mediaType.endsWith('json') ? (answer.json as unknown) : answer.body;
  expectValid(pointerTo(call, status, mediaType), body);
  // with two workers there are two gateways to be listed
  if (example && !(form === 'workers' && call.path.endsWith('/gateways')))
    assert.deepEqual(normalise(body), normalise(example.value));
}

function expectHeaders({ headers }: ResponseObject, answer: Answer, path: string): void {
  for (const [name, { $ref }] of Object.entries(headers)) {
    const { required = false } = resolve({ $ref }, document.components.headers);
    const value = answer.headers[name.toLowerCase()];
    assert.ok(value !== undefined || !required, `${name} is missing`);
    if (value !== undefined) expectValid(`doc${$ref}/schema`, value);
  }
  const known = [...Object.keys(headers).map((name) => name.toLowerCase()), ...ofTransport];
  const more = /\/(?:reference|problems)/.test(path) ? ofPage : [];
  const unknown = Object.keys(answer.headers).filter((name) => ![...known, ...more].includes(name));
  assert.deepEqual(unknown, []);
}

function expectValid(pointer: string, value: unknown): void {
  const validate = ajv.getSchema(pointer) ?? assert.fail(`there is no ${pointer}`);
  assert.ok(validate(value), `${ajv.errorsText(validate.errors)}: ${JSON.stringify(value)}`);
}

function pointerTo({ path, method, operation }: Call, status: string, mediaType: string): string {
  const response = operation.responses[status] ?? assert.fail();
  const escape = (text: string) => encodeURIComponent(text.replaceAll('~', '~0').replaceAll('/', '~1'));
  const place =
    '$ref' in response ? response.$ref : `#/paths/${escape(path)}/${method.toLowerCase()}/responses/${status}`;
  return `doc${place}/content/${escape(mediaType)}/schema`;
}

const ofThisGateway = [
  ...['id', 'api_key_id', 'api_client_entity_id', 'token', 'hint', 'request_id'],
  ...['actor_id', 'client_id', 'revision', 'applied_revision', 'gateway'],
];

/** What differs from gateway to gateway, by its kind. */
function normalise(value: unknown, name = ''): unknown {
  if (Array.isArray(value)) return value.map((one) => normalise(one));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, normalise(member, key)]));
  if (ofThisGateway.includes(name)) return typeof value;
  if (typeof value === 'string' && /^20[0-8]\d-\d\d-\d\dT[\d:.]+Z$/.test(value)) return 'a time';
  return value;
}

function close(schemas: Readonly<Record<string, JsonSchema>>): unknown {
  return JSON.parse(JSON.stringify(schemas), (_, value: unknown) =>
    typeof value === 'object' && value !== null && 'properties' in value && !('additionalProperties' in value)
      ? { ...value, additionalProperties: false }
      : value,
  );
}

function fill(path: string, ids: Readonly<Record<string, number | string | undefined>>): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => String(ids[name] ?? 1));
}

function resolve<T extends object>(value: Referenced<T>, components: Readonly<Record<string, T>>): T {
  if (!('$ref' in value)) return value;
  return components[value.$ref.split('/').at(-1) ?? ''] ?? assert.fail(`there is no ${value.$ref}`);
}
