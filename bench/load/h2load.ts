import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { runProgram } from '../process.ts';
import { quantile } from '../statistics.ts';

export interface PacedOptions {
  readonly url: string;
  readonly perSecond: number;
  readonly seconds: number;
  readonly authorization: string;
}

/** Latencies in microseconds. */
export interface PacedReport {
  readonly requests: number;
  readonly p50: number;
  readonly p99: number;
  readonly non_2xx: number;
}

/** nginx closes a connection after 1,000 requests (keepalive_requests), and h2load opens no other. */
const mostForEach = 900;
const fewestConnections = 5;

/** Requests at a steady rate, whatever the answers take. */
export async function runPaced(bench: Bench, options: PacedOptions): Promise<PacedReport> {
  const { url, perSecond, seconds, authorization } = options;
  const log = join(bench.folder('load'), 'paced.log');
  rmSync(log, { force: true });
  // one after the other at steps of 1 ms, so that the requests of all are spread evenly and do not come in bursts
  const connections = Math.max(fewestConnections, Math.ceil((perSecond * seconds) / mostForEach));
  await runProgram(bench, 'h2load', [
    ...['--h1', '--threads=1', `--clients=${connections}`, '--rate=1', '--rate-period=1ms'],
    ...[`--rps=${perSecond / connections}`, `--requests=${perSecond * seconds}`, `--log-file=${log}`],
    ...[`--header=authorization: ${authorization}`, url],
  ]);
  return parsePaced(readFileSync(log, 'utf8'));
}

/** Each line has the start, the status and the duration, in microseconds: h2load(1). */
export function parsePaced(log: string): PacedReport {
  const answers = log
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t').map(Number));
  const durations = Float64Array.from(answers, ([, , duration = 0]) => duration).sort();
  return {
    requests: answers.length,
    p50: quantile(durations, 0.5) ?? 0,
    p99: quantile(durations, 0.99) ?? 0,
    non_2xx: answers.filter(([, status = 0]) => status < 200 || status > 299).length,
  };
}
