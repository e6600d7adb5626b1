import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { parse } from 'yaml';
import { parseMetrics } from '../../bench/parts/metrics.ts';
import { madeUpKey } from '../support/keys.ts';
import { expand, nameOf, readDashboard, startMonitoredStack, type MonitoredStack } from '../support/monitoring.ts';
import { makeTempDir, root, until } from '../support/stack.ts';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

const folder = join(root, 'monitoring');
const read = (file: string) => readFileSync(join(folder, file), 'utf8');
const { groups } = parse(read('alerts.yml')) as { groups: { rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);
const dashboard = readDashboard();
const queries = dashboard.panels.flatMap(({ title, targets }) =>
  targets.map(({ expr, legendFormat }) => ({ title, expr, legendFormat })),
);
const promtool = (...args: string[]) =>
  execFileSync('promtool', args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });

suite('the alert rules', () => {
  test('are rules', () => {
    assert.match(promtool('check', 'rules', 'alerts.yml'), new RegExp(`SUCCESS: ${rules.length} rules found`));
  });

  test('fire when they should and at no other time, each of them', () => {
    assert.match(promtool('test', 'rules', 'alerts.test.yml'), /SUCCESS/);
    const tests = read('alerts.test.yml');
    for (const { alert } of rules) assert.ok(tests.includes(`alertname="${alert}"`), `${alert} is not tested`);
  });

  test('say what has happened and where it says what to do', () => {
    for (const { alert, labels, annotations } of rules) {
      assert.ok(['warning', 'critical'].includes(labels['severity'] ?? ''), alert);
      assert.ok(annotations['summary'] && annotations['description'], alert);
      const [page = '', heading] = (annotations['runbook_url'] ?? '').split('#');
      const text = readFileSync(join(root, page.replace('{{ $labels.reason }}', 'issuer_unavailable')), 'utf8');
      // of a reason the whole page
      if (heading === undefined) continue;
      const headings = Array.from(text.matchAll(/^#+ (.*)$/gm), ([, words = '']) => slug(words));
      assert.ok(headings.includes(heading), `${alert}: ${page} has no heading ${heading}`);
    }
  });
});

/** As the forges make it of a heading. */
function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');
}

suite('the configuration of Prometheus', () => {
  test('is one', () => {
    assert.match(promtool('check', 'config', 'prometheus.yml'), /SUCCESS: prometheus\.yml is valid/);
  });
});

suite('the dashboard', () => {
  test('has queries that Prometheus can read', () => {
    const file = join(makeTempDir(), 'queries.yml');
    const asRules = queries.map(({ expr }, index) => ({ record: `query:${index}`, expr: expand(expr, '1m') }));
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: asRules }] }));
    assert.match(promtool('check', 'rules', file), new RegExp(`SUCCESS: ${queries.length} rules found`));
  });

  test('has panels that do not overlap and fill the width of 24', () => {
    const taken = new Set<string>();
    for (const { title, gridPos } of dashboard.panels) {
      const { x, y, w, h } = gridPos;
      for (let column = x; column < x + w; column++) {
        for (let row = y; row < y + h; row++) {
          assert.ok(column < 24 && !taken.has(`${column},${row}`), title);
          taken.add(`${column},${row}`);
        }
      }
    }
    const height = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
    assert.equal(taken.size, 24 * height);
  });
});

