import { Agent, request } from 'node:http';
import { performance } from 'node:perf_hooks';
import { statSync } from 'node:fs';
import type { Bench } from '../bench.ts';
import { apiKeyOf } from '../load/credentials.ts';
import { runThrough, runWrk, type WrkReport } from '../load/wrk.ts';
import { database, fileOf, postgresDatabase } from '../parts/database.ts';
import { policyHeaders, startLoneGateway, type LoneGateway } from '../parts/lone-gateway.ts';
import { postgres } from '../parts/postgres.ts';
import { cpuOfTrees, memoryOfTrees } from '../proc.ts';
import type { DatabaseScale, Latency, Rate } from '../result.ts';
import { quantile } from '../statistics.ts';
import { decisionTimes } from './cold.ts';
import { manyKeys, questionsTo, writeKeys } from './memory.ts';
import { startTimes } from './start.ts';

interface Store {
  readonly name: string;
  readonly url: string;
  readonly bytes: () => Promise<number>;
  /** Of the database's server; none for a file. */
  readonly pids: readonly number[];
}

const pageSize = 1_000;
const changes = 300;
const changesAtOnce = 8;

/** What many API clients cost, on each database that is here. */
export const stores: Readonly<Record<string, (bench: Bench) => Promise<Store>>> = {
  SQLite: sqlite,
  PostgreSQL: postgresql,
};

async function sqlite(bench: Bench): Promise<Store> {
  const { manyClients } = bench.options;
  const bytes = () => Promise.resolve(statSync(fileOf(bench, manyClients)).size);
  return { name: 'SQLite', url: await database(bench, manyClients), bytes, pids: [] };
}

async function postgresql(bench: Bench): Promise<Store> {
  const server = await postgres(bench);
  const url = await postgresDatabase(bench, 'scale', bench.options.manyClients);
  return { name: `PostgreSQL ${server.version}`, url, bytes: () => server.bytesOf('scale'), pids: [server.pid] };
}

export async function measureScale(bench: Bench, store: Store): Promise<DatabaseScale> {
  const { manyClients: clients } = bench.options;
  const database_bytes = await store.bytes();
  const start_ms = await startTimes(bench, store.url);
  const gateway = await startLoneGateway(bench, 'scale', store.url, { isWhole: true });
  const api = createApi(gateway);
  try {
    await api('GET', '?limit=1');
    const memory_bytes = memoryOfTrees([gateway.pid]);
    const { cold, warm } = await decisionTimes(gateway, clients);
    const warmRate = await rateOf(bench, store, gateway, [1, 10], 5);
    const coldRate = await coldRateOf(bench, store);
    const pages = await readPages(api);
    const byName = await timesOf(Array.from({ length: 20 }), () => api('GET', '?name=bench-7777&limit=10'));
    const created: number[] = [];
    const create = await timesOf(Array.from({ length: changes }), async () => {
      created.push((await api('POST', '', {})).id);
    });
    const remove = await timesOf(created, (id) => api('DELETE', `/${id}`));
    const startedAt = performance.now();
    let made = 0;
    await Promise.all(
      Array.from({ length: changesAtOnce }, async () => {
        for (; made < changes; made++) await api('POST', '', {});
      }),
    );
    const create_per_second = made / ((performance.now() - startedAt) / 1_000);
    return {
      ...{ database: store.name, clients, database_bytes, start_ms, memory_bytes },
      memory_full_bytes: coldRate.memory,
      cold: latencyOf(cold.map((microseconds) => microseconds / 1_000)),
      warm: latencyOf(warm.map((microseconds) => microseconds / 1_000)),
      cold_rate: coldRate.rate,
      warm_rate: warmRate.rate,
      ...{ pages: pages.length, page_size: pageSize, page: latencyOf(pages), by_name: latencyOf(byName) },
      ...{ create: latencyOf(create), create_per_second, remove: latencyOf(remove) },
    };
  } finally {
    await gateway.stop();
  }
}

