import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { suite, test } from 'node:test';
import { denialDetails } from '../../src/auth/decision.ts';
import { policySettings } from '../../src/auth/policy.ts';
import { gatewayCommand } from '../../src/local/stack.ts';
import { root } from '../support/stack.ts';

/** Which rooms a room may import from, besides itself. The files at the top are rooms of their own. */
const allowed: Record<string, readonly string[]> = {
  auth: ['duration'],
  clients: ['auth'],
  store: ['clients', 'database-address', 'histogram', 'pem'],
  oidc: ['auth'],
  http: ['auth', 'clients', 'config', 'duration', 'histogram', 'log', 'problem', 'reasons', 'redact'],
  local: ['http', 'config', 'package-root'],
  config: ['database-address', 'nearest-name', 'trace-settings'],
  'database-address': [],
  'trace-settings': [],
  log: ['config', 'redact'],
  pem: [],
  problem: [],
  reasons: [],
  redact: [],
  'nearest-name': [],
  duration: [],
  histogram: [],
  'package-root': [],
  version: ['package-root'],
  metrics: ['auth', 'clients', 'store', 'oidc', 'http', 'histogram'],
  tracing: ['auth', 'http', 'oidc', 'log', 'redact', 'trace-settings'],
  app: ['auth', 'clients', 'store', 'oidc', 'http', 'config', 'log', 'metrics', 'tracing', 'version', 'workers'],
  workers: ['http', 'config', 'log'],
  operator: ['auth', 'clients', 'config', 'http', 'log', 'oidc', 'store'],
  main: ['app', 'workers', 'config', 'database-address', 'log', 'trace-settings', 'tracing', 'version'],
  cli: [
    'auth',
    'clients',
    'store',
    'http',
    'local',
    'config',
    'database-address',
    'duration',
    'operator',
    'package-root',
    'pem',
    'problem',
    'reasons',
    'redact',
    'version',
  ],
};

const src = join(root, 'src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
const roomOf = (file: string) => file.split('/')[0]?.replace(/\.ts$/, '') ?? '';
const read = (file: string) => readFileSync(join(src, file), 'utf8');

suite('the source', () => {
  for (const file of files) {
    test(`${file} imports in the right direction`, () => {
      const imports = Array.from(read(file).matchAll(/(?:from |import\()'(\.[^']+)'/g), (match) =>
        normalize(join(dirname(file), match[1] ?? '')),
      );
      for (const imported of imports) {
        const [from, to] = [roomOf(file), roomOf(imported)];
        assert.ok(from === to || allowed[from]?.includes(to), `${file} imports ${imported}`);
      }
    });
  }

  test('names each database driver in one file and the database library in the store', () => {
    const mentions = (text: string) => files.filter((file) => read(file).includes(text));
    assert.deepEqual(mentions("'sqlite3'"), ['store/sqlite.ts']);
    assert.deepEqual(mentions("from 'pg'"), ['store/postgres-connection.ts']);
    assert.ok(mentions("from 'knex'").every((file) => file.startsWith('store/')));
    assert.ok(mentions("from 'koa'").every((file) => file.startsWith('http/')));
    assert.deepEqual(mentions("from 'prom-client'"), ['metrics.ts']);
    assert.deepEqual(mentions("'@opentelemetry/"), ['tracing.ts']);
  });

  test('loads what makes traces in one place, when they are wanted', () => {
    const loads = files.flatMap((file) => read(file).match(/^.*'\.[^']*\/tracing\.ts'.*$/gm) ?? []);
    assert.deepEqual(
      loads.filter((line) => !line.startsWith('import type ')).map((line) => line.trim()),
      ["const { startTracing } = await import('./tracing.ts');"],
    );
  });
});

test('the gateway is started with the same limit of its memory everywhere', () => {
  const [, limit = ''] = gatewayCommand(root);
  for (const file of ['package.json', 'docker/gateway/Dockerfile', 'systemd/apigw-gateway.service']) {
    const line = readFileSync(join(root, file), 'utf8')
      .split('\n')
      .find((text) => /node\b.*dist\/main\.js/.test(text));
    assert.ok(line?.includes(limit), `${file}: ${line}`);
  }
});

test('nginx words every reason for a denial as the gateway does', () => {
  const snippet = readFileSync(join(root, 'nginx/snippets/problems.conf'), 'utf8');
  const table = /map \$reason \$problem_detail \{([^}]*)\}/.exec(snippet)?.[1] ?? '';
  const worded: Record<string, unknown> = Object.fromEntries(
    [...table.matchAll(/^ +([a-z_]+) +"([^"]+)";$/gm)].map(([, code = '', words]) => [code, words]),
  );
  assert.deepEqual(worded, denialDetails);
});

suite('the settings of a policy', () => {
  const nginx = (file: string) => readFileSync(join(root, 'nginx', file), 'utf8');
  const headerOf = (setting: string) => `x-policy-${setting.replaceAll('_', '-')}`;
  const headersIn = (file: string) =>
    [...nginx(file).matchAll(/^proxy_set_header (X-Policy\S*)\s+"";$/gm)].map(([, header = '']) =>
      header.toLowerCase(),
    );

  test('are all in default.conf, as maps by server name', () => {
    const maps = [...nginx('conf.d/default.conf').matchAll(/^map \$server_name \$(\w+)/gm)].map(([, name]) => name);
    assert.deepEqual(maps.sort(), [...policySettings].sort());
  });

  test('are all handed to the gateway, each under its own name', () => {
    const line = /^proxy_set_header X-Policy "(.*)";$/m.exec(nginx('snippets/policy.conf'))?.[1];
    assert.equal(line, policySettings.map((setting) => `${setting}=$${setting}`).join('\\t'));
  });

  // a setting that is not in the key would be decided once for all its values
  test('are all in the key of the decision cache', () => {
    const key = /^proxy_cache_key "(.*)";$/m.exec(nginx('snippets/decision.conf'))?.[1];
    const settings = policySettings.map((setting) => `$${setting}`);
    assert.equal(key, ['$http_authorization', '$server_name', ...settings].join('\\n'));
  });

  test('reach no application as headers', () => {
    assert.deepEqual(headersIn('snippets/proxy.conf'), ['x-policy', ...policySettings.map(headerOf)]);
  });

  test('are all documented', () => {
    const page = readFileSync(join(root, 'docs/openid-connect.md'), 'utf8');
    for (const setting of policySettings) assert.ok(page.includes(`| \`$${setting}\``), setting);
  });
});
