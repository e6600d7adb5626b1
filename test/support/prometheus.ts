import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts, makeTempDir, root, until } from './stack.ts';

/** One result of a query: its labels, and pairs of seconds and value. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [seconds: number, value: number])[];
}

/** A real Prometheus with the shipped configuration and alert rules. */
export interface Prometheus {
  readonly url: string;
  readonly query: (expression: string) => Promise<Series[]>;
  /** From and to in seconds since the epoch. */
  readonly queryRange: (expression: string, from: number, to: number, step: number) => Promise<Series[]>;
  /** What its API answers at a path. */
  readonly get: (path: string, parameters?: Record<string, string>) => Promise<unknown>;
  readonly stop: () => Promise<void>;
}

interface Result {
  readonly result: readonly {
    readonly metric: Record<string, string>;
    readonly value?: [number, string];
    readonly values?: [number, string][];
  }[];
}

/** Reads that port of this machine, so often. */
export async function startPrometheus(metricsPort: number, interval: string): Promise<Prometheus> {
  const [port] = await freePorts(2);
  const dir = makeTempDir();
  const shipped = readFileSync(join(root, 'monitoring/prometheus.yml'), 'utf8');
  writeFileSync(
    join(dir, 'prometheus.yml'),
    shipped
      .replace('127.0.0.1:9145', `127.0.0.1:${metricsPort}`)
      .replaceAll(/(scrape|evaluation)_interval: .*/g, `$1_interval: ${interval}`),
  );
  copyFileSync(join(root, 'monitoring/alerts.yml'), join(dir, 'alerts.yml'));
  const flags = [
    `--config.file=${dir}/prometheus.yml`,
    `--storage.tsdb.path=${dir}/data`,
    `--web.listen-address=127.0.0.1:${port}`,
  ];
  const child = spawn('prometheus', flags, { stdio: ['ignore', 'ignore', 'pipe'] });
  let printed = '';
  child.stderr.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const ended = once(child, 'exit');
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const url = `http://127.0.0.1:${port}`;

  const get = async (path: string, parameters: Record<string, string> = {}): Promise<unknown> => {
    const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`);
    const { status, data, error } = (await response.json()) as { status: string; data: unknown; error?: string };
    if (status !== 'success') throw new Error(`${parameters['query'] ?? path}: ${error ?? status}`);
    return data;
  };
  const seriesOf = ({ result }: Result): Series[] =>
    result.map(({ metric, value, values = [] }) => ({
      metric,
      values: (value ? [value] : values).map(([seconds, text]) => [seconds, Number(text)]),
    }));

  await until('Prometheus is ready', async () => {
    if (child.exitCode !== null) throw new Error(`Prometheus ended: ${printed}`);
    return fetch(`${url}/-/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
  });
  return {
    url,
    get,
    query: async (query) => seriesOf((await get('query', { query })) as Result),
    queryRange: async (query, from, to, step) => {
      const range = { start: String(from), end: String(to), step: String(step) };
      return seriesOf((await get('query_range', { query, ...range })) as Result);
    },
    stop: async () => {
      child.kill('SIGTERM');
      await ended;
      process.off('exit', kill);
      rmSync(dir, { recursive: true });
    },
  };
}
