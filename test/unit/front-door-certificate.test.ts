import assert from 'node:assert/strict';
import { once } from 'node:events';
import { X509Certificate } from 'node:crypto';
import { createServer as createTcpServer } from 'node:net';
import { createServer } from 'node:tls';
import { suite, test } from 'node:test';
import { createFrontDoorCertificate } from '../../src/http/front-door-certificate.ts';
import { makeCertificate, makeExpiredCertificate } from '../support/certificate.ts';
import { until } from '../support/stack.ts';

const day = 86_400_000;
const endOf = (pem: string) => Date.parse(new X509Certificate(pem).validTo);

suite('the days that are left to the certificate at the front door', () => {
  test('are read once a minute, and again after it, from what is served then', async (t) => {
    const [first, second] = [makeCertificate('localhost'), makeExpiredCertificate('localhost')];
    const server = createServer({ cert: first.certificate, key: first.key });
    let connections = 0;
    server.on('connection', () => connections++);
    t.after(() => server.close());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    let clock = 0;
    const faults: unknown[] = [];
    const daysLeft = createFrontDoorCertificate({
      host: '127.0.0.1',
      port,
      now: () => endOf(first.certificate) - 10 * day,
      monotonicNow: () => clock,
      onFault: (error) => faults.push(error),
    });
    assert.deepEqual(await Promise.all([daysLeft(), daysLeft()]), [10, 10]);
    server.setSecureContext({ cert: second.certificate, key: second.key });
    clock = 59_999;
    assert.equal(await daysLeft(), 10);
    assert.equal(connections, 1);
    clock = 60_000;
    const expected = (endOf(second.certificate) - endOf(first.certificate)) / day + 10;
    assert.ok(expected < 0);
    assert.equal(await daysLeft(), expected);
    server.close();
    await once(server, 'close');
    for (clock of [120_000, 180_000]) assert.equal(await daysLeft(), undefined);
    assert.equal(faults.length, 1);
  });

  test('are not known, after two seconds, of somebody who accepts and says nothing', async (t) => {
    const server = createTcpServer();
    let isGone = false;
    server.on('connection', (socket) => {
      socket.on('error', () => undefined);
      socket.on('close', () => (isGone = true));
      socket.resume();
    });
    t.after(() => server.close());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const clocks = { now: Date.now, monotonicNow: () => 0 };
    const faults: unknown[] = [];
    const options = { host: '127.0.0.1', port, ...clocks, onFault: (error: unknown) => faults.push(error) };
    assert.equal(await createFrontDoorCertificate(options)(), undefined);
    assert.match(String(faults[0]), /no TLS handshake within 2 s/);
    await until('the connection is gone', () => isGone);
  });
});
