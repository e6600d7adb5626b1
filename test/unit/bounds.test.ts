import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { mock, suite, test } from 'node:test';
import { createDenials } from '../../src/auth/denials.ts';
import { unauthenticated, type Denied } from '../../src/auth/decision.ts';
import { createPolicyCompiler } from '../../src/auth/policy.ts';
import { readPolicy } from '../../src/http/request-headers.ts';
import { createManagementCounts } from '../../src/http/management-counts.ts';
import { createRefusalBound } from '../../src/http/refusal-events.ts';
import { createDenialReporter } from '../../src/http/report-denial.ts';
import { createLog } from '../../src/log.ts';
import { findGrowth, type Sample } from '../soak/growth.ts';

suite('what is bounded', () => {
  test('lines of refusals: so many in a second for a reason, then how many more there were', () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const destination = new PassThrough();
    const report = createDenialReporter({
      log: createLog('info', destination),
      denials: createDenials(),
      now: Date.now,
      perSecond: 3,
    });
    const policy = createPolicyCompiler({ allowInsecureHttp: false, onCompiled: () => undefined })(readPolicy(''));
    const request = { requestId: '1', authorization: undefined, clientAddress: '' };
    const refuse = (reason: 'no_credential' | 'malformed_credential') => {
      report(unauthenticated(reason) as Denied, policy, request);
    };
    for (let count = 0; count < 10; count++) refuse('no_credential');
    refuse('malformed_credential');
    mock.timers.tick(1_000);
    refuse('no_credential');
    mock.timers.reset();
    const lines = String(destination.read())
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      lines.map(({ reason, left_out: leftOut }) => [reason, leftOut]),
      [
        ...Array.from({ length: 3 }, () => ['no_credential', undefined]),
        ['malformed_credential', undefined],
        ['no_credential', 7],
        ['no_credential', undefined],
      ],
    );
  });

  test('events of refused clients: so many in a minute each', () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const leftOut: number[][] = [];
    const keep = createRefusalBound((...one) => leftOut.push(one), 2);
    assert.deepEqual([keep(1), keep(1), keep(1), keep(2)], [true, true, false, true]);
    mock.timers.tick(60_000);
    assert.deepEqual(leftOut, [[1, 1]]);
    assert.equal(keep(1), true);
    mock.timers.reset();
  });

  test('labels of management calls: a reason that is none of ours is "other"', () => {
    const counts = createManagementCounts();
    counts.count('GET', 401, 'unknown_key');
    counts.count('HEAD', 401, 'unknown_key');
    counts.count('POST', 201, '');
    counts.count('PUT', 400, 'made up');
    assert.deepEqual(counts.list(), [
      { kind: 'read', status: 401, reason: 'unknown_key', count: 2 },
      { kind: 'change', status: 201, reason: '', count: 1 },
      { kind: 'change', status: 400, reason: 'other', count: 1 },
    ]);
  });
});

test('the soak sees a slow growth, and takes a swing for none', () => {
  const sample = (index: number, leak: number): Sample => ({
    gatewayMegabytes: 100 + 20 * Math.abs(Math.sin(index)) + leak * index,
    ...{ heapMegabytes: 20, nginxMegabytes: 30, gatewayFiles: 40, nginxFiles: 60 },
  });
  const grows = (leak: number) =>
    findGrowth(Array.from({ length: 300 }, (_, index) => sample(index, leak)))
      .filter(({ hasGrown }) => hasGrown)
      .map(({ name }) => name);
  assert.deepEqual(grows(0), []);
  assert.deepEqual(grows(0.2), ['gatewayMegabytes']);
});
