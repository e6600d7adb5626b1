import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import { generatedDocs } from '../../scripts/generate-docs.ts';
import { proxySettings } from '../../scripts/settings-page.ts';
import { denialDetails, publicReasons } from '../../src/auth/decision.ts';
import { reasons, type Reason } from '../../src/reasons.ts';
import { traceSettings } from '../../src/trace-settings.ts';
import { anchors, blocks, pages, read, transcript, withBlocks } from '../support/pages.ts';
import { makeTempDir, root, startTestStack } from '../support/stack.ts';
import { startUp, stopUp, withoutNpm, type Up } from '../support/up.ts';

const run = promisify(execFile);
/** What differs from run to run, by its shape. */
function normalise(text: string): string {
  return (
    text
      .trim()
      .replaceAll('\r\n', '\n')
      .replace(/\b[0-9]+\.(?:[A-Za-z0-9]{64}|[A-Za-z0-9]{4,6}\.\.\.)/g, '<key>')
      .replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<uuid>')
      .replace(/\b[0-9a-f]{32}\b/g, '<request id>')
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>')
      .replace(/[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT/g, '<date>')
      .replace(/@\d{10}\b/g, '<seconds>')
      .replace(/;t=\d+/g, ';t=<seconds>')
      .replace(/"hint":"\w{4}"/g, '"hint":<hint>')
      .replace(/ +$/gm, '')
      .replace(/ \.\.\.\w{4} /g, ' <hint> ')
      // stored a few seconds after the use
      .replace(/ (yes|no) {2}(?:-|<time>)$/gm, ' $1  <use>')
      .replace(/"(last_used_at|replaced_key_used_at)":(?:null|"<time>")/g, '"$1":<use>')
  );
}

/** A line of dots stands for any lines. */
function expectOutput(actual: string, documented: string, command: string): void {
  const pattern = normalise(documented)
    .split(/\n? *\.\.\.\n/)
    .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
    .join('[^]*\n');
  assert.match(normalise(actual), new RegExp(`^${pattern}$`), command);
}

suite('the documents', () => {
  test('of the README are under 250 lines, and no link leads nowhere', () => {
    assert.ok(read('README.md').split('\n').length < 250);
    for (const page of pages) {
      for (const [, path = '', anchor] of read(page).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)) {
        const target = path === '' ? page : join(dirname(page), path);
        assert.ok(existsSync(join(root, target)), `${page} links to ${path}`);
        if (anchor !== undefined) assert.ok(anchors(target).includes(anchor), `${page} links to ${path}#${anchor}`);
      }
    }
  });

  test('name tests that exist, for every guarantee of SECURITY.md', () => {
    const rows = read('SECURITY.md').match(/^\| \d+ \|.*$/gm) ?? [];
    assert.ok(rows.length >= 20);
    for (const row of rows) {
      const [, file = '', name = ''] = /\| (test\/[\w/-]+\.test\.ts) "(.+)" \|$/.exec(row) ?? [];
      assert.ok(read(file).includes(name), row);
    }
  });

  test('are all in the index', () => {
    const index = read('docs/README.md');
    const here = pages.filter((page) => dirname(page) === 'docs' && page !== 'docs/README.md');
    for (const page of here) assert.ok(index.includes(`](${basename(page)})`), page);
  });

  for (const page of pages.filter((name) => transcript(name).length > 0)) {
    test(`${page}: its commands do what it says`, async () => {
      const stateDir = makeTempDir();
      // the clone of whoever reads the page
      const clone = join(stateDir, 'clone');
      mkdirSync(join(clone, 'config'), { recursive: true });
      symlinkSync(join(root, 'nginx'), join(clone, 'nginx'));
      symlinkSync(stateDir, join(clone, '.apigw'));
      const up = await startUp(
        { APIGW_STATE_DIR: stateDir, APIGW_CONFIG_DIR: join(clone, 'config'), API_KEY_CREATE: 'true' },
        // test/up types it
        withoutNpm,
      );
      try {
        await play(page, up, stateDir, clone);
      } finally {
        await stopUp(up, stateDir);
        rmSync(stateDir, { recursive: true });
      }
    });
  }

  /** Types the commands one after the other into one shell; a key that is shown shortened is the one just received. */
  async function play(page: string, up: Up, stateDir: string, clone: string): Promise<void> {
    let newest = up.key();
    const clear = `http://localhost:${up.httpPort}`;
    // what the pages say it stands for
    const local = [
      `DATABASE_URL=sqlite:${stateDir}/apigw.db`,
      `APIGW_MANAGEMENT_LISTEN=unix:${realpathSync(join(stateDir, 'run'))}/management.sock`,
    ];
    const commands = [
      `apigw() { ${local.join(' ')} node ${join(root, 'dist/cli/main.js')} "$@"; }`,
      `npm() { APIGW_STATE_DIR=${stateDir} command npm --prefix ${root} "$@"; }`,
    ];
    let variables = `${commands.join('; ')}; KEY='${newest}'`;
    const bash = (script: string) => run('bash', ['--norc', '-c', script], { cwd: clone });
    for (const { command, output } of transcript(page)) {
      const typed = command
        .replaceAll('https://localhost:8443', up.url)
        .replaceAll('http://localhost:8080', clear)
        .replace(/'[0-9]+\.[A-Za-z0-9]+\.\.\.'/, () => `'${newest}'`);
      if (/^(?:[A-Z]+=\S+;? ?)+$/.test(typed)) {
        variables += `; ${typed}`;
        continue;
      }
      const script = `${variables}; ${typed.replaceAll('curl ', 'curl -sS ')}`;
      const [, assigned] = /^([A-Z]+)=\$\(/.exec(typed) ?? [];
      if (assigned !== undefined) {
        const { stdout: value } = await bash(`${script} && printf %s "$${assigned}"`);
        variables += `; ${assigned}='${value}'`;
        continue;
      }
      // doctor ends with 1 when it finds something
      const { stdout } = await bash(`${script}${typed.startsWith('apigw doctor') ? ' || true' : ''}`);
      expectOutput(
        stdout
          .replaceAll(up.url, 'https://localhost:8443')
          .replaceAll(clear, 'http://localhost:8080')
          .replaceAll(`:${up.httpsPort}`, ':8443'),
        output,
        command,
      );
      newest = /"token":"([^"]+)"/.exec(stdout)?.[1] ?? newest;
    }
  }

  test('start the product only in ways that are tested', () => {
    // those with containers are run by test/compose
    const here = pages.filter((page) => page !== 'docs/docker.md');
    const starts = here.flatMap((page) => blocks(page, 'sh')).flatMap((block) => block.trim().split('\n'));
    // each is run as it stands by test/up or by the caller of this test
    const tested = [
      /^docker compose up --build -d$/,
      /^npm run up$/,
      /^API_KEY_CREATE=true npm run up$/,
      /^npm run reload$/,
      /^APIGW_APP_UPSTREAM=127\.0\.0\.1:\d+ npm run up$/,
    ];
    for (const start of starts)
      assert.ok(
        tested.some((pattern) => pattern.test(start)),
        start,
      );
    assert.ok(starts.length >= tested.length);
  });

  test('name every setting of the proxy, with the defaults of the image and of the unit', () => {
    const [comment = ''] = read('nginx/stage.sh').split('\nset -eu');
    const known = [...comment.matchAll(/^# {3}(APIGW_\w+)(?:, (APIGW_\w+))? {2}/gm)].flatMap(([, ...names]) => names);
    assert.deepEqual(Object.keys(proxySettings).sort(), known.filter(Boolean).sort());
    const defaults = (file: string, lines: RegExp) =>
      [...read(file).matchAll(lines)].map(([, name = '', value = '']) => [name, `\`${value}\``] as const);
    const image = defaults('docker/proxy/Dockerfile', /^(?:ENV| ) (APIGW_\w+)=(\S+)/gm);
    const unit = defaults('systemd/apigw-proxy.service', /^Environment=(APIGW_\w+)=(\S+)/gm);
    assert.deepEqual([image.length, unit.length], [6, 6]);
    for (const [name, value] of image) assert.equal(proxySettings[name]?.docker, value, name);
    for (const [name, value] of unit) assert.equal(proxySettings[name]?.systemd, value, name);
  });

  test('name every variable for traces, and no other', () => {
    const rows = [...read('docs/tracing.md').matchAll(/^\| (`OTEL[^|]*`) \|/gm)];
    const named = rows.flatMap(([, cell = '']) => cell.replaceAll('`', '').split(', '));
    assert.deepEqual(named.sort(), Object.keys(traceSettings).sort());
  });

  test('that are made from tables are current: npm run docs', () => {
    for (const [path, text] of Object.entries(generatedDocs())) assert.equal(read(path), text, path);
    const files = readdirSync(join(root, 'docs/reasons')).map((file) => file.replace('.md', ''));
    assert.deepEqual(files.sort(), Object.keys(reasons).sort());
  });

  test('name every reason of a problem, with its status', () => {
    const known = new Map<string, Reason>(Object.entries(reasons));
    const documented = [...known.keys()];
    for (const [reason, toldAs] of Object.entries(publicReasons)) assert.equal(known.get(reason)?.toldAs, toldAs);
    const source = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.ts'),
    );
    const given = source.flatMap((file) => [
      ...read(join('src', file)).matchAll(/new Problem\(\s*(\d{3}),\s*'(\w+)'/g),
    ]);
    assert.ok(given.length > 20);
    // a code may come with two statuses: its page has the one that it comes with most
    for (const [, status, reason = ''] of given)
      assert.ok(known.get(reason)?.status === Number(status) || reason === 'unknown_key', `${reason} ${status}`);
    const [, ofStatus = ''] =
      /map \$status \$status_reason \{([^}]*)\}/.exec(read('nginx/snippets/problems.conf')) ?? [];
    const ofNginx = [...ofStatus.matchAll(/^ +\d{3} +"(\w+)";/gm)].map(([, reason = '']) => reason);
    assert.ok(ofNginx.length > 10);
    for (const reason of [...Object.keys(denialDetails), ...ofNginx, 'not_granted'])
      assert.ok(documented.includes(reason), reason);
  });

  test('show nginx blocks that work as they stand: docs/nginx.md and docs/protect.md', async () => {
    const documented = blocks('docs/protect.md', 'nginx');
    const reports = documented.find((block) => block.startsWith('  location /reports/')) ?? '';
    const [, rewrite = ''] = /`(rewrite [^`]+)`/.exec(read('docs/protect.md')) ?? [];
    const cut = reports.replace('{   # protected', `{   # protected\n    ${rewrite}`).replace('/reports/', '/cut/');
    const all = [...blocks('docs/nginx.md', 'nginx'), ...documented, cut.replace('^/reports/', '^/cut/')];
    const stack = await startTestStack({
      edit: (conf) =>
        // the other application is the same one, and the other proxy is this test
        withBlocks(conf, all)
          .replace('server 10.0.0.7:3000;', 'include runtime/application.conf;')
          .replace('set_real_ip_from 10.0.0.2;', 'set_real_ip_from 127.0.0.1;'),
    });
    const key = stack.adminKey;
    const seen = (header: string) => stack.application.seen.at(-1)?.headers[header];
    try {
      const internal = { key, headers: { Host: 'internal.example.com' } };
      assert.equal((await stack.ask('/', internal)).json['reason'], 'authentication_disabled');
      assert.equal((await stack.ask('/', { key })).status, 200);

      assert.equal((await stack.ask('/status')).status, 200);
      assert.equal((await stack.ask('/statuses')).status, 401);

      assert.equal((await stack.ask('/reports/x')).status, 401);
      assert.equal((await stack.ask('/reports/x', { key })).status, 200);
      assert.deepEqual(seen('x-client-name'), ['bootstrap']);
      assert.equal(stack.application.seen.at(-1)?.url, '/reports/x');
      assert.equal((await stack.ask('/cut/x?y=1')).status, 401);
      assert.equal((await stack.ask('/cut/x?y=1', { key })).status, 200);
      assert.equal(stack.application.seen.at(-1)?.url, '/x?y=1');
      const host = { Host: 'reports.example.com' };
      assert.equal((await stack.ask('/', { headers: host })).status, 401);
      assert.equal((await stack.ask('/', { headers: host, key })).status, 200);
      assert.deepEqual(seen('host'), ['reports.example.com']);

      for (const path of ['/invoices', '/invoices/1', '/INVOICES', '/invoices.json'])
        assert.equal((await stack.ask(path, { key })).json['reason'], 'client_scope_required', path);
      const invoices = await stack.manage('POST', key, '', { json: { scopes: ['invoices.read'] } });
      assert.equal((await stack.ask('/invoices/1', { key: String(invoices.json['token']) })).status, 200);

      const calls = stack.application.seen.length;
      const preflight = { Origin: 'https://app.example.com', 'Access-Control-Request-Method': 'PUT' };
      const allowed = await stack.ask('/', { method: 'OPTIONS', headers: preflight });
      assert.equal(allowed.status, 204);
      assert.equal(allowed.headers['access-control-allow-origin'], 'https://app.example.com');
      const stranger = { ...preflight, Origin: 'https://app.example.com.example.net' };
      assert.equal((await stack.ask('/', { method: 'OPTIONS', headers: stranger })).status, 401);
      assert.equal((await stack.ask('/', { headers: preflight })).status, 401);
      assert.equal(stack.application.seen.length, calls);

      const forwarded = { key, headers: { 'X-Forwarded-For': '203.0.113.9, 192.0.2.7' } };
      await stack.ask('/', forwarded);
      assert.deepEqual([seen('x-real-ip'), seen('x-forwarded-for')], [['192.0.2.7'], ['192.0.2.7']]);
      await stack.ask('/', { ...forwarded, localAddress: '127.0.0.2' });
      assert.deepEqual(seen('x-real-ip'), ['127.0.0.2']);
    } finally {
      await stack.stop();
    }
  });
});
