// `npm run soak -- --minutes 30`: the product as `npm run up` starts it, with an issuer, under mixed load: keys, tokens,
// wrong keys, changes, reloads of nginx and slow clients. Prints what it takes, and ends with 1 when that grows or a good
// request is refused.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { parseArgs } from 'node:util';
import { memoryOfTrees } from '../../bench/proc.ts';
import { wrongKeys } from '../support/wrk.ts';
import { readSamples, sumOf } from '../support/metrics.ts';
import { acceptTokensOf, startProvider, type RealProvider } from '../support/provider.ts';
import { setSettings } from '../support/settings.ts';
import { freePorts, startTestStack, type TestStack } from '../support/stack.ts';
import { findGrowth, type Sample } from './growth.ts';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '30' }, leak: { type: 'boolean' } } });
const minutes = Number(values.minutes);
const sampleEvery = Math.max(1_000, (minutes * 60_000) / 360);

async function main(): Promise<void> {
  const [port = 0] = await freePorts(1);
  const provider = await startProvider(port, ['abc123']);
  const stack = await startTestStack({
    edit: (conf) => setSettings(conf, acceptTokensOf(provider, 'ES256')),
    env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
  });
  try {
    const { samples, failures } = await live(stack, provider);
    const growths = findGrowth(samples);
    for (const { name, early, late, allowed, hasGrown, course } of growths) {
      const [from, to, bound] = [early, late, allowed].map((value) => value.toFixed(1).padStart(8));
      console.log(`${name.padEnd(18)}${from} -> ${to}   at most ${bound}   ${hasGrown ? 'GROWS' : 'ok'}`);
      console.log(`  by tenths of the time: ${course.map((value) => value.toFixed(0)).join(' ')}`);
    }
    console.log(`${samples.length} samples in ${minutes} minutes; ${failures.size} kinds of failure`);
    for (const [failure, count] of failures) console.log(`  ${count} times: ${failure}`);
    if (failures.size > 0 || growths.some(({ hasGrown }) => hasGrown)) process.exitCode = 1;
  } finally {
    await stack.stop();
    await provider.stop();
  }
}

async function live(stack: TestStack, provider: RealProvider) {
  const end = Date.now() + minutes * 60_000;
  const failures = new Map<string, number>();
  const fail = (what: string) => failures.set(what, (failures.get(what) ?? 0) + 1);
  /** Again and again, with a pause in milliseconds. */
  const repeat = async (pause: number, work: (turn: number) => Promise<void>) => {
    for (let turn = 0; Date.now() < end; turn++) {
      await work(turn).catch((error: unknown) => fail((error as Error).message));
      await delay(pause);
    }
  };
  const expect = async (status: number, asking: Promise<{ status: number }>, what: string) => {
    const { status: found } = await asking;
    if (found !== status) fail(`${what}: ${found}`);
  };
  const create = async (json: object) => (await stack.manage('POST', stack.adminKey, '', { json })).json;
  await create({ api_client_id: 'abc123', generate_api_key: false });
  const keys = await Promise.all(Array.from({ length: 20 }, async () => String((await create({}))['token'])));
  const samples: Sample[] = [];
  const held: TLSSocket[] = [];

  await Promise.all([
    ...[0, 1].map((start) =>
      repeat(15, (turn) => expect(200, stack.ask('/', { key: keys[(turn + start) % keys.length] }), 'a key')),
    ),
    repeat(50, async () => {
      const headers = { Authorization: `Bearer ${await provider.token('ES256')}` };
      await expect(200, stack.ask('/', { headers }), 'a token');
    }),
    repeat(100, async (turn) => {
      const [Authorization = ''] = wrongKeys(1, 1_000_000 + turn);
      await expect(401, stack.ask('/', { headers: { Authorization } }), 'a wrong key');
    }),
    repeat(400, async () => {
      const { id, token } = await create({ name: 'for a moment' });
      await expect(200, stack.ask('/', { key: String(token) }), 'a new key');
      await expect(
        200,
        stack.manage('PUT', stack.adminKey, `/${String(id)}`, { json: { name: 'other' } }),
        'an update',
      );
      await expect(204, stack.manage('DELETE', stack.adminKey, `/${String(id)}`), 'a removal');
      await expect(401, stack.ask('/', { key: String(token) }), 'a removed key');
    }),
    repeat(20_000, async (turn) => {
      if (turn > 0) await stack.stack.reload();
    }),
    repeat(2_000, async () => {
      // of a client that sends a part of its head and goes
      const socket = hold(stack);
      await delay(3_000);
      if (values.leak) held.push(socket, ...Array.from({ length: 5 }, () => hold(stack, keys[0])));
      else socket.destroy();
    }),
    repeat(sampleEvery, async () => {
      samples.push(await take(stack));
    }),
  ]);
  for (const socket of held) socket.destroy();
  return { samples, failures };
}

/** Opens a connection that asks for nothing, or for events without an end. */
function hold(stack: TestStack, key?: string): TLSSocket {
  const options = { host: '127.0.0.1', port: stack.httpsPort, rejectUnauthorized: false };
  const socket = connectTls({ ...options, ALPNProtocols: ['http/1.1'] });
  socket.on('error', () => undefined);
  const head = 'GET /events HTTP/1.1\r\nHost: localhost\r\n';
  socket.write(key === undefined ? head : `${head}Authorization: apk ${key}\r\n\r\n`);
  return socket;
}

async function take(stack: TestStack): Promise<Sample> {
  const nginx = stack.stack.nginx.pid ?? 0;
  const metrics = await readSamples(`${stack.stack.runDir}/management.sock`);
  const megabytes = (bytes: number) => bytes / 1e6;
  const children = readFileSync(`/proc/${nginx}/task/${nginx}/children`, 'utf8').trim().split(' ').map(Number);
  return {
    gatewayMegabytes: megabytes(memoryOfTrees(stack.gatewayPids())),
    heapMegabytes: megabytes(sumOf(metrics, 'nodejs_heap_size_used_bytes')),
    nginxMegabytes: megabytes(memoryOfTrees([nginx])),
    gatewayFiles: sum(stack.gatewayPids().map(countFiles)),
    nginxFiles: sum([nginx, ...children].map(countFiles)),
  };
}

/** Connections are among them. */
function countFiles(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return 0;
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

await main();
