import { until } from './stack.ts';
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { parseMetrics, type Sample } from '../../bench/parts/metrics.ts';

/** GET /metrics on the management listener's socket, as text. */
export async function readMetricsText(socketPath: string): Promise<string> {
  const { status, type, text } = await new Promise<{ status?: number; type?: string; text: string }>(
    (resolve, reject) => {
      const asking = request({ socketPath, path: '/metrics', agent: false }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => {
          const { statusCode, headers } = response;
          resolve({ ...(statusCode && { status: statusCode, type: headers['content-type'] ?? '' }), text });
        });
      });
      asking.on('error', reject);
      asking.end();
    },
  );
  assert.equal(status, 200, text);
  assert.match(type ?? '', /^text\/plain; version=0\.0\.4/);
  return text;
}

/** The sum of a metric's samples that have these labels. */
export function sumOf(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>> = {}): number {
  return samples
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([label, value]) => sample.labels[label] === value))
    .reduce((sum, { value }) => sum + value, 0);
}

export async function readSamples(socketPath: string): Promise<Sample[]> {
  return parseMetrics(await readMetricsText(socketPath));
}

/**
 * Waits until the gateway has followed every change that was made until now: it forgets a client once more when it sees in
 * the database what it has done by itself.
 */
export async function untilFollowed(socketPath: string): Promise<void> {
  const startedAt = performance.now();
  await until('the changes so far have been followed', async () => {
    const lag = sumOf(await readSamples(socketPath), 'apigw_feed_lag_seconds');
    return lag * 1_000 < performance.now() - startedAt;
  });
}
