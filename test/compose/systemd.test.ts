import assert from 'node:assert/strict';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { run } from '../support/compose.ts';
import { makeTempDir, root, until } from '../support/stack.ts';

const name = `apigw-test-systemd-${process.pid}`;

/** Runs a command on the machine; what it printed, with its exit code as the last line. */
async function on(command: string): Promise<string> {
  const { stdout, stderr } = await run('docker', ['exec', name, 'sh', '-c', `${command}; echo "code $?"`]);
  return (stdout + stderr).trim();
}

const status = (path: string, key?: string) =>
  on(`curl -sk -o /dev/null -w '%{http_code}' ${key ? `-H 'Authorization: apk ${key}'` : ''} https://localhost${path}`);

suite('as services of systemd', () => {
  before(async () => {
    const context = makeTempDir();
    for (const folder of ['nginx', 'systemd']) cpSync(join(root, folder), join(context, folder), { recursive: true });
    const gateway = await run('docker', ['build', '-q', '-t', 'apigw-gateway', '-f', 'docker/gateway/Dockerfile', '.']);
    assert.equal(gateway.code, 0, gateway.stderr);
    const dockerfile = join(root, 'test/compose/systemd/Dockerfile');
    const built = await run('docker', ['build', '-q', '-t', name, '-f', dockerfile, context]);
    assert.equal(built.code, 0, built.stderr);
    const privileges = ['--cap-add', 'SYS_ADMIN', '--security-opt', 'seccomp=unconfined', '--cgroupns=host'];
    const mounts = ['-v', '/sys/fs/cgroup:/sys/fs/cgroup:rw', '--tmpfs', '/run', '--tmpfs', '/tmp'];
    const started = await run('docker', ['run', '-d', '--name', name, ...privileges, ...mounts, name]);
    assert.equal(started.code, 0, started.stderr);
    await until('the proxy answers', async () => (await status('/livez')).startsWith('200'), 60_000);
  });
  after(async () => {
    await run('docker', ['rm', '-f', '-v', name]);
    await run('docker', ['rmi', name]);
  });

  test('the units are sound, and each service runs as its own user', async () => {
    assert.equal(await on('systemd-analyze verify /etc/systemd/system/apigw-*.service'), 'code 0');
    assert.match(await on('ps -o user= -C MainThread,node || true; stat -c %U /run/apigw/decision.sock'), /^apigw$/m);
    assert.match(await on('stat -c "%a %U:%G" /run/apigw /var/lib/apigw'), /^2750 apigw:apigw-proxy\n700 apigw/);
    const stranger = await on(
      "su -s /bin/sh www-data -c 'curl -s --unix-socket /run/apigw/management.sock http://x/livez'",
    );
    assert.match(stranger, /^code 7$/m, 'nobody but nginx reaches the gateway');
    assert.doesNotMatch(await on('journalctl -u apigw-proxy -u apigw-gateway --no-pager'), /warn/i);
  });

  test('the first key is had as docs/bare-metal.md says, and opens the application', async () => {
    const page = readFileSync(join(root, 'docs/bare-metal.md'), 'utf8');
    const [, command = ''] = /^sudo (apigw bootstrap)$/m.exec(page) ?? [];
    const [, key] = /^(\d+\.[A-Za-z0-9]{64})$/m.exec(await on(command)) ?? [];
    assert.ok(key);
    // as the gateway's user: what root writes there the gateway could not
    assert.doesNotMatch(await on('stat -c %U /var/lib/apigw/*'), /root/);
    assert.match(await on('apigw doctor'), /^gateway +ok/m);
    await on('systemd-run --quiet node /opt/apigw/dist/cli/main.js demo-app');
    await until('the application answers', async () => (await status('/', key)).startsWith('200'));
    assert.match(await status('/'), /^401/);
    await on('systemctl kill -s KILL apigw-gateway');
    await until('the gateway is back', async () => (await status('/', key)).startsWith('200'));
  });

  test('systemctl reload takes a good file, and refuses a broken one by name', async () => {
    const file = '/etc/apigw/nginx/conf.d/default.conf';
    await on(
      `mkdir -p /etc/apigw/nginx/conf.d; sed 's/^  # add_header Strict/  add_header X-Mine yes always;\\n#/' nginx/conf.d/default.conf >${file}`,
    );
    assert.match(await on('systemctl reload apigw-proxy'), /^code 0$/m);
    const mine = () => on('curl -sk -D - -o /dev/null https://localhost/livez');
    assert.match(await mine(), /x-mine: yes/i);
    await on(`echo 'listn 80;' >>${file}`);
    assert.match(await on('systemctl reload apigw-proxy'), /^code 1$/m);
    assert.match(
      await on('journalctl -u apigw-proxy --no-pager'),
      /unknown directive "listn" in \/etc\/apigw\/nginx\/conf\.d\/default\.conf:\d+[^]*stays in use/,
    );
    assert.match(await mine(), /x-mine: yes/i);
    const startedAt = Date.now();
    assert.match(await on('systemctl stop apigw-proxy apigw-gateway'), /^code 0$/m);
    assert.ok(Date.now() - startedAt < 10_000);
  });
});
