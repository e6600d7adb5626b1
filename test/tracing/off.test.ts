import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { startGateway, stopGateway } from '../support/gateway.ts';
import { makeTempDir } from '../support/stack.ts';

/** The files of packages that a gateway has loaded by its end, by Node's own account. */
async function loadedWith(env: Record<string, string>): Promise<string[]> {
  const dir = makeTempDir();
  const [probe, account] = [join(dir, 'probe.cjs'), join(dir, 'loaded.json')];
  writeFileSync(
    probe,
    `const { writeFileSync } = require('node:fs');
     process.on('exit', () => writeFileSync(${JSON.stringify(account)}, JSON.stringify(Object.keys(require.cache))));`,
  );
  const gateway = await startGateway(dir, { ...env, NODE_OPTIONS: `--require ${probe}`, API_KEY_CREATE: 'true' });
  assert.equal(await gateway.decide(gateway.firstKey()), 204);
  await stopGateway(gateway);
  return JSON.parse(readFileSync(account, 'utf8')) as string[];
}

suite('what makes traces', () => {
  // the API, which does nothing by itself, comes with prom-client
  const isOfTraces = (file: string) => /\/@opentelemetry\/(?!api\/)/.test(file);
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' };

  for (const [what, env] of [
    ['no variable says so', {}],
    ['OTEL_SDK_DISABLED is true', { ...endpoint, OTEL_SDK_DISABLED: 'true' }],
    ['OTEL_TRACES_EXPORTER is none', { ...endpoint, OTEL_TRACES_EXPORTER: 'none' }],
  ] as const) {
    test(`is not loaded when ${what}`, async () => {
      const loaded = await loadedWith(env);
      assert.ok(loaded.some((file) => file.includes('/knex/')));
      assert.deepEqual(loaded.filter(isOfTraces), []);
    });
  }

  test('is loaded when they are wanted, by the same account', async () => {
    const loaded = await loadedWith(endpoint);
    for (const name of ['core', 'sdk-trace', 'exporter-trace-otlp-proto'])
      assert.ok(
        loaded.some((file) => file.includes(`/@opentelemetry/${name}/`)),
        name,
      );
  });
});
