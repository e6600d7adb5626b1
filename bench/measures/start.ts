import { performance } from 'node:perf_hooks';
import type { Bench } from '../bench.ts';
import { database } from '../parts/database.ts';
import { startLoneGateway } from '../parts/lone-gateway.ts';
import type { StartResult } from '../result.ts';

const times = 5;

/** How long the gateway takes from the start of its process to the first granted decision. */
export async function measureStart(bench: Bench): Promise<StartResult> {
  const { manyClients } = bench.options;
  return { clients: manyClients, milliseconds: await startTimes(bench, await database(bench, manyClients)) };
}

/** Milliseconds, of one start after the other. */
export async function startTimes(bench: Bench, databaseUrl: string): Promise<number[]> {
  const milliseconds: number[] = [];
  for (let time = 1; time <= times; time++) {
    const startedAt = performance.now();
    const gateway = await startLoneGateway(bench, 'start', databaseUrl);
    milliseconds.push(performance.now() - startedAt);
    await gateway.stop();
  }
  return milliseconds;
}
