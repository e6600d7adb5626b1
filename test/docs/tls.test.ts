import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { connect, type ConnectionOptions } from 'node:tls';
import { promisify } from 'node:util';
import { makeCertificate } from '../support/certificate.ts';
import { blocks, read, withBlocks } from '../support/pages.ts';
import { makeTempDir, root } from '../support/stack.ts';
import { startUp, stopUp, type Up } from '../support/up.ts';

const run = promisify(execFile);

function documented(language: string, start: string): string {
  const found = blocks('docs/tls.md', language).find((block) => block.startsWith(start));
  assert.ok(found, start);
  return found;
}

/** Runs the product with these files in the operator's nginx directory. */
async function withFiles(
  files: Readonly<Record<string, string>>,
  check: (up: Up, configDir: string, stateDir: string) => Promise<void>,
): Promise<void> {
  const [stateDir, configDir] = [makeTempDir(), makeTempDir()];
  for (const folder of ['conf.d', 'ssl']) mkdirSync(join(configDir, 'nginx', folder), { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(configDir, 'nginx', file), text);
  const up = await startUp({ APIGW_STATE_DIR: stateDir, APIGW_CONFIG_DIR: configDir, API_KEY_CREATE: 'true' });
  try {
    await check(up, configDir, stateDir);
  } finally {
    await stopUp(up, stateDir);
    for (const dir of [stateDir, configDir]) rmSync(dir, { recursive: true });
  }
}

/** The common name of the certificate that this client is given, and what it is answered. */
function ask(
  { httpsPort }: Up,
  options: ConnectionOptions,
  headers = '',
): Promise<{ readonly name: string; readonly answer: string }> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: httpsPort, rejectUnauthorized: false, ...options }, () => {
      const name = String(socket.getPeerCertificate().subject.CN);
      let answer = '';
      socket.on('data', (chunk: Buffer) => (answer += chunk.toString()));
      socket.on('end', () => {
        resolve({ name, answer });
      });
      socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n`);
    });
    socket.on('error', reject);
  });
}

suite('docs/tls.md', () => {
  test('shows the location for ACME as default.conf has it', () => {
    const location = documented('nginx', '  location ~ ^/\\.well-known');
    assert.ok(read('nginx/conf.d/default.conf').includes(location.replace(/^ {2}/gm, '  # ')));
  });

  test('shows a script that puts a renewed certificate into use', async () => {
    const renewed = makeCertificate('renewed.example');
    const lineage = makeTempDir();
    writeFileSync(join(lineage, 'fullchain.pem'), renewed.certificate);
    writeFileSync(join(lineage, 'privkey.pem'), renewed.key);
    await withFiles({}, async (up, configDir, stateDir) => {
      assert.notEqual((await ask(up, {})).name, 'renewed.example');
      const script = documented('', '#!/bin/sh')
        .replaceAll('/etc/apigw', configDir)
        .replace('systemctl reload apigw-proxy', `npm --prefix ${root} run -s reload`);
      await run('sh', ['-c', script], {
        env: { ...process.env, RENEWED_LINEAGE: lineage, APIGW_STATE_DIR: stateDir },
      });
      assert.equal((await ask(up, {})).name, 'renewed.example');
    });
  });

  test('shows a server with a certificate of its own', async () => {
    const [first, reports] = [makeCertificate('first.example'), makeCertificate('reports.example.com')];
    const files = {
      'conf.d/default.conf': withBlocks(read('nginx/conf.d/default.conf'), [documented('nginx', 'server ')]),
      'ssl/nginx.crt': first.certificate,
      'ssl/nginx.key': first.key,
      'ssl/reports.crt': reports.certificate,
      'ssl/reports.key': reports.key,
    };
    await withFiles(files, async (up) => {
      assert.equal((await ask(up, { servername: 'reports.example.com' })).name, 'reports.example.com');
      assert.equal((await ask(up, { servername: 'other.example.com' })).name, 'first.example');
      assert.match((await ask(up, { servername: 'reports.example.com' })).answer, /^HTTP\/1\.1 401 /);
    });
  });

  test('shows how a client certificate is asked for, beside the credential', async () => {
    const [authority, stranger] = [makeCertificate('client'), makeCertificate('client')];
    const files = {
      'ssl/ssl.conf': `${read('nginx/ssl/ssl.conf')}\n${documented('nginx', 'ssl_client_certificate')}`,
      'ssl/clients.crt': authority.certificate,
    };
    const identify = ({ certificate, key }: typeof authority) => ({ cert: certificate, key });
    await withFiles(files, async (up) => {
      const header = `Authorization: apk ${up.key()}\r\n`;
      for (const options of [{}, identify(stranger)]) {
        const { answer } = await ask(up, options, header);
        assert.match(answer, /^HTTP\/1\.1 400 [^]*"reason":"bad_request"[^]*client certificate/);
      }
      assert.match((await ask(up, identify(authority))).answer, /^HTTP\/1\.1 401 [^]*"reason":"no_credential"/);
      assert.match((await ask(up, identify(authority), header)).answer, /^HTTP\/1\.1 200 /);
    });
  });
});
