import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { startGateway, stopGateway } from '../support/gateway.ts';
import { wrongKeys } from '../support/wrk.ts';

function residentMegabytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

/** Asks the decision listener with each credential and a header of 16 KB, as a client can send them through nginx. */
async function askAll(
  socketPath: string,
  credentials: readonly string[],
  others: Record<string, string> = { tracestate: 'x'.repeat(15_000) },
): Promise<Map<number, number>> {
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  const statuses = new Map<number, number>();
  let next = 0;
  const askOne = (Authorization: string) =>
    new Promise<number>((resolve, reject) => {
      const headers = {
        'X-Policy-Api-Keys-Enabled': 'on',
        'X-Request-Id': String(next).padStart(32, '0'),
        Authorization,
        ...others,
      };
      request({ socketPath, path: '/decision', agent, headers }, (response) => {
        response.resume().on('end', () => {
          resolve(response.statusCode ?? 0);
        });
      })
        .on('error', reject)
        .end();
    });
  const askOneAfterTheOther = async () => {
    for (let credential = credentials[next++]; credential !== undefined; credential = credentials[next++]) {
      const status = await askOne(credential);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: 16 }, askOneAfterTheOther));
  agent.destroy();
  return statuses;
}

suite('memory', () => {
  test('has of a refused request what was looked up, and not its head', async (t) => {
    const gateway = await startGateway();
    try {
      const pid = gateway.child.pid ?? 0;
      const socket = join(gateway.dir, 'gateway-d.sock');
      const before = residentMegabytes(pid);
      // ids of sixteen digits: V8 copies short parts of a string, and refers to the whole for longer ones
      const count = 12_000;
      assert.deepEqual(await askAll(socket, wrongKeys(count, 1_000_000_000_000_000)), new Map([[401, count]]));
      const grown = residentMegabytes(pid) - before;
      t.diagnostic(`${count} unknown keys with 16 KB of headers each: ${grown.toFixed(0)} MB more`);
      assert.ok(grown < 60, `${grown.toFixed(0)} MB`);
    } finally {
      await stopGateway(gateway);
    }
  });

  test('has of a request whose trace waits for a collector what is sent of it, and not its head', async (t) => {
    // it takes connections, and never answers
    const collector = createServer().listen(0, '127.0.0.1');
    await once(collector, 'listening');
    const { port } = collector.address() as AddressInfo;
    const gateway = await startGateway(undefined, {
      OTEL_TRACES_EXPORTER: 'otlp',
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    });
    try {
      const pid = gateway.child.pid ?? 0;
      const socket = join(gateway.dir, 'gateway-d.sock');
      const count = 3_000;
      const credentials = wrongKeys(count, 1_000_000_000_000_000);
      const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
      const before = residentMegabytes(pid);
      const statuses = await askAll(socket, credentials, { traceparent, 'X-Other': 'x'.repeat(60_000) });
      assert.deepEqual(statuses, new Map([[401, count]]));
      const grown = residentMegabytes(pid) - before;
      t.diagnostic(`${count} spans of requests with 60 KB of headers each: ${grown.toFixed(0)} MB more`);
      assert.ok(grown < 80, `${grown.toFixed(0)} MB`);
    } finally {
      await stopGateway(gateway);
      collector.close();
    }
  });
});
