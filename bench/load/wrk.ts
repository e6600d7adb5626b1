import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { runProgram } from '../process.ts';

export interface WrkOptions {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  /** A file with one Authorization value a line. */
  readonly credentials: string;
  readonly headers?: readonly string[];
}

/** What load/report.lua prints. Latencies in microseconds. */
export interface WrkReport {
  readonly requests: number;
  readonly microseconds: number;
  readonly p50: number;
  readonly p99: number;
  readonly non_2xx: number;
  readonly socket_errors: number;
  /** How often the list of credentials has been gone through. */
  readonly file_used: number;
}

const threads = 2;

export async function runWrk(bench: Bench, options: WrkOptions): Promise<WrkReport> {
  const { url, connections, seconds, credentials, headers = [] } = options;
  const printed = await runProgram(bench, 'wrk', [
    ...['--threads', String(threads), '--connections', String(connections), '--duration', `${seconds}s`],
    ...headers.flatMap((header) => ['--header', header]),
    ...['--script', join(bench.root, 'bench/load/report.lua'), url, '--', credentials, String(threads)],
  ]);
  return parseWrk(printed);
}

/** Asks until each thread of the load generator has gone through its share of the credentials. */
export async function runThrough(bench: Bench, options: Omit<WrkOptions, 'seconds'>): Promise<void> {
  // the threads are not equally fast
  const enough = 1.2;
  let report: WrkReport;
  let seconds = 5;
  do {
    report = await runWrk(bench, { ...options, seconds });
    if (report.requests === 0 || report.non_2xx > 0)
      throw new Error(`${report.non_2xx} of ${report.requests} answers of ${options.url} were not 2xx`);
    seconds *= 2;
  } while (report.file_used < enough);
}

const numbers = ['requests', 'microseconds', 'p50', 'p99', 'non_2xx', 'socket_errors', 'file_used'] as const;

/** @throws {Error} with what was printed, when the line is not there or incomplete */
export function parseWrk(printed: string): WrkReport {
  const line = /^\{"requests":.*\}$/m.exec(printed)?.[0];
  const report = JSON.parse(line ?? '{}') as Partial<WrkReport>;
  if (numbers.every((name) => Number.isFinite(report[name]))) return report as WrkReport;
  throw new Error(`wrk has not said what it measured:\n${printed}`);
}
