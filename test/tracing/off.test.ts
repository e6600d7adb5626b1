import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { startGateway, stopGateway } from '../support/gateway.ts';
import { makeTempDir } from '../support/stack.ts';

/** A class of each package of traces; their API comes with prom-client, and does nothing by itself. */
const ofTraces = ['BatchSpanProcessorBase', 'OTLPTraceExporter', 'W3CTraceContextPropagator'];
const needed = 'Client_SQLite3';
const definitions = new RegExp(`\\b(?:${[...ofTraces, needed].join('|')})(?==class\\b)`, 'g');

/** Which of them a gateway has loaded by its end, by Node's own account. */
async function loadedWith(env: Record<string, string>): Promise<string[]> {
  const dir = makeTempDir();
  const account = join(dir, 'coverage');
  const gateway = await startGateway(dir, { ...env, NODE_V8_COVERAGE: account, API_KEY_CREATE: 'true' });
  assert.equal(await gateway.decide(gateway.firstKey()), 204);
  await stopGateway(gateway);
  const files = readdirSync(account).flatMap((name) => {
    const { result } = JSON.parse(readFileSync(join(account, name), 'utf8')) as { result: { url: string }[] };
    return result.map(({ url }) => url).filter((url) => url.startsWith('file:'));
  });
  const found = [...new Set(files)].flatMap((file) => readFileSync(new URL(file), 'utf8').match(definitions) ?? []);
  return [...new Set(found)].sort();
}

suite('what makes traces', () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' };

  for (const [what, env] of [
    ['no variable says so', {}],
    ['OTEL_SDK_DISABLED is true', { ...endpoint, OTEL_SDK_DISABLED: 'true' }],
    ['OTEL_TRACES_EXPORTER is none', { ...endpoint, OTEL_TRACES_EXPORTER: 'none' }],
  ] as const) {
    test(`is not loaded when ${what}`, async () => {
      assert.deepEqual(await loadedWith(env), [needed]);
    });
  }

  test('is loaded when they are wanted, by the same account', async () => {
    assert.deepEqual(await loadedWith(endpoint), [needed, ...ofTraces].sort());
  });
});