/** Of decisions on the keys of these clients, one after the other again and again, over 32 connections. */
async function rateOf(
  bench: Bench,
  { pids }: Store,
  gateway: LoneGateway,
  [first, last]: readonly [number, number],
  seconds: number,
): Promise<{ readonly rate: Rate; readonly report: WrkReport }> {
  const credentials = writeKeys(bench, `scale-${first}`, last - first + 1, first);
  const gatewayBefore = cpuOfTrees([gateway.pid]);
  const databaseBefore = cpuOfTrees(pids);
  const report = await runWrk(bench, { ...questionsTo(gateway, credentials), seconds });
  if (report.non_2xx > 0) throw new Error(`scale: ${report.non_2xx} decisions were not granted`);
  const each = (used: number) => (used * 1_000_000) / report.requests;
  const rate = {
    per_second: report.requests / (report.microseconds / 1_000_000),
    gateway_cpu_us: each(cpuOfTrees([gateway.pid]) - gatewayBefore),
    database_cpu_us: pids.length === 0 ? null : each(cpuOfTrees(pids) - databaseBefore),
  };
  return { rate, report };
}

/** Of clients that are not in memory, by a gateway that has just been started; and its memory when it is full of them. */
async function coldRateOf(bench: Bench, store: Store): Promise<{ readonly rate: Rate; readonly memory: number }> {
  const gateway = await startLoneGateway(bench, 'scale-cold', store.url);
  try {
    // its code is to be warm
    await rateOf(bench, store, gateway, [1, 10], 2);
    const share = Math.min(manyKeys, Math.floor(bench.options.manyClients / 2));
    // for a second, in which no machine comes to the last of them
    const { rate, report } = await rateOf(bench, store, gateway, [share + 1, 2 * share], 1);
    if (report.file_used > 1) throw new Error('scale: the clients were not cold any more');
    await runThrough(bench, questionsTo(gateway, writeKeys(bench, 'scale-all', share, share + 1)));
    return { rate, memory: memoryOfTrees([gateway.pid]) };
  } finally {
    await gateway.stop();
  }
}

interface Answer {
  readonly id: number;
  /** The query of the next page. */
  readonly next: string | undefined;
}

type Api = (method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) => Promise<Answer>;

/** Calls for API clients, by the administrator that every database here has. */
function createApi({ managementSocket: socketPath }: LoneGateway): Api {
  const agent = new Agent({ keepAlive: true });
  return (method, path, body) =>
    new Promise((resolve, reject) => {
      const target = `/v1/management/api-clients${path}`;
      const json = body && { 'Content-Type': 'application/json' };
      const headers = { ...policyHeaders, Authorization: apiKeyOf(1), ...json };
      const call = request({ socketPath, method, path: target, agent, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('error', reject);
        response.on('end', () => {
          const { statusCode = 0, headers: answered } = response;
          if (statusCode >= 300) {
            reject(new Error(`scale: ${method} ${target} is ${statusCode}: ${text}`));
            return;
          }
          const next = /<[^>]*\/api-clients(\?[^>]*)>; rel="next"/.exec(String(answered['link']))?.[1];
          resolve({ id: method === 'POST' ? (JSON.parse(text) as Answer).id : 0, next });
        });
      });
      call.on('error', reject);
      call.end(body && JSON.stringify(body));
    });
}

/** All API clients, page by page; milliseconds of each. */
async function readPages(api: Api): Promise<number[]> {
  const times: number[] = [];
  for (let query: string | undefined = `?limit=${pageSize}`; query !== undefined;) {
    const startedAt = performance.now();
    query = (await api('GET', query)).next;
    times.push(performance.now() - startedAt);
  }
  return times;
}

/** Milliseconds, of one after the other. */
async function timesOf<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (const item of items) {
    const startedAt = performance.now();
    await work(item);
    times.push(performance.now() - startedAt);
  }
  return times;
}

function latencyOf(milliseconds: ArrayLike<number>): Latency {
  const sorted = Float64Array.from(milliseconds).sort();
  return { p50_ms: quantile(sorted, 0.5) ?? 0, p99_ms: quantile(sorted, 0.99) ?? 0 };
}
