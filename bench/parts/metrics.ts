import { request } from 'node:http';
import type { GatewayCounters } from '../result.ts';

/** One line of the text format of Prometheus. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The gateway's metrics; undefined when it has none. */
export async function readMetrics(management: string): Promise<Sample[] | undefined> {
  const text = await get(management, '/metrics');
  return text === undefined ? undefined : parseMetrics(text);
}

export function parseMetrics(text: string): Sample[] {
  const lines = text.matchAll(/^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: [0-9]+)?$/gm);
  return Array.from(lines, ([, name = '', labels = '', value = '']) => ({
    name,
    labels: Object.fromEntries(
      Array.from(labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g), ([, label = '', text = '']) => [label, text]),
    ),
    value: Number(value),
  }));
}

/** What was added from the first reading to the second. */
export function countersBetween(before: readonly Sample[], after: readonly Sample[]): GatewayCounters {
  const added = (name: string) => {
    const [then, now] = [byLabels(before, name), byLabels(after, name)];
    const differences = Object.entries(now).map(([labels, value]) => [labels, value - (then[labels] ?? 0)] as const);
    return Object.fromEntries(differences.filter(([, difference]) => difference > 0));
  };
  const lags = after.filter(({ name }) => name === 'nodejs_eventloop_lag_p99_seconds').map(({ value }) => value);
  return {
    gc_seconds: added('nodejs_gc_duration_seconds_sum'),
    gc_count: added('nodejs_gc_duration_seconds_count'),
    event_loop_lag_p99_seconds: lags.length > 0 ? Math.max(...lags) : null,
    cache_lookups: added('apigw_cache_lookups_total'),
    decisions: added('apigw_decisions_total'),
    token_verifications: added('apigw_token_verifications_total'),
  };
}

function byLabels(samples: readonly Sample[], wanted: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const { name, labels, value } of samples) {
    if (name !== wanted) continue;
    const key = Object.entries(labels)
      .map(([label, text]) => `${label}=${text}`)
      .join(' ');
    found[key] = (found[key] ?? 0) + value;
  }
  return found;
}

/** The body of a 200, else undefined. */
function get(socketPath: string, path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asking = request({ socketPath, path, agent: false, timeout: 2_000 }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => {
        resolve(response.statusCode === 200 ? text : undefined);
      });
    });
    asking.on('timeout', () => asking.destroy());
    asking.on('error', () => {
      resolve(undefined);
    });
    asking.end();
  });
}
