import { gatewayCpuOf } from './compare.ts';
import { judge, type Goal, type GoalOutcome } from './goals.ts';
import type {
  CpuPerRequest,
  DatabaseScale,
  GatewayCounters,
  Latency,
  Measurement,
  Rate,
  Result,
  Row,
  Skipped,
} from './result.ts';
import { medianOf, type Spread } from './statistics.ts';

/** result.md. */
export function writeReport(result: Result): string {
  const sections = [
    writeHead(result),
    writeRows('Requests', result.rows, 'closed'),
    writeRows('At a steady 2,000 requests/s', result.rows, 'paced'),
    writeGoals(judge(result)),
    writeOnce(result),
    writeScale(result),
    writeInside(result.rows),
    writeInvalid(result.rows),
    writeMissing('Skipped', result.skipped),
    writeMissing('Not measured', result.failed),
  ];
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`;
}

function writeHead({ date, commit, command, machine, versions, options, duration_seconds }: Result): string {
  const { cpu, cores, memory_bytes, kernel, system } = machine;
  return `# Benchmark

${table(
  ['', ''],
  [
    ['date', date],
    ['commit', commit],
    ['command', `\`${command}\``],
    [
      'measured',
      `${options.rounds} rounds of ${options.seconds} s for each set-up, in ${Math.round(duration_seconds)} s in all`,
    ],
    ['machine', `${cpu}, ${cores} cores, ${(memory_bytes / 1e9).toFixed(1)} GB`],
    ['system', `${system}, kernel ${kernel}`],
    ['versions', entries(versions, String)],
  ],
)}

Load generator, front, gateway and application share this machine. Every set-up proxies to the same application, an nginx
that answers \`ok\`. The set-ups are measured in turn in every round, in another order each time. A number is the median of
the rounds, in brackets the lowest and the highest; a ratio is computed within each round.

![Requests per second, relative to L1](chart.svg)`;
}

function writeRows(title: string, rows: readonly Row[], load: Row['load']): string {
  const shown = rows.filter((row) => row.load === load);
  if (shown.length === 0) return '';
  const head = ['set-up', '', 'requests/s', 'ratio', 'to', 'p50 us', 'p99 us'];
  const cpu = ['front', 'gateway', 'application', 'load', 'system'];
  return `## ${title}

${table(
  [...head, ...cpu],
  shown.map((row) => [
    row.kind === 'ours' ? `**${row.name}**` : row.name,
    row.about,
    spread(row.requests_per_second, whole),
    load === 'closed' ? spread(row.ratio, twoDigits) : '',
    row.baseline ?? '',
    spread(row.p50_us, whole),
    spread(row.p99_us, whole),
    ...writeCpu(row),
  ]),
)}

The last five columns are processor time per request in microseconds; "system" is that of all processes of the machine.`;
}

function writeCpu({ measurements }: Row): string[] {
  const parts: readonly (keyof CpuPerRequest)[] = ['front', 'gateway', 'application', 'load_generator', 'system'];
  return parts.map((part) => {
    const used = medianOf(measurements.map(({ cpu_us_per_request }) => cpu_us_per_request[part]));
    return used === undefined || used === 0 ? '' : used.toFixed(1);
  });
}

function writeGoals(outcomes: readonly GoalOutcome[]): string {
  return `## Goals

${table(
  ['', 'goal', 'target', 'value', ''],
  outcomes.map(({ goal, value, mark }) => [
    String(goal.number),
    goal.what,
    target(goal),
    value === undefined ? '' : amount(value, goal),
    mark === 'missed' ? '**missed**' : mark,
  ]),
)}`;
}

function target(goal: Goal): string {
  if (goal.atLeast !== undefined) return `>= ${amount(goal.atLeast, goal)}`;
  return goal.atMost === undefined ? '' : `<= ${amount(goal.atMost, goal)}`;
}

function amount(value: number, { unit }: Goal): string {
  return unit === '' ? String(Number(value.toFixed(2))) : `${Number(value.toFixed(value < 10 ? 2 : 0))} ${unit}`;
}

/** What is measured once. */
function writeOnce({ memory, start, cold, key_set_fetches: fetches }: Result): string {
  const lines = [
    memory &&
      `Memory of the gateway's process: ${megabytes(memory.after_half_bytes)} after ${count(memory.requests / 2)} requests with 10 keys, ${megabytes(memory.after_all_bytes)} after ${count(memory.requests)}; ${megabytes(memory.with_cached_keys_bytes)} after each of ${count(memory.cached_keys)} keys.`,
    start &&
      `Start with ${count(start.clients)} API clients, from the start of the process to the first granted decision: ${start.milliseconds.map(whole).join(', ')} ms.`,
    cold &&
      `Decisions asked one after the other on one connection, ${count(cold.clients)} API clients, ${count(cold.asked)} of them: first p50 ${whole(cold.cold_p50_us)} us, p95 ${whole(cold.cold_p95_us)} us; again p50 ${whole(cold.warm_p50_us)} us, p95 ${whole(cold.warm_p95_us)} us.`,
    ...fetches.map(
      ({ name, fetches: times, processes, counted_seconds }) =>
        `Fetches of the key set by the gateway "${name}" (${processes} ${processes === 1 ? 'process' : 'processes'}) in ${counted_seconds} s: ${times}.`,
    ),
  ].filter((line) => line !== null);
  return lines.length === 0 ? '' : `## Measured once\n\n${lines.map((line) => `- ${line}`).join('\n')}`;
}

