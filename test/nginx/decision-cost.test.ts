import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { readSamples, sumOf, untilFollowed } from '../support/metrics.ts';
import { startTestStack, type TestStack } from '../support/stack.ts';

const requests = 1_000;
const connections = 8;

suite('a thousand decisions on a known key', () => {
  let stack: TestStack;
  let before1000: Awaited<ReturnType<typeof read>>;
  let after1000: Awaited<ReturnType<typeof read>>;

  /** What the gateway has done so far, by its own account and by the kernel's: proc(5), /proc/pid/io. */
  async function read() {
    const samples = await readSamples(join(stack.stack.runDir, 'management.sock'));
    const writes = stack.gatewayPids().map((pid) => {
      const io = readFileSync(`/proc/${pid}/io`, 'utf8');
      return Number(/^syscw: ([0-9]+)$/m.exec(io)?.[1]);
    });
    return {
      granted: sumOf(samples, 'apigw_decisions_total', { outcome: 'granted' }),
      hits: sumOf(samples, 'apigw_cache_lookups_total', { cache: 'clients', result: 'hit' }),
      queries: sumOf(samples, 'apigw_store_queries_total'),
      connections: sumOf(samples, 'apigw_decision_connections_total'),
      writes: writes.reduce((sum, one) => sum + one, 0),
    };
  }

  async function ask(times: number, agent: Agent): Promise<void> {
    const headers = { Authorization: `apk ${stack.adminKey}` };
    let left = times;
    const one = () =>
      new Promise<void>((resolve, reject) => {
        const asking = request(`${stack.url}/`, { agent, headers }, (response) => {
          response.resume().once('end', () => {
            if (response.statusCode === 200) resolve();
            else reject(new Error(`the answer is ${response.statusCode ?? 0}`));
          });
        });
        asking.once('error', reject).end();
      });
    await Promise.all(
      Array.from({ length: connections }, async () => {
        while (left-- > 0) await one();
      }),
    );
  }

  before(async () => {
    stack = await startTestStack();
    const agent = new Agent({ keepAlive: true, maxSockets: connections, rejectUnauthorized: false });
    await untilFollowed(join(stack.stack.runDir, 'management.sock'));
    await ask(100, agent);
    before1000 = await read();
    await ask(requests, agent);
    after1000 = await read();
    agent.destroy();
  });
  after(() => stack.stop());
  const added = (what: keyof typeof before1000) => after1000[what] - before1000[what];

  test('are all made, from memory, and ask the database nothing', () => {
    assert.deepEqual([added('granted'), added('hits') >= requests, added('queries')], [requests, true, 0]);
  });

  test('come on connections that are kept: few in all, and no more with each request', () => {
    assert.ok(after1000.connections > 0);
    assert.ok(added('connections') <= connections, `${added('connections')} connections were opened`);
    assert.ok(after1000.connections <= 8 * connections, `${after1000.connections} connections in all`);
  });

  test('take one write each, which is the answer, and a line of the log in a thousand', () => {
    assert.ok(added('writes') >= requests && added('writes') < 1.3 * requests, `${added('writes')} writes`);
  });
});
