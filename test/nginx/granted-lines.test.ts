import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { startGateway, stopGateway } from '../support/gateway.ts';
import { form, startTestStack, until, type TestStack } from '../support/stack.ts';

const linesIn = (output: string) =>
  output
    .split('\n')
    .filter((line) => line.includes('"outcome":"granted"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

// what nginx has kept it grants by itself
suite('with APIGW_LOG_GRANTED_EVERY=5', { skip: form === 'decision-cache' }, () => {
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack({ env: { APIGW_LOG_GRANTED_EVERY: '5', APIGW_WORKERS: '1' } });
  });
  after(() => stack.stop());

  test('the log has every fifth grant, with whose and which it was, and every refusal', async () => {
    const granted: unknown[] = [];
    for (let time = 0; time < 12; time++) {
      await stack.ask('/', { key: `${stack.adminKey}x` });
      granted.push((await stack.ask('/', { key: stack.adminKey })).headers['x-request-id']);
    }
    await until('the last refusal is logged', () => stack.output().match(/"msg":"denied"/g)?.length === 12);
    const lines = linesIn(stack.output());
    assert.deepEqual(
      lines.map(({ request_id: id }) => id),
      [granted[4], granted[9]],
    );
    const [{ time, request_id: id, ...line } = {}] = lines;
    assert.ok(time && id);
    assert.deepEqual(line, {
      level: 'info',
      outcome: 'granted',
      method: 'api_key',
      client_id: 1,
      sampled_every: 5,
      msg: 'granted',
    });
  });
});

for (const [every, expected] of [
  ['0', 0],
  ['1', 8],
] as const) {
  test(`with APIGW_LOG_GRANTED_EVERY=${every} the log has ${expected} of 8 grants`, async () => {
    const gateway = await startGateway(undefined, { API_KEY_CREATE: 'true', APIGW_LOG_GRANTED_EVERY: every });
    for (let time = 0; time < 8; time++) assert.equal(await gateway.decide(gateway.firstKey()), 204);
    await stopGateway(gateway);
    assert.equal(linesIn(gateway.output()).length, expected);
  });
}
