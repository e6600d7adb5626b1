import { readFileSync, truncateSync } from 'node:fs';
import type { Bench } from './bench.ts';
import { runPaced } from './load/h2load.ts';
import { runWrk } from './load/wrk.ts';
import { countersBetween, readMetrics } from './parts/metrics.ts';
import { cpuOfEndedChildren, cpuOfSystem, cpuOfTrees, memoryOfTrees } from './proc.ts';
import type { CpuPerRequest, Measurement } from './result.ts';
import type { SetUp, Target } from './set-ups/set-up.ts';

/** What a load generator says. */
interface Answered {
  readonly requests: number;
  readonly seconds: number;
  readonly p50: number;
  readonly p99: number;
  readonly invalid: string | null;
}

/** One measurement, with everything that was counted while it went on. */
export async function measure(
  bench: Bench,
  { load }: Pick<SetUp, 'load'>,
  target: Target,
  { round, seconds }: { readonly round: number; readonly seconds: number },
): Promise<Measurement> {
  const { management, processes, logs } = target;
  const file = await target.credentials.file(seconds);
  const metricsBefore = management === undefined ? undefined : await readMetrics(management);
  const before = readCpu(target);
  const answered = await (load.kind === 'closed'
    ? runClosed(bench, target, load.connections, seconds, file)
    : runSteady(bench, target, load.perSecond, seconds, file));
  const after = readCpu(target);
  const metricsAfter = management === undefined ? undefined : await readMetrics(management);
  for (const log of logs) truncateSync(log);
  target.credentials.onMeasured?.(answered.requests / answered.seconds);
  return {
    round,
    requests: answered.requests,
    seconds: answered.seconds,
    requests_per_second: answered.requests / answered.seconds,
    p50_us: answered.p50,
    p99_us: answered.p99,
    invalid: answered.invalid,
    cpu_us_per_request: cpuBetween(before, after, answered.requests),
    gateway_memory_bytes: management === undefined ? null : memoryOfTrees(processes.gateway),
    gateway: metricsBefore && metricsAfter ? countersBetween(metricsBefore, metricsAfter) : null,
  };
}

async function runClosed(
  bench: Bench,
  { url, credentials: { isUsedOnce } }: Target,
  connections: number,
  seconds: number,
  credentials: string,
): Promise<Answered> {
  const report = await runWrk(bench, { url, connections, seconds, credentials });
  const faults = [
    report.non_2xx > 0 && `${report.non_2xx} answers were not 2xx`,
    report.socket_errors > 0 && `${report.socket_errors} errors on sockets`,
    report.requests === 0 && 'no answers',
    isUsedOnce && report.file_used > 1 && 'there were too few new credentials, and some were sent twice',
  ].filter((fault) => fault !== false);
  return {
    requests: report.requests,
    seconds: report.microseconds / 1_000_000,
    p50: report.p50,
    p99: report.p99,
    invalid: faults.join(', ') || null,
  };
}

async function runSteady(
  bench: Bench,
  { url }: Target,
  perSecond: number,
  seconds: number,
  credentials: string,
): Promise<Answered> {
  const [authorization = ''] = readFileSync(credentials, 'utf8').split('\n');
  const report = await runPaced(bench, { url, perSecond, seconds, authorization });
  const missing = perSecond * seconds - report.requests;
  const faults = [
    report.non_2xx > 0 && `${report.non_2xx} answers were not 2xx`,
    missing > 0 && `${missing} requests have no answer`,
  ].filter((fault) => fault !== false);
  return { requests: report.requests, seconds, p50: report.p50, p99: report.p99, invalid: faults.join(', ') || null };
}

/** Seconds of processor time so far. */
function readCpu({ processes }: Target): CpuPerRequest {
  return {
    front: cpuOfTrees(processes.front),
    gateway: cpuOfTrees(processes.gateway),
    application: cpuOfTrees(processes.application),
    load_generator: cpuOfEndedChildren(),
    system: cpuOfSystem(),
  };
}

function cpuBetween(before: CpuPerRequest, after: CpuPerRequest, requests: number): CpuPerRequest {
  const perRequest = (part: keyof CpuPerRequest) => ((after[part] - before[part]) * 1_000_000) / Math.max(1, requests);
  return {
    front: perRequest('front'),
    gateway: perRequest('gateway'),
    application: perRequest('application'),
    load_generator: perRequest('load_generator'),
    system: perRequest('system'),
  };
}