suite('a real Prometheus that reads the gateway through nginx', () => {
  let monitored: MonitoredStack;
  before(async () => {
    monitored = await startMonitoredStack('1s');
  });
  after(() => monitored.stop());

  /** Something of everything. */
  async function ask(): Promise<void> {
    const { stack, provider } = monitored;
    const bearer = async (client: string) => ({
      headers: { Authorization: `Bearer ${await provider.token('ES256', client)}` },
    });
    await stack.ask('/', { key: stack.adminKey });
    await stack.ask('/', { key: madeUpKey(4711) });
    await stack.ask('/');
    await stack.ask('/', await bearer('abc123'));
    await stack.ask('/', await bearer('stranger'));
  }

  test('finds every metric and every label that the dashboard and the alert rules name', async () => {
    const json = { name: 'of the issuer', api_client_id: 'abc123', generate_api_key: false };
    assert.equal((await monitored.stack.manage('POST', monitored.stack.adminKey, '', { json })).status, 201);
    await ask();
    const samples = parseMetrics(await (await fetch(monitored.metricsUrl)).text());
    const ofPrometheus = ['job', 'instance'];
    for (const { expr, name } of [
      ...queries.map(({ expr, title }) => ({ expr, name: title })),
      ...rules.map(({ expr, alert }) => ({ expr, name: alert })),
    ]) {
      const selectors = [...expr.matchAll(/\b((?:apigw|process|nodejs)_\w+)(?:\{([^}]*)\})?/g)];
      assert.ok(selectors.length > 0 || /\bup\{/.test(expr), name);
      const known = new Set(ofPrometheus);
      for (const [, metric = '', matchers = ''] of selectors) {
        const found = samples.filter((sample) => sample.name === metric);
        assert.ok(found.length > 0, `${name}: there is no ${metric}`);
        for (const label of found.flatMap(({ labels }) => Object.keys(labels))) known.add(label);
        for (const [, label = ''] of matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g))
          assert.ok(known.has(label), `${name}: ${metric} has no label ${label}`);
      }
      for (const [, labels = ''] of expr.matchAll(/\bby \(([^)]*)\)/g))
        for (const label of labels.split(', ')) assert.ok(known.has(label), `${name}: by ${label}`);
    }
  });

  for (const { title, expr, legendFormat } of queries) {
    test(`has data for the panel "${title}" (${legendFormat})`, async () => {
      const { prometheus } = monitored;
      await until(
        expr,
        async () => {
          await ask();
          const series = await prometheus.query(expand(expr, '10s'));
          return series.some(({ values }) => values.some(([, value]) => Number.isFinite(value)));
        },
        30_000,
      );
      const [{ metric } = { metric: {} }] = await prometheus.query(expand(expr, '10s'));
      for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
        assert.ok(label in metric, `the legend has ${label}`);
      assert.doesNotMatch(nameOf(legendFormat, metric), /\{/);
    });
  }

  test('evaluates every alert rule, and what fires is what is the case', async () => {
    const { prometheus } = monitored;
    const evaluated = async () => {
      const { groups } = (await prometheus.get('rules')) as {
        groups: { rules: { name: string; health: string; state: string }[] }[];
      };
      return groups.flatMap((group) => group.rules);
    };
    await until('all are evaluated', async () => (await evaluated()).every(({ health }) => health === 'ok'));
    assert.equal((await evaluated()).length, rules.length);
    await until('the bootstrap key is noticed', async () =>
      (await evaluated()).some(({ name, state }) => name === 'ApigwBootstrapKey' && state === 'pending'),
    );
  });

  test('gets the metrics and nothing else, by no other method, and has no credential to show', async () => {
    const { metricsUrl, stack } = monitored;
    const status = async (path: string, init: RequestInit = {}) =>
      (await fetch(new URL(path, metricsUrl), init)).status;
    assert.equal(await status('/metrics'), 200);
    assert.equal(await status('/metrics', { method: 'POST' }), 403);
    const headers = { Authorization: `apk ${stack.adminKey}` };
    for (const path of [
      '/',
      '/readyz',
      '/v1/management/api-clients',
      '/metrics/',
      '/metrics/../v1/management/api-clients',
    ])
      assert.equal(await status(path, { headers }), 403, path);
  });
});

test('the page shows the server block that is shipped, and a picture', () => {
  const page = readFileSync(join(root, 'docs/monitoring.md'), 'utf8');
  const [, images = ''] = /!\[[^\]]*\]\(([^)]+)\)/.exec(page) ?? [];
  assert.ok(existsSync(join(root, 'docs', images)), images);
  const [, shipped = ''] = /^server \{[^\n]*\n([^]*)^\}/m.exec(read('metrics.conf')) ?? [];
  const [, shown = ''] = /```nginx\nserver \{[^\n]*\n([^]*?)^\}\n```/m.exec(page) ?? [];
  assert.equal(shown, shipped);
});
