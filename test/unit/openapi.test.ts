import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { createConfig, lintFromString } from '@redocly/openapi-core';
import type { Middleware } from 'koa';
import { denialDetails, publicReasons } from '../../src/auth/decision.ts';
import { createManagementApp, type ManagementAppOptions } from '../../src/http/management-app.ts';
import { createOpenApiDocument } from '../../src/http/openapi/document.ts';
import { operations } from '../../src/http/openapi/operations.ts';
import { problems, problemsOfAll, problemsOfCredentials } from '../../src/http/openapi/problems.ts';
import { root } from '../support/stack.ts';

const read = (file: string) => readFileSync(join(root, file), 'utf8');

suite('the OpenAPI document', () => {
  test('has every route of the management listener, and no other', () => {
    // what a route does is not asked here, so nothing is behind them
    const app = createManagementApp({ api: {} } as ManagementAppOptions);
    const routes = app.middleware.flatMap((one) => stackOf(one)).map(([method, path]) => `${method} ${path}`);
    const documented = operations.map(({ method, path }) => `${method} ${path.replace(/\{\w+\}/g, '{}')}`);
    // nginx has no location that leads to these
    const isPrivate = (route: string) => ['get /metrics', 'get /denials/{}'].includes(route);
    assert.deepEqual(routes.filter((route) => !isPrivate(route)).sort(), documented.sort());
  });

  test('has no warning of the linter, but for what is as it is meant', async () => {
    const config = await createConfig({
      extends: ['recommended'],
      // the product has no licence to name
      rules: { 'info-license': 'off' },
    });
    const source = JSON.stringify(createOpenApiDocument(), null, 2);
    const found = await lintFromString({ source, absoluteRef: join(root, 'docs/openapi.json'), config });
    const lines = found.map(({ ruleId, location: [place] }) => `${ruleId} ${place?.pointer ?? ''}`);
    assert.deepEqual(lines, [
      // nothing about a question without parameters and credentials can be wrong
      'operation-4xx-response #/paths/~1livez/get/responses',
      'operation-4xx-response #/paths/~1readyz/get/responses',
      'operation-4xx-response #/paths/~1v1~1management~1problems/get/responses',
    ]);
  });

  test('is what docs/openapi.json has; npm run docs writes it', () => {
    assert.equal(read('docs/openapi.json'), `${JSON.stringify(createOpenApiDocument(), null, 2)}\n`);
  });

  test('refuses no body that is taken, and takes none that is refused but for what only words can say', () => {
    const document = createOpenApiDocument();
    const ajv = new Ajv2020({ strict: false });
    addFormats.default(ajv);
    ajv.addSchema(document, 'doc');
    const differences = new Set<string>();
    for (const { path, method, operationId, body } of operations) {
      const reference = document.paths[path]?.[method]?.requestBody?.content['application/json']?.schema.$ref;
      if (!body || reference === undefined) continue;
      const validate = ajv.getSchema(`doc${reference}`) ?? assert.fail(reference);
      const { properties = {} } = document.components.schemas[reference.split('/').at(-1) ?? ''] ?? {};
      const needed = {
        ...('token' in properties && { token: 'x' }),
        ...('rate_limit' in properties && { rate_limit: '1/s' }),
      };
      for (const member of Object.keys(properties)) {
        for (const [what, value] of Object.entries(values)) {
          const candidate = { ...needed, [member]: value };
          const isTaken = body.schema.safeParse(candidate).success;
          if (!isTaken && (validate(candidate) as boolean)) differences.add(`${member}: ${what}`);
          assert.ok(!isTaken || validate(candidate), `${operationId} takes ${member}: ${what}`);
        }
      }
    }
    assert.deepEqual([...differences].sort(), [
      'allowed_cidrs: IPv4 in IPv6 form',
      'allowed_cidrs: bits beyond the prefix',
      'api_client_id: an emoji',
      'api_client_id: too long for a header',
      'description: an emoji',
      'expires_at: past',
      'name: an emoji',
      'overlap: 367d',
    ]);
  });

  test('has an example of each call, by its answer', () => {
    // the document and the page are their own
    const without = operations.filter(({ examples }) => Object.keys(examples).length === 0);
    assert.deepEqual(
      without.map(({ operationId }) => operationId),
      ['exportApiClients', 'getOpenApiDocument', 'getReference', 'listReasons', 'getReason'],
    );
  });

  test('has every reason that a call can be refused with', () => {
    const all = { ...problems, ...problemsOfCredentials, ...problemsOfAll };
    const thrown = readdirSync(join(root, 'src/http'))
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => [...read(`src/http/${file}`).matchAll(/new Problem\(\s*(\d+),\s*'(\w+)'/g)])
      .map(([, , reason = '']) => reason);
    const denials = Object.keys(denialDetails).map(
      (reason) => publicReasons[reason as keyof typeof publicReasons] ?? reason,
    );
    assert.ok(thrown.length > 10);
    // of paths that are none, and of the metrics
    const elsewhere = ['not_found', 'method_not_allowed', 'metrics_incomplete'];
    for (const reason of [...thrown, ...denials].filter((one) => !elsewhere.includes(one)))
      assert.ok(reason in all, reason);
    const used = new Set(operations.flatMap(({ problems: reasons }) => reasons));
    assert.deepEqual(
      Object.keys(problems).filter((reason) => !used.has(reason as keyof typeof problems)),
      [],
    );
  });

  test('has the reasons that docs/management-api.md has', () => {
    const [, table = ''] = /\n## Errors\n([^]*?)\n## /.exec(read('docs/management-api.md')) ?? [];
    const told = [...table.matchAll(/`([a-z_]+)`/g)].map(([, reason = '']) => reason);
    for (const [reason, { status }] of Object.entries({ ...problems, ...problemsOfAll })) {
      const row = table.split('\n').find((line) => line.startsWith(`| ${status} |`));
      assert.ok(row?.includes(`\`${reason}\``), reason);
    }
    assert.ok(told.length > 15);
  });
});