function writeScale({ scale }: Result): string {
  if (scale === null || scale.length === 0) return '';
  const line = (name: string, write: (of: DatabaseScale) => string) => [name, ...scale.map(write)];
  const [{ clients, page_size } = { clients: 0, page_size: 0 }] = scale;
  return `## ${count(clients)} API clients

${table(
  ['', ...scale.map(({ database }) => database)],
  [
    line('size of the database', (of) => megabytes(of.database_bytes)),
    line('start to the first granted decision', (of) => `${of.start_ms.map(whole).join(', ')} ms`),
    line('memory of the gateway after the start', (of) => megabytes(of.memory_bytes)),
    line('with all the clients in memory that it keeps', (of) => megabytes(of.memory_full_bytes)),
    line('a decision, client not in memory', (of) => latency(of.cold)),
    line('a decision, client in memory', (of) => latency(of.warm)),
    line('decisions/s, clients not in memory', (of) => rate(of.cold_rate)),
    line('decisions/s, 10 clients in memory', (of) => rate(of.warm_rate)),
    line(`a page of ${count(page_size)} of the list, all pages`, (of) => latency(of.page)),
    line('a search by name', (of) => latency(of.by_name)),
    line('create', (of) => latency(of.create)),
    line('create, 8 at once', (of) => `${whole(of.create_per_second)}/s`),
    line('delete', (of) => latency(of.remove)),
  ],
)}

One gateway, asked without nginx: decisions over TCP, one after the other or, where it says "decisions/s", over 32 connections.
In brackets the processor time of one decision.`;
}

function latency({ p50_ms, p99_ms }: Latency): string {
  return `p50 ${p50_ms.toFixed(2)} ms, p99 ${p99_ms.toFixed(2)} ms`;
}

function rate({ per_second, gateway_cpu_us, database_cpu_us }: Rate): string {
  const database = database_cpu_us === null ? '' : `, database ${whole(database_cpu_us)} us`;
  return `${count(per_second)} (gateway ${whole(gateway_cpu_us)} us${database})`;
}

/** What our gateway says of itself. */
function writeInside(rows: readonly Row[]): string {
  const shown = rows.filter(({ kind }) => kind === 'ours');
  if (shown.length === 0) return '';
  return `## Inside the gateway

${table(
  [
    'set-up',
    'memory',
    'processor',
    'garbage collection',
    'event loop p99',
    'cache lookups',
    'decisions',
    'tokens verified',
  ],
  shown.map(({ name, measurements }) => [name, ...writeInsideOf(measurements)]),
)}

In the last round. "Processor" is how much of one processor the gateway's processes use, "garbage collection" how much of
that time they collect. Empty where the gateway has no metrics.`;
}

function writeInsideOf(measurements: readonly Measurement[]): string[] {
  const last = measurements.at(-1);
  if (!last) return ['', '', '', '', '', '', ''];
  const { gateway_memory_bytes: memory, requests_per_second: rate, seconds, gateway } = last;
  const own = [memory === null ? '' : megabytes(memory), `${Math.round((gatewayCpuOf(last) * rate) / 10_000)} %`];
  return gateway ? [...own, ...writeCounters(gateway, seconds)] : [...own, '', '', '', '', ''];
}

function writeCounters(counters: GatewayCounters, seconds: number): string[] {
  const lag = counters.event_loop_lag_p99_seconds;
  return [
    entries(counters.gc_seconds, (collecting) => `${((collecting / seconds) * 100).toFixed(1)} %`),
    lag === null ? '' : `${(lag * 1_000).toFixed(1)} ms`,
    entries(counters.cache_lookups, count),
    entries(counters.decisions, count),
    entries(counters.token_verifications, count),
  ];
}

function writeInvalid(rows: readonly Row[]): string {
  const lines = rows.flatMap(({ name, measurements }) =>
    measurements.flatMap(({ round, invalid }) => (invalid === null ? [] : [`- ${name}, round ${round}: ${invalid}`])),
  );
  return lines.length === 0 ? '' : `## Measurements that do not count\n\n${lines.join('\n')}`;
}

function writeMissing(title: string, missing: readonly Skipped[]): string {
  if (missing.length === 0) return '';
  return `## ${title}\n\n${missing.map(({ name, reason }) => `- ${name}: ${reason}`).join('\n')}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

function spread(value: Spread | null, write: (value: number) => string): string {
  return value ? `${write(value.median)} (${write(value.min)}..${write(value.max)})` : '';
}

function entries<T>(values: Readonly<Record<string, T>>, write: (value: T) => string): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${write(value)}`)
    .join(', ');
}

const whole = (value: number) => String(Math.round(value));
const twoDigits = (value: number) => value.toFixed(2);
const count = (value: number) => Math.round(value).toLocaleString('en');
const megabytes = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
