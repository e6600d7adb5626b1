import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { request as httpRequest } from 'node:http';
import { Skip, type Bench } from './bench.ts';
import { measure } from './measure.ts';
import { issuer } from './parts/issuer.ts';
import type { Measurement, Row, Skipped } from './result.ts';
import { rateOf, ratioByRound } from './compare.ts';
import { spreadOf } from './statistics.ts';
import type { SetUp, Target } from './set-ups/set-up.ts';

interface Prepared {
  readonly setUp: SetUp;
  readonly target: Target;
  readonly measurements: Measurement[];
}

/** Measures the set-ups one after the other, round for round, so that what changes on the machine meets all of them. */
export async function runRounds(bench: Bench, setUps: readonly SetUp[]): Promise<{ rows: Row[]; skipped: Skipped[] }> {
  const { rounds, seconds } = bench.options;
  const prepared: Prepared[] = [];
  const skipped: Skipped[] = [];
  for (const setUp of setUps) {
    const outcome = await prepare(bench, setUp);
    if ('reason' in outcome) skipped.push({ name: setUp.name, reason: outcome.reason });
    else prepared.push({ setUp, target: outcome, measurements: [] });
  }
  (await issuer(bench)).countFetches();
  for (let round = 1; round <= rounds; round++) {
    for (const { setUp, target, measurements } of shuffled(prepared)) {
      const measurement = await measure(bench, setUp, target, { round, seconds });
      measurements.push(measurement);
      bench.say(`round ${round} of ${rounds}: ${describe(setUp, measurement)}`);
    }
  }
  return { rows: prepared.map((one) => summarise(one, prepared)), skipped };
}

/** Starts a set-up, sees that it does what it says, and warms it up. */
async function prepare(bench: Bench, setUp: SetUp): Promise<Target | { readonly reason: string }> {
  try {
    const target = await setUp.prepare(bench);
    await expectAnswers(target);
    bench.say(`${setUp.name} is up`);
    await measure(bench, setUp, target, { round: 0, seconds: bench.options.isQuick ? 1 : 2 });
    return target;
  } catch (error) {
    bench.signal.throwIfAborted();
    const { message } = error as Error;
    // a peer that does not run on this machine is no reason to measure nothing
    if (!(error instanceof Skip) && setUp.kind !== 'peer')
      throw new Error(`${setUp.name}: ${message}`, { cause: error });
    bench.say(`${setUp.name} is skipped: ${message}`);
    // what comes after the first line is the peer's own output
    return { reason: message.split('\n')[0] ?? message };
  }
}

async function expectAnswers({ url, credentials, refusesStrangers }: Target): Promise<void> {
  const [authorization = ''] = readFileSync(await credentials.file(1), 'utf8').split('\n');
  const status = await statusOf(url, authorization);
  if (status !== 200) throw new Error(`a request with a good credential is answered with ${status}`);
  if (!refusesStrangers) return;
  for (const [what, bad] of [
    ['without a credential', undefined],
    ['with a forged credential', forge(authorization)],
  ] as const) {
    const answer = await statusOf(url, bad);
    if (answer !== 401) throw new Error(`a request ${what} is answered with ${answer}`);
  }
}

/** The same but for one character of the secret or the signature; the very last ones may have bits that do not count. */
function forge(authorization: string): string {
  const at = authorization.length - 20;
  return `${authorization.slice(0, at)}${authorization[at] === 'A' ? 'B' : 'A'}${authorization.slice(at + 1)}`;
}

function statusOf(url: string, authorization: string | undefined): Promise<number> {
  const headers = authorization === undefined ? {} : { Authorization: authorization };
  const isTls = url.startsWith('https:');
  return new Promise((resolve, reject) => {
    const asking = isTls
      ? request(url, { agent: new Agent({ rejectUnauthorized: false }), headers })
      : httpRequest(url, { agent: false, headers });
    asking.on('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asking.on('error', reject);
    asking.end();
  });
}

/** Fisher and Yates. */
function shuffled<T>(values: readonly T[]): T[] {
  const result = [...values];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}

function describe({ name, load }: SetUp, { requests_per_second, p50_us, p99_us, invalid }: Measurement): string {
  const rate = load.kind === 'closed' ? `${Math.round(requests_per_second)} requests/s, ` : '';
  const fault = invalid === null ? '' : ` (INVALID: ${invalid})`;
  return `${name}: ${rate}p50 ${Math.round(p50_us)} us, p99 ${Math.round(p99_us)} us${fault}`;
}

function summarise({ setUp, measurements }: Prepared, all: readonly Prepared[]): Row {
  const { name, about, kind, load, comparedWith } = setUp;
  const baseline = all.find((other) => other.setUp.name === comparedWith[0]);
  const valid = measurements.filter(({ invalid }) => invalid === null);
  const spread = (value: (measurement: Measurement) => number) => spreadOf(valid.map(value)) ?? null;
  return {
    name,
    about,
    kind,
    load: load.kind,
    connections: load.kind === 'closed' ? load.connections : null,
    baseline: baseline?.setUp.name ?? null,
    measurements,
    requests_per_second: spread(rateOf),
    ratio: (baseline && ratioByRound(measurements, baseline.measurements, rateOf)) ?? null,
    p50_us: spread(({ p50_us }) => p50_us),
    p99_us: spread(({ p99_us }) => p99_us),
  };
}