const values: Readonly<Record<string, unknown>> = {
  ...Object.fromEntries(
    ['', 'a', ' a', 'a ', 'two words', 'true', 'false', 'yes', '0', '24h', '1w', '366d', '367d', '100/s', '0/s', '5/w']
      .concat(['192.0.2.0/24', '2099-01-31', '2099-02-30T00:00:00Z', '2099-01-31T00:00:00+02:00', '::1', '192.0.2.7'])
      .map((text) => [text, text]),
  ),
  past: '2020-01-31T00:00:00+02:00',
  'an emoji': '\u{1f916}',
  'two lines': 'a\nb',
  '1,024 characters': 'x'.repeat(1_024),
  '1,025 characters': 'x'.repeat(1_025),
  'too long for a header': '\u8a9e'.repeat(1_024),
  'a lone true': true,
  'a lone false': false,
  null: null,
  ...Object.fromEntries(
    [0, 1, -1, 1.5, 31_622_400, 31_622_401, 999_999_999, 1e9].map((value) => [`number ${value}`, value]),
  ),
  'an object': {},
  'an empty list': [],
  'a list of a number': [1],
  'a list of one': ['a'],
  'one twice': ['a', 'a'],
  'a space in one': ['a b'],
  '64 characters in one': ['x'.repeat(64)],
  '65 characters in one': ['x'.repeat(65)],
  '33 members': Array.from({ length: 33 }, (_, index) => `t${index}`),
  blocks: ['192.0.2.0/24', '2001:db8::/32'],
  'bits beyond the prefix': ['192.0.2.7/24'],
  'IPv4 in IPv6 form': ['::ffff:192.0.2.0/120'],
};

function stackOf(middleware: Middleware): [string, string][] {
  const router = (middleware as { router?: { stack: { methods: string[]; path: string }[] } }).router;
  // allowedMethods() has no routes of its own, and HEAD comes with GET
  return (router?.stack ?? []).flatMap(({ methods, path }) =>
    methods
      .filter((method) => method !== 'HEAD')
      .map((method): [string, string] => [method.toLowerCase(), path.replace(/:\w+/g, '{}').replace(/(?<=.)\/$/, '')]),
  );
}
