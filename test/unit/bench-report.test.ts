import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { drawChart, escapeXml } from '../../bench/chart.ts';
import { addedRatio, p50Of, rateOf, ratioByRound } from '../../bench/compare.ts';
import { goals, judge, type Measured } from '../../bench/goals.ts';
import { createZipf } from '../../bench/load/draw.ts';
import { parsePaced } from '../../bench/load/h2load.ts';
import { parseWrk } from '../../bench/load/wrk.ts';
import { OptionError, readOptions } from '../../bench/options.ts';
import { countersBetween, parseMetrics } from '../../bench/parts/metrics.ts';
import { writeReport } from '../../bench/report.ts';
import type { DatabaseScale, Measurement, Result, Row } from '../../bench/result.ts';
import { quantile, spreadOf } from '../../bench/statistics.ts';

function measurement(round: number, rate: number, more: Partial<Measurement> = {}): Measurement {
  return {
    round,
    requests: rate,
    seconds: 1,
    requests_per_second: rate,
    p50_us: 100,
    p99_us: 200,
    invalid: null,
    cpu_us_per_request: { front: 20, gateway: 5, application: 5, load_generator: 10, system: 40 },
    gateway_memory_bytes: null,
    gateway: null,
    ...more,
  };
}

function row(name: string, measurements: readonly Measurement[], more: Partial<Row> = {}): Row {
  return {
    name,
    about: '',
    kind: 'ours',
    load: 'closed',
    connections: 32,
    baseline: 'L1',
    measurements,
    requests_per_second: null,
    ratio: null,
    p50_us: null,
    p99_us: null,
    ...more,
  };
}

function scaleOf(database: string, database_cpu_us: number | null): DatabaseScale {
  const some = { p50_ms: 1, p99_ms: 2 };
  const rate = { per_second: 9_000, gateway_cpu_us: 50, database_cpu_us };
  return {
    ...{
      database,
      clients: 1_000_000,
      database_bytes: 1e9,
      start_ms: [700],
      memory_bytes: 8e7,
      memory_full_bytes: 15e7,
    },
    ...{ cold: some, warm: some, cold_rate: rate, warm_rate: rate },
    ...{ pages: 1_000, page_size: 1_000, page: some, by_name: some },
    ...{ create: some, create_per_second: 100, remove: some },
  };
}

const nothing: Measured = { rows: [], memory: null, start: null, cold: null, key_set_fetches: [] };
const markOf = (result: Measured, what: string) => judge(result).find(({ goal }) => goal.what.startsWith(what))?.mark;

suite('the benchmark reads its load generators', () => {
  const line =
    '{"requests":10,"microseconds":1000000,"p50":90,"p99":180,"non_2xx":0,"socket_errors":0,"file_used":0.5}';

  test('takes the line of wrk from among what it prints', () => {
    assert.equal(parseWrk(`Running 1s test\n${line}\n`).p99, 180);
  });

  test('refuses an output of wrk without the line, or with a number missing', () => {
    assert.throws(() => parseWrk('unable to connect'), /unable to connect/);
    assert.throws(() => parseWrk(line.replace('"p99":180', '"p99":null')));
  });

  test('counts answers of h2load that are not 2xx', () => {
    const report = parsePaced('1\t200\t10\n2\t503\t20\n3\t204\t30\n');
    assert.deepEqual(report, { requests: 3, p50: 20, p99: quantile([10, 20, 30], 0.99), non_2xx: 1 });
  });

  test("reads the gateway's metrics, and what was added between two readings", () => {
    const read = (hits: number) =>
      parseMetrics(
        `# TYPE x counter\napigw_cache_lookups_total{cache="clients",result="hit"} ${hits}\nnodejs_eventloop_lag_p99_seconds 0.01\n`,
      );
    const counters = countersBetween(read(5), read(12));
    assert.deepEqual(counters.cache_lookups, { 'cache=clients result=hit': 7 });
    assert.equal(counters.event_loop_lag_p99_seconds, 0.01);
    assert.deepEqual(counters.decisions, {});
  });
});

