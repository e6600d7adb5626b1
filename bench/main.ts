import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { createBench, Skip, type Bench } from './bench.ts';
import { drawChart } from './chart.ts';
import { judge } from './goals.ts';
import { describeMachine, readCommit, readVersions } from './machine.ts';
import { measureCold } from './measures/cold.ts';
import { measureMemory } from './measures/memory.ts';
import { measureScale, stores } from './measures/scale.ts';
import { measureStart } from './measures/start.ts';
import { OptionError, readOptions, type Options } from './options.ts';
import { issuer } from './parts/issuer.ts';
import { isInstalled } from './process.ts';
import { writeReport } from './report.ts';
import type { DatabaseScale, Result, Skipped } from './result.ts';
import { runRounds } from './rounds.ts';
import { baselines } from './set-ups/baselines.ts';
import { ours } from './set-ups/ours.ts';
import { peers } from './set-ups/peers.ts';
import type { SetUp } from './set-ups/set-up.ts';

const root = join(import.meta.dirname, '..');
const setUps: readonly SetUp[] = [...baselines, ...ours, ...peers];
/** What is measured once, not in rounds. */
const measures = ['memory', 'start', 'cold', 'scale'];
/** The Debian package of each program without which nothing is measured. */
const required = { wrk: 'wrk', h2load: 'nghttp2-client' };

function say(message: string): void {
  process.stdout.write(`bench: ${message}\n`);
}

function fail(message: string): number {
  process.stderr.write(`bench: ${message}\n`);
  return 1;
}

function choose({ only, isQuick }: Options): SetUp[] {
  if (only === undefined) return setUps.filter((setUp) => setUp.isQuick || !isQuick);
  const wanted = new Set(only);
  // a set adds what is met on the way
  for (const name of wanted) for (const other of comparedWith(name)) wanted.add(other);
  return setUps.filter(({ name }) => wanted.has(name));
}

function comparedWith(wanted: string): readonly string[] {
  return setUps.find(({ name }) => name === wanted)?.comparedWith ?? [];
}

async function measureAll(bench: Bench, command: string): Promise<Result> {
  const { options, env } = bench;
  const startedAt = Date.now();
  // of what is measured, whatever is edited meanwhile
  const commit = readCommit({ root, env });
  const isWanted = (name: string) => options.only?.includes(name) ?? !(options.isQuick && name === 'scale');
  const { rows, skipped } = await runRounds(bench, choose(options));
  const failed: Skipped[] = [];
  /** What has been measured before is kept when this fails. */
  const once = async <T>(name: string, run: (bench: Bench) => Promise<T>, what = name): Promise<T | null> => {
    if (!isWanted(name)) return null;
    bench.say(`measuring ${what}`);
    try {
      return await run(bench);
    } catch (error) {
      bench.signal.throwIfAborted();
      const [reason = ''] = (error as Error).message.split('\n');
      (error instanceof Skip ? skipped : failed).push({ name: what, reason });
      bench.say(`${what} is ${error instanceof Skip ? 'skipped' : 'not measured'}: ${reason}`);
      return null;
    }
  };
  const measureScales = async () => {
    const scale: (DatabaseScale | null)[] = [];
    for (const [database, open] of Object.entries(stores))
      scale.push(await once('scale', async () => measureScale(bench, await open(bench)), `scale, ${database}`));
    return scale.filter((one) => one !== null);
  };
  return {
    date: new Date(startedAt).toISOString(),
    commit,
    command,
    options: {
      quick: options.isQuick,
      rounds: options.rounds,
      seconds: options.seconds,
      many_clients: options.manyClients,
    },
    machine: describeMachine(),
    versions: readVersions(bench),
    rows,
    skipped,
    failed,
    memory: await once('memory', measureMemory),
    start: await once('start', measureStart),
    cold: await once('cold', measureCold),
    scale: isWanted('scale') ? await measureScales() : null,
    key_set_fetches: (await issuer(bench)).keySetFetches(),
    duration_seconds: (Date.now() - startedAt) / 1_000,
  };
}

/** A peer that is not installed is missed by nobody. */
function isWhole({ rows, failed }: Result): boolean {
  return failed.length === 0 && rows.every(({ measurements }) => measurements.every(({ invalid }) => invalid === null));
}

/** @returns the folder */
function writeResult(result: Result, results: string): string {
  const folder = join(results, `${result.date.slice(0, 10)}-${result.commit}`);
  mkdirSync(folder, { recursive: true });
  const goals = judge(result).map(({ goal: { number, what, unit, atLeast, atMost }, value, mark }) => ({
    ...{ number, what, unit, at_least: atLeast ?? null, at_most: atMost ?? null, value: value ?? null, mark },
  }));
  const { machine, options, commit } = result;
  const subtitle = `${machine.cpu}, ${machine.cores} cores; median of ${options.rounds} rounds; commit ${commit}`;
  writeFileSync(join(folder, 'result.json'), `${JSON.stringify({ ...result, goals }, null, 2)}\n`);
  writeFileSync(join(folder, 'chart.svg'), drawChart(result.rows, subtitle));
  const report = writeReport(result);
  writeFileSync(join(folder, 'result.md'), report);
  copyFileSync(join(folder, 'result.json'), join(results, 'latest.json'));
  copyFileSync(join(folder, 'chart.svg'), join(results, 'latest.svg'));
  writeFileSync(join(results, 'latest.md'), report.replace('(chart.svg)', '(latest.svg)'));
  return folder;
}

function list(): void {
  for (const { name, about, isQuick } of setUps)
    process.stdout.write(`${name.padEnd(20)} ${about}${isQuick ? '' : ' (not with --quick)'}\n`);
  for (const name of measures)
    process.stdout.write(`${name.padEnd(20)} measured once${name === 'scale' ? ' (not with --quick)' : ''}\n`);
}

/** Ends what is under way at the first signal, and this process at the second; its children end with it. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(1);
      say('stopping');
      controller.abort(new Error(`stopped by ${signal}`));
    });
  }
  return controller.signal;
}

async function run(args: readonly string[]): Promise<number> {
  const options = readOptions(args, [...setUps.map(({ name }) => name), ...measures]);
  if (options.isListWanted) {
    list();
    return 0;
  }
  // eslint-disable-next-line no-restricted-properties -- the entry point
  const { env } = process;
  for (const [program, packageName] of Object.entries(required)) {
    if (!isInstalled({ env }, program)) return fail(`${program} is needed: apt-get install ${packageName}`);
  }
  const signal = abortOnSignals();
  const bench = createBench({ root, env, options, signal, say });
  try {
    const result = await measureAll(bench, ['npm run bench --', ...args].join(' '));
    signal.throwIfAborted();
    say(`the result is in ${writeResult(result, resolve(root, options.results ?? 'bench/results'))}/result.md`);
    return isWhole(result) ? 0 : 2;
  } catch (error) {
    return fail((error as Error).message);
  } finally {
    await bench.close();
  }
}

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof OptionError)) throw error;
  process.exitCode = fail(error.message);
}
