import { Agent } from 'node:http';
import { performance } from 'node:perf_hooks';
import type { Bench } from '../bench.ts';
import { createUniform } from '../load/draw.ts';
import { database } from '../parts/database.ts';
import { decide, startLoneGateway, type LoneGateway } from '../parts/lone-gateway.ts';
import type { ColdResult } from '../result.ts';
import { quantile } from '../statistics.ts';

const asked = 2_000;

/** How long the first decision on a client takes, and how long the next. */
export async function measureCold(bench: Bench): Promise<ColdResult> {
  const { manyClients: clients } = bench.options;
  const gateway = await startLoneGateway(bench, 'cold', await database(bench, clients));
  const { cold, warm } = await decisionTimes(gateway, clients);
  await gateway.stop();
  return {
    clients,
    asked,
    cold_p50_us: quantile(cold, 0.5) ?? 0,
    cold_p95_us: quantile(cold, 0.95) ?? 0,
    warm_p50_us: quantile(warm, 0.5) ?? 0,
    warm_p95_us: quantile(warm, 0.95) ?? 0,
  };
}

/** Microseconds in ascending order, of decisions asked one after the other on one connection. */
export async function decisionTimes(
  gateway: LoneGateway,
  clients: number,
): Promise<{ readonly cold: Float64Array; readonly warm: Float64Array }> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    // others first: the code of both processes is to be warm, the clients are not
    const all = [...drawDistinct(clients, Math.min(2 * asked, clients))];
    const ids = all.slice(0, all.length / 2);
    await latencies(gateway, all.slice(ids.length), agent);
    return { cold: await latencies(gateway, ids, agent), warm: await latencies(gateway, ids, agent) };
  } finally {
    agent.destroy();
  }
}

function drawDistinct(clients: number, count: number): ReadonlySet<number> {
  const draw = createUniform(clients);
  const ids = new Set<number>();
  while (ids.size < count) ids.add(draw());
  return ids;
}

/** Microseconds, in ascending order. */
async function latencies({ port }: LoneGateway, ids: Iterable<number>, agent: Agent): Promise<Float64Array> {
  const measured: number[] = [];
  for (const id of ids) {
    const startedAt = performance.now();
    const status = await decide(port, id, agent);
    measured.push((performance.now() - startedAt) * 1_000);
    if (status !== 204) throw new Error(`cold: the decision on client ${id} is ${status}`);
  }
  return Float64Array.from(measured).sort();
}