suite('the benchmark computes', () => {
  test('the median and the spread', () => {
    assert.deepEqual(spreadOf([3, 1, 2]), { median: 2, min: 1, max: 3 });
    assert.deepEqual(spreadOf([1, 2])?.median, 1.5);
    assert.equal(spreadOf([]), undefined);
  });

  test('ratios within a round, and only of measurements that count', () => {
    const ones = [measurement(1, 80), measurement(2, 90, { invalid: 'errors' }), measurement(3, 30)];
    const others = [measurement(3, 60), measurement(1, 100), measurement(2, 100)];
    assert.deepEqual(ratioByRound(ones, others, rateOf), { median: 0.65, min: 0.5, max: 0.8 });
    assert.equal(ratioByRound(ones, [], rateOf), undefined);
  });

  test('what is added to a base', () => {
    const at = (p50_us: number) => [measurement(1, 2_000, { p50_us })];
    const rows = [row('key', at(140)), row('L1', at(120)), row('L0', at(100))];
    assert.equal(addedRatio({ rows }, ['key', 'L1', 'L0'], p50Of), 2);
    assert.equal(addedRatio({ rows }, ['key', 'L1', 'absent'], p50Of), undefined);
  });

  test("ids by Zipf's law, from the first to the last", () => {
    assert.equal(createZipf(100, () => 0)(), 1);
    assert.equal(createZipf(100, () => 0.999_999)(), 100);
    assert.equal(createZipf(2, () => 0.66)(), 1);
    assert.equal(createZipf(2, () => 0.67)(), 2);
  });
});

suite('the goals of the benchmark', () => {
  const withKey = (rate: number) => ({
    ...nothing,
    rows: [row('key', [measurement(1, rate)]), row('L1', [measurement(1, 100)])],
  });

  test('are met at their target and missed beside it', () => {
    assert.equal(markOf(withKey(75), 'key: requests/s'), 'met');
    assert.equal(markOf(withKey(74), 'key: requests/s'), 'missed');
  });

  test('are not measured where nothing was', () => {
    assert.ok(judge(nothing).every(({ mark }) => mark === 'not measured'));
    assert.equal(judge(nothing).length, goals.length);
  });

  test('allow a key set to be fetched once, and anew after five minutes', () => {
    const fetched = (fetches: number, counted_seconds: number) => ({
      ...nothing,
      key_set_fetches: [{ name: 'few', fetches, processes: 1, counted_seconds }],
    });
    assert.equal(markOf(fetched(1, 60), 'fetches'), 'met');
    assert.equal(markOf(fetched(2, 60), 'fetches'), 'missed');
    assert.equal(markOf(fetched(2, 301), 'fetches'), 'met');
  });
});

suite('the report of the benchmark', () => {
  const ratio = { median: 0.7, min: 0.6, max: 0.8 };

  test('escapes what stands in the chart', () => {
    assert.equal(escapeXml(`<a & "b" 'c'>`), '&lt;a &amp; &quot;b&quot; &apos;c&apos;&gt;');
    assert.ok(drawChart([row('key', [], { ratio })], 'R&D <x>').includes('R&amp;D &lt;x&gt;'));
  });

  test('names every set-up, and why others were skipped or have failed', () => {
    const result: Result = {
      ...nothing,
      date: '2026-01-01T00:00:00.000Z',
      commit: 'abc1234',
      command: 'npm run bench',
      options: { quick: true, rounds: 1, seconds: 1, many_clients: 1 },
      machine: { cpu: 'cpu', cores: 2, memory_bytes: 1e9, kernel: '6.1', system: 'Debian' },
      versions: { node: '20' },
      duration_seconds: 1,
      rows: [row('key', [measurement(1, 75, { invalid: 'no answers' })], { ratio })],
      skipped: [{ name: 'key-cache', reason: 'not there' }],
      failed: [{ name: 'scale, PostgreSQL', reason: 'no room' }],
      scale: [scaleOf('SQLite', null), scaleOf('PostgreSQL 15', 40)],
    };
    const report = writeReport(result);
    const scale =
      '| decisions/s, clients not in memory | 9,000 (gateway 50 us) | 9,000 (gateway 50 us, database 40 us) |';
    for (const wanted of [
      '**key**',
      '0.70 (0.60..0.80)',
      '## Skipped\n\n- key-cache: not there',
      '## Not measured\n\n- scale, PostgreSQL: no room',
      '- key, round 1: no answers',
      scale,
    ])
      assert.ok(report.includes(wanted), wanted);
  });
});

suite('the options of the benchmark', () => {
  test('name what is allowed when they are refused', () => {
    const refused = (...args: string[]) => {
      assert.throws(
        () => readOptions(args, ['L1', 'key']),
        (error: unknown) =>
          error instanceof OptionError && /allowed: --quick|among L1, key|from 1 to/.test(error.message),
      );
    };
    refused('--fast');
    refused('key');
    refused('--only', 'kee');
    refused('--only', '');
    refused('--rounds', '0');
    refused('--seconds', 'x');
  });

  test('are fewer and shorter measurements with --quick', () => {
    const { rounds, manyClients } = readOptions(['--quick', '--rounds', '3', '--only', 'key,L1'], ['L1', 'key']);
    assert.deepEqual([rounds, manyClients], [3, 100_000]);
  });
});
