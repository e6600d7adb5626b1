import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checksumOf } from '../../src/auth/api-key.ts';
import { makeTempDir, root, until } from './stack.ts';

/** What wrk has seen; times in milliseconds. */
export interface Load {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  /** Answers that were not 2xx. */
  readonly refused: number;
  readonly broken: number;
}

export interface LoadOptions {
  readonly url: string;
  readonly credentials: readonly string[];
  readonly connections: number;
  readonly seconds: number;
  /** Milliseconds before each request of a connection. */
  readonly pause: number;
  /** Of whoever attacks: he has another machine, and is not to take the processor of those who are attacked. */
  readonly isNice?: boolean;
  /** The address that nginx takes him for, where it trusts this machine: trustThisMachine(). */
  readonly from?: string;
}

/** Edits default.conf so that every client of this machine may have an address of its own. */
export function trustThisMachine(conf: string): string {
  return `set_real_ip_from 127.0.0.1;\nreal_ip_header X-Forwarded-For;\n${conf}`;
}

/** Runs wrk: requests on connections that stay open, each after the answer to the one before. */
export async function sendLoad({
  url,
  credentials,
  connections,
  seconds,
  pause,
  isNice,
  from,
}: LoadOptions): Promise<Load> {
  const file = join(makeTempDir(), 'credentials');
  writeFileSync(file, `${credentials.join('\n')}\n`);
  const script = join(root, 'test/support/paced.lua');
  const address = from === undefined ? [] : ['-H', `X-Forwarded-For: ${from}`];
  const paced = ['-s', script, ...address, url, '--', file, String(pause)];
  const args = ['-t1', '-c', String(connections), '-d', `${seconds}s`, ...paced];
  const printed = await run(['nice', '-n', isNice ? '19' : '0', 'wrk', ...args]);
  const line = /^\{"requests".*\}$/m.exec(printed)?.[0];
  if (line === undefined) throw new Error(`wrk has not said what it measured:\n${printed}`);
  const {
    requests = 0,
    microseconds = 1,
    p50 = 0,
    p99 = 0,
    refused = 0,
    broken = 0,
  } = JSON.parse(line) as Partial<Record<'requests' | 'microseconds' | 'p50' | 'p99' | 'refused' | 'broken', number>>;
  const perSecond = Math.round((requests / microseconds) * 1e6);
  return { perSecond, p50: p50 / 1_000, p99: p99 / 1_000, refused, broken };
}

/** Requests without a credential over HTTP/2, as many at once as the server lets a connection have, from 198.51.100.1. */
export async function floodHttp2(url: string, seconds: number): Promise<Load> {
  const streams = ['-c', '64', '-m', '128', '-D', String(seconds), '-H', 'x-forwarded-for: 198.51.100.1'];
  const printed = await run(['nice', '-n', '19', 'h2load', ...streams, url]);
  const read = (pattern: RegExp) => Number(pattern.exec(printed)?.[1] ?? assert.fail(printed));
  const refused = read(/(\d+) 4xx/) + read(/(\d+) 5xx/);
  return { perSecond: Math.round(read(/([\d.]+) req\/s/)), p50: 0, p99: 0, refused, broken: 0 };
}

async function run([program = '', ...args]: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  await once(child, 'close');
  return printed;
}

/** Keys that nobody was given, with a good checksum, all different and each of another client: what costs most to refuse. */
export function wrongKeys(count: number, from: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const id = String(from + index);
    const key = `${id}.${id.padStart(58, 'A')}`;
    return `apk ${key}${checksumOf(key)}`;
  });
}

/** For figures that are to be quoted: ROUNDS=3. */
const usualRounds = Number(process.env['ROUNDS'] ?? 1);
const mostRounds = 5;

export interface Comparison {
  readonly base: Load;
  readonly attacked: Load;
  readonly attack: Load;
}

export interface Compared extends Pick<LoadOptions, 'url' | 'credentials'> {
  /** nginx's, which tells that an attack has begun. */
  readonly accessLog: string;
}

/**
 * A client of some 200 requests a second, without and with an attack, in turns: what else the machine does meets both.
 * The figures are those of the median of the rounds; five are made when those of fewer are not within the bound.
 */
export async function compare(
  client: Compared,
  attackWith: (round: number, seconds: number) => Promise<Load>,
  isWithin: (found: Comparison) => boolean,
  { rounds = usualRounds, seconds = 1 } = {},
): Promise<Comparison> {
  const base: Load[] = [];
  const attacked: Load[] = [];
  const attack: Load[] = [];
  const measure = () => measureGood(client, seconds);
  const found = () => ({ base: median(base), attacked: median(attacked), attack: median(attack) });
  for (let round = 0; round < rounds || (round < mostRounds && !isWithin(found())); round++) {
    base.push(await measure());
    const { attacking } = await begin(client, (length) => attackWith(round, length), seconds + 1);
    attacked.push(await measure());
    attack.push(await attacking);
  }
  return found();
}

/** An attack makes way for everything else here, and may be over before it has begun: then it is tried for longer. */
async function begin(
  { accessLog }: Pick<Compared, 'accessLog'>,
  attackFor: (seconds: number) => Promise<Load>,
  seconds: number,
): Promise<{ readonly attacking: Promise<Load> }> {
  const lines = statSync(accessLog).size;
  const isSeen = () => statSync(accessLog).size > lines;
  let isOver = false;
  const attacking = attackFor(seconds);
  const end = () => {
    isOver = true;
  };
  attacking.then(end, end);
  await until('the attack is under way, or over', () => isSeen() || isOver, 60_000);
  if (isSeen()) return { attacking };
  await attacking;
  assert.ok(seconds < 60, 'the attack does not begin');
  return begin({ accessLog }, attackFor, seconds * 2);
}

/** The honest client's requests: some 200 a second. */
export function measureGood(client: Pick<LoadOptions, 'url' | 'credentials'>, seconds: number): Promise<Load> {
  return sendLoad({ ...client, connections: 4, pause: 20, seconds });
}

function median(loads: readonly Load[]): Load {
  const middle = (of: (load: Load) => number) => loads.map(of).sort((a, b) => a - b)[loads.length >> 1] ?? 0;
  const sum = (of: (load: Load) => number) => loads.reduce((total, load) => total + of(load), 0);
  return {
    perSecond: middle((load) => load.perSecond),
    p50: middle((load) => load.p50),
    p99: middle((load) => load.p99),
    refused: sum((load) => load.refused),
    broken: sum((load) => load.broken),
  };
}
