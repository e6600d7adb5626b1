// Draws docs/images/dashboard.svg: runs the product with an issuer and clients of many kinds for some minutes, read by a
// real Prometheus, and draws what the queries of the dashboard give. node --import tsx monitoring/draw.ts [minutes]
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { madeUpKey } from '../test/support/keys.ts';
import { expand, readDashboard, startMonitoredStack, type MonitoredStack } from '../test/support/monitoring.ts';
import { root, until } from '../test/support/stack.ts';
import { drawDashboard } from './picture.ts';

/** Seconds between two points of a line. */
const step = 5;
const clients = 40;

interface Traffic {
  /** How often this caller is chosen, against the others; by the part of the run that is over. */
  readonly weight: (part: number) => number;
  readonly authorization: () => string | undefined;
}

async function main(minutes: number): Promise<void> {
  const monitored = await startMonitoredStack('2s', 9145);
  try {
    const from = Date.now() / 1_000;
    await live(monitored, minutes * 60_000);
    const to = Date.now() / 1_000;
    const dashboard = readDashboard();
    const ask = (expr: string) => monitored.prometheus.queryRange(expand(expr, '15s'), from, to, step);
    const data = await Promise.all(
      dashboard.panels.map(({ targets }) => Promise.all(targets.map(({ expr }) => ask(expr)))),
    );
    mkdirSync(join(root, 'docs/images'), { recursive: true });
    writeFileSync(join(root, 'docs/images/dashboard.svg'), drawDashboard(dashboard, data));
  } finally {
    await monitored.stop();
  }
}

/** Some minutes in the life of a gate: somebody guesses keys, a client forgets its own, the database is away. */
async function live({ stack, provider }: MonitoredStack, duration: number): Promise<void> {
  const create = async (json: object, key = stack.adminKey) => {
    const { status, json: created } = await stack.manage('POST', key, '', { json });
    if (status !== 201) throw new Error(JSON.stringify(created));
    return { id: String(created['id']), key: String(created['token']) };
  };
  const many = await Promise.all(Array.from({ length: clients }, (_, index) => create({ name: `client ${index}` })));
  const admin = await create({ name: 'administrator', is_admin: true });
  const limited = await create({ name: 'limited', rate_limit: '10/s' });
  const elsewhere = await create({ name: 'elsewhere', allowed_cidrs: ['10.9.0.0/16'] });
  const disabled = await create({ name: 'disabled', enabled: false });
  await create({ api_client_id: 'abc123', generate_api_key: false });
  const tokens = await Promise.all(Array.from({ length: 5 }, () => provider.token('ES256')));
  const stranger = await provider.token('ES256', 'stranger');

  const apk = (key: string) => () => `apk ${key}`;
  const pick = <T>(values: readonly T[]) => values[Math.floor(Math.random() * values.length)] as T;
  const constant = (weight: number) => () => weight;
  const between = (start: number, end: number, weight: number) => (part: number) =>
    part > start && part < end ? weight : 0;
  const traffic: Traffic[] = [
    { weight: constant(100), authorization: () => `apk ${pick(many).key}` },
    { weight: (part) => 30 + 30 * Math.sin(part * 9), authorization: () => `Bearer ${pick(tokens)}` },
    { weight: constant(8), authorization: apk(limited.key) },
    { weight: constant(2), authorization: () => undefined },
    { weight: constant(1), authorization: apk(elsewhere.key) },
    { weight: between(0.2, 0.8, 3), authorization: apk(disabled.key) },
    { weight: constant(1), authorization: () => `Bearer ${stranger}` },
    { weight: between(0.3, 0.5, 60), authorization: () => apk(madeUpKey(Math.floor(Math.random() * 1e6)))() },
  ];

  const startedAt = Date.now();
  const part = () => (Date.now() - startedAt) / duration;
  const agent = new Agent({ keepAlive: true, maxSockets: 8, rejectUnauthorized: false });
  const work = async () => {
    while (part() < 1) {
      const weights = traffic.map(({ weight }) => weight(part()));
      let chosen = Math.random() * weights.reduce((sum, weight) => sum + weight, 0);
      const caller = traffic[weights.findIndex((weight) => (chosen -= weight) < 0)];
      await send(stack.url, agent, caller?.authorization());
      await delay(15 + 10 * Math.cos(part() * 14));
    }
  };
  const database = join(stack.stateDir, 'apigw.db');
  const events = async () => {
    await until('a quarter is over', () => part() > 0.25, duration);
    await stack.manage('DELETE', admin.key, '/1');
    await until('new clients are made', () => part() > 0.55, duration);
    for (let count = 0; count < 30; count++) {
      tokens.push(await provider.token('ES256'));
      await create({ name: `late client ${count}` }, admin.key);
      await delay(500);
    }
    await until('the database goes away', () => part() > 0.8, duration);
    renameSync(database, `${database}.away`);
    await delay(9_000);
    renameSync(`${database}.away`, database);
  };
  await Promise.all([events(), ...Array.from({ length: 6 }, work)]);
  agent.destroy();
}

function send(url: string, agent: Agent, authorization: string | undefined): Promise<void> {
  return new Promise((resolve) => {
    const asking = request(
      url,
      { agent, headers: authorization === undefined ? {} : { authorization } },
      (response) => {
        response.resume();
        response.on('close', resolve);
      },
    );
    asking.on('error', () => {
      resolve();
    });
    asking.end();
  });
}

await main(Number(process.argv[2] ?? 7));
