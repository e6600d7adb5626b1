import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
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
    const app = createManagementApp({} as ManagementAppOptions);
    const routes = app.middleware.flatMap((one) => stackOf(one)).map(([method, path]) => `${method} ${path}`);
    const documented = operations.map(({ method, path }) => `${method} ${path.replace(/\{\w+\}/g, '{}')}`);
    // nginx has no location that leads to the metrics
    assert.deepEqual(routes.filter((route) => route !== 'get /metrics').sort(), documented.sort());
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
    ]);
  });

  test('is what docs/openapi.json has; npm run docs writes it', () => {
    assert.equal(read('docs/openapi.json'), `${JSON.stringify(createOpenApiDocument(), null, 2)}\n`);
  });

  test('has an example of each call, by its answer', () => {
    // the document and the page are their own
    const without = operations.filter(({ examples }) => Object.keys(examples).length === 0);
    assert.deepEqual(
      without.map(({ operationId }) => operationId),
      ['getOpenApiDocument', 'getReference'],
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
    for (const [reason, { status }] of Object.entries({ ...problems, ...problemsOfAll }).filter(
      ([one]) => one !== 'internal_error',
    )) {
      const row = table.split('\n').find((line) => line.startsWith(`| ${status} |`));
      assert.ok(row?.includes(`\`${reason}\``), reason);
    }
    assert.ok(told.length > 15);
  });
});

function stackOf(middleware: Middleware): [string, string][] {
  const router = (middleware as { router?: { stack: { methods: string[]; path: string }[] } }).router;
  // allowedMethods() has no routes of its own, and HEAD comes with GET
  return (router?.stack ?? []).flatMap(({ methods, path }) =>
    methods
      .filter((method) => method !== 'HEAD')
      .map((method): [string, string] => [method.toLowerCase(), path.replace(/:\w+/g, '{}').replace(/(?<=.)\/$/, '')]),
  );
}
