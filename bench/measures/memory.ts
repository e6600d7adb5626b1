import type { Bench } from '../bench.ts';
import { apiKeyOf, writeCredentials } from '../load/credentials.ts';
import { runThrough, runWrk, type WrkOptions } from '../load/wrk.ts';
import { database } from '../parts/database.ts';
import { policyHeaders, startLoneGateway, type LoneGateway } from '../parts/lone-gateway.ts';
import { memoryOfTrees } from '../proc.ts';
import type { MemoryResult } from '../result.ts';

const fewKeys = 10;
/** As many as the gateway keeps in memory. */
export const manyKeys = 100_000;

/** Resident memory of the gateway's process: after many requests with few keys, and with many keys in its memory. */
export async function measureMemory(bench: Bench): Promise<MemoryResult> {
  const requests = bench.options.memoryRequests;
  const busy = await startLoneGateway(bench, 'memory-few', await database(bench, fewKeys));
  const few = writeKeys(bench, 'few', fewKeys);
  const half = await askTimes(bench, busy, few, requests / 2);
  const afterHalf = memoryOfTrees([busy.pid]);
  await askTimes(bench, busy, few, requests - half);
  const afterAll = memoryOfTrees([busy.pid]);
  await busy.stop();

  const full = await startLoneGateway(bench, 'memory-many', await database(bench, bench.options.manyClients));
  await runThrough(bench, questionsTo(full, writeKeys(bench, 'many', manyKeys)));
  const withMany = memoryOfTrees([full.pid]);
  await full.stop();
  return {
    requests,
    after_half_bytes: afterHalf,
    after_all_bytes: afterAll,
    cached_keys: manyKeys,
    with_cached_keys_bytes: withMany,
  };
}

/** Of the clients from `first` on. */
export function writeKeys(bench: Bench, name: string, count: number, first = 1): string {
  const keys = Array.from({ length: count }, (_, index) => apiKeyOf(first + index));
  return writeCredentials(bench, `memory-${name}`, keys);
}

/** @returns how many there were in the end: at least so many */
async function askTimes(bench: Bench, gateway: LoneGateway, credentials: string, requests: number): Promise<number> {
  let asked = 0;
  let seconds = 2;
  while (asked < requests) {
    const report = await ask(bench, gateway, credentials, seconds);
    asked += report.requests;
    seconds = Math.min(30, Math.max(1, Math.floor(((requests - asked) / report.requests) * seconds)));
  }
  return asked;
}

async function ask(bench: Bench, gateway: LoneGateway, credentials: string, seconds: number) {
  const report = await runWrk(bench, { ...questionsTo(gateway, credentials), seconds });
  if (report.requests > 0 && report.non_2xx === 0) return report;
  throw new Error(`memory: ${report.non_2xx} of ${report.requests} decisions were not granted`);
}

export function questionsTo({ port }: LoneGateway, credentials: string): Omit<WrkOptions, 'seconds'> {
  return {
    url: `http://127.0.0.1:${port}/decision`,
    connections: 32,
    credentials,
    headers: Object.entries(policyHeaders).map(([name, value]) => `${name}: ${value}`),
  };
}
