import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { makeTempDir, root } from '../support/stack.ts';

const files = readdirSync(join(root, 'nginx'), { recursive: true, encoding: 'utf8' }).filter((file) =>
  file.endsWith('.conf'),
);
const read = (file: string) => readFileSync(join(root, 'nginx', file), 'utf8');
const nginx = process.env['APIGW_NGINX'] ?? 'nginx';

suite('the shipped nginx files', () => {
  for (const file of files) {
    test(`${file} says what it is for, where it belongs, what it goes with and what may be changed`, () => {
      const labels = [...read(file).matchAll(/^# (What|Included|Goes with|Operators):/gm)].map(([, label]) => label);
      assert.deepEqual(labels, ['What', 'Included', 'Goes with', 'Operators']);
    });
  }

  test('pass nginx -t without a warning, laid out as at every start', () => {
    const prefix = makeTempDir();
    const env = {
      ...process.env,
      APIGW_PREFIX: prefix,
      APIGW_NGINX: nginx,
      APIGW_HTTP_PORT: '18080',
      APIGW_HTTPS_PORT: '18443',
      APIGW_APP_UPSTREAM: '127.0.0.1:9',
    };
    execFileSync('sh', [join(root, 'nginx/stage.sh')], { env });
    const { status, stdout, stderr } = spawnSync('sh', [join(root, 'nginx/check.sh')], { env, encoding: 'utf8' });
    assert.equal(stdout, '');
    assert.equal(status, 0, stderr);
    assert.doesNotMatch(stderr, /warn|emerg|error/);
    // no snippet, no cache
    assert.doesNotMatch(readFileSync(join(prefix, 'current/runtime/http.conf'), 'utf8'), /proxy_cache_path/);
    assert.equal(existsSync(join(prefix, 'decisions')), false);
    // the form that this version wants
    const version = execFileSync('sh', ['-c', `"${nginx}" -v 2>&1`], { encoding: 'utf8' });
    const [, minor] = /nginx\/1\.([0-9]+)/.exec(version) ?? [];
    const listens = readFileSync(join(prefix, 'current/runtime/listen-https.conf'), 'utf8');
    assert.equal(/http2 on;/.test(listens), Number(minor) > 25);
    assert.equal(/ssl http2;/.test(listens), Number(minor) < 25);
    rmSync(prefix, { recursive: true });
  });

  test('protect at server level, exempt only what is named, and let every location say which it is', () => {
    for (const { file, head, body } of locations()) {
      const isInternal = /^\s*internal;/m.test(body);
      const isProxied = /proxy_pass/.test(body);
      const isExempt = /auth_request off;/.test(body);
      if (file === 'conf.d/default.conf') assert.match(head, /# (?:protected|public)/, head);
      if (isProxied && !isExempt) {
        assert.match(body, /proxy_pass http:\/\/\$\{if_granted\}/, `${head} does not go through the marker`);
      }
      if (isExempt && !isInternal) assert.match(head, /location (?:= |\/v1\/management\/)/, `${head} is exempt`);
      if (isProxied) assert.match(body, /include snippets\/(?:proxy|management|policy)\.conf;/, head);
    }
    assert.match(read('snippets/gateway.conf'), /^auth_request \/_apigw\/decision;$/m);
  });

  test('let no cache but ours answer the question, and no answer of before stand for a redirected request', () => {
    const decision = withoutComments(read('snippets/decision.conf'));
    for (const directive of [
      'proxy_cache     $decision_cache;',
      'proxy_store off;',
      'proxy_pass_request_body    off;',
    ]) {
      assert.ok(decision.includes(directive), directive);
    }
    assert.match(decision, /proxy_ignore_headers X-Accel-Redirect Cache-Control Expires/);
    assert.match(withoutComments(read('snippets/http.conf')), /map \$auth_decision \$if_granted \{\s+volatile;/);
    // a change is not made twice because its answer was lost
    assert.match(withoutComments(read('snippets/management.conf')), /proxy_next_upstream {3}error;/);
  });

  test('know no way around the question', () => {
    for (const file of files) {
      const text = withoutComments(read(file));
      assert.doesNotMatch(text, /\bsatisfy\b|\balias\b|underscores_in_headers on|ignore_invalid_headers off/, file);
      // a client's header in clear text would be its own setting, and $uri brings decoded line ends along
      assert.doesNotMatch(text, /proxy_set_header[^;]*\$uri\b|log_format[^;]*\$http_authorization/, file);
      if (file !== 'ssl/ssl.conf') assert.doesNotMatch(text, /\bssl_(?!certificate)/, file);
    }
  });

  test('hand the gateway nothing that a client could have written, but its credential', () => {
    for (const name of ['decision', 'management']) {
      const text = withoutComments(read(`snippets/${name}.conf`));
      const values = [...text.matchAll(/proxy_set_header\s+(\S+)\s+([^;]+);/g)].map(([, header, value]) => [
        header,
        value,
      ]);
      const fromClient = values.filter(([, value]) => value?.includes('$http_'));
      const allowed = name === 'decision' ? [] : ['Content-Type', 'Content-Encoding'];
      assert.deepEqual(
        fromClient.map(([header]) => header),
        allowed,
      );
      assert.match(text, /proxy_pass_request_headers off;/);
    }
  });
});

function withoutComments(text: string): string {
  return text.replace(/#.*$/gm, '');
}

/** Every location block, with the line that opens it; there are no blocks inside but `if`. */
function locations(): { file: string; head: string; body: string }[] {
  return files.flatMap((file) =>
    [...read(file).matchAll(/^ *(location [^{]+\{.*)\n((?:.*\n)*?)^ {0,2}\}/gm)].map(([, head = '', body = '']) => ({
      file,
      head,
      body: withoutComments(body),
    })),
  );
}
