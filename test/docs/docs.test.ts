import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import { generatedDocs } from '../../scripts/generate-docs.ts';
import { proxySettings } from '../../scripts/settings-page.ts';
import { denialDetails, publicReasons } from '../../src/auth/decision.ts';
import { reasons, type Reason } from '../../src/reasons.ts';
import { traceSettings } from '../../src/trace-settings.ts';
import { makeTempDir, root, startTestStack } from '../support/stack.ts';
import { startUp, stopUp, type Up } from '../support/up.ts';

const run = promisify(execFile);
const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map((file) => join('docs', file)),
].filter((file) => file.endsWith('.md'));
const read = (page: string) => readFileSync(join(root, page), 'utf8');

function blocks(page: string, language: string): string[] {
  return [...read(page).matchAll(new RegExp(`^\`\`\`${language}\\n([^]*?)^\`\`\`$`, 'gm'))].map(
    ([, text = '']) => text,
  );
}

/** Commands and what they print, from the console blocks of a page, in order. */
function transcript(page: string): { command: string; output: string }[] {
  return blocks(page, 'console').flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((entry) => {
        const [command = '', ...output] = entry.split('\n');
        return { command, output: output.join('\n') };
      }),
  );
}

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

/** What a heading can be linked to by, as GitHub makes it. */
function anchors(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
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

  for (const page of pages.filter((name) => transcript(name).length > 0)) {
    test(`${page}: its commands do what it says`, async () => {
      const stateDir = makeTempDir();
      const up = await startUp({ APIGW_STATE_DIR: stateDir, API_KEY_CREATE: 'true' });
      try {
        await play(page, up, stateDir);
      } finally {
        await stopUp(up, stateDir);
        rmSync(stateDir, { recursive: true });
      }
    });
  }

  /** Types the commands one after the other into one shell; a key that is shown shortened is the one just received. */
  async function play(page: string, up: Up, stateDir: string): Promise<void> {
    let newest = up.key();
    // what the pages say it stands for
    const local = [
      `DATABASE_URL=sqlite:${stateDir}/apigw.db`,
      `APIGW_MANAGEMENT_LISTEN=unix:${realpathSync(join(stateDir, 'run'))}/management.sock`,
    ];
    let variables = `apigw() { ${local.join(' ')} node ${join(root, 'dist/cli/main.js')} "$@"; }; KEY='${newest}'`;
    for (const { command, output } of transcript(page)) {
      const typed = command
        .replaceAll('https://localhost:8443', up.url)
        .replace(/'[0-9]+\.[A-Za-z0-9]+\.\.\.'/, () => `'${newest}'`);
      if (/^(?:[A-Z]+=\S+;? ?)+$/.test(typed)) {
        variables += `; ${typed}`;
        continue;
      }
      const script = `${variables}; ${typed.replaceAll('curl ', 'curl -sS ')}`;
      const [, assigned] = /^([A-Z]+)=\$\(/.exec(typed) ?? [];
      if (assigned !== undefined) {
        const { stdout: value } = await run('bash', ['-c', `${script} && printf %s "$${assigned}"`]);
        variables += `; ${assigned}='${value}'`;
        continue;
      }
      // doctor ends with 1 when it finds something
      const { stdout } = await run('bash', ['-c', `${script}${typed.startsWith('apigw doctor') ? ' || true' : ''}`]);
      expectOutput(
        stdout.replaceAll(up.url, 'https://localhost:8443').replaceAll(`:${up.httpsPort}`, ':8443'),
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
    const known = [...comment.matchAll(/^# {3}(APIGW_\w+)(?:, (APIGW_\w+))?  /gm)].flatMap(([, ...names]) => names);
    assert.deepEqual(Object.keys(proxySettings).sort(), known.filter((name) => name !== undefined).sort());
    const defaults = (file: string, lines: RegExp) =>
      [...read(file).matchAll(lines)].map(([, name = '', value = '']) => [name, `\`${value}\``] as const);
    const image = defaults('docker/proxy/Dockerfile', /^(?:ENV| ) (APIGW_\w+)=(\S+)/gm);
    const unit = defaults('systemd/apigw-proxy.service', /^Environment=(APIGW_\w+)=(\S+)/gm);
    assert.deepEqual([image.length, unit.length], [6, 5]);
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

  test('show nginx blocks that work as they stand', async () => {
    const all = blocks('docs/nginx.md', 'nginx');
    const isLocation = (block: string) => /^ {2}location/.test(block);
    const stack = await startTestStack({
      edit: (conf) => {
        const upstreams = all.filter((block) => block.startsWith('upstream')).join('\n');
        const locations = all.filter(isLocation).join('\n');
        const map = all.find((block) => block.startsWith('map')) ?? '';
        const server = all.find((block) => block.startsWith('server')) ?? '';
        return `${conf}\n${server}`
          .replace(/^map \$server_name \$api_keys_enabled \{[^}]*\}/m, map)
          .replace(
            /^upstream application/m,
            `${upstreams.replace(/server [^;]+;/, 'include runtime/application.conf;')}\nupstream application`,
          )
          .replace('  location / {   # protected', `${locations}\n  location / {   # protected`);
      },
    });
    try {
      assert.equal((await stack.ask('/status')).status, 200);
      assert.equal((await stack.ask('/statuses')).status, 401);
      const internal = { key: stack.adminKey, headers: { Host: 'internal.example.com' } };
      assert.equal((await stack.ask('/', internal)).json['reason'], 'authentication_disabled');
      assert.equal((await stack.ask('/reports/x')).status, 401);
      assert.equal((await stack.ask('/reports/x', { key: stack.adminKey })).status, 200);
      assert.deepEqual(stack.application.seen.at(-1)?.headers['x-client-name'], ['bootstrap']);
    } finally {
      await stack.stop();
    }
  });
});
