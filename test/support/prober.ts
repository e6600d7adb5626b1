import assert from 'node:assert/strict';
import { Agent, request } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { FrontDoor } from './front-door.ts';

/** One kind of credential that is asked with all the time. */
export interface Kind {
  readonly name: string;
  /** Whether it is good: then never 401; otherwise never 2xx. */
  readonly isGood: boolean;
  /** The key of the next request; undefined when there is none left. */
  readonly next: () => string | undefined;
}

/** Clients that ask the real proxy all the time, whatever happens to what is behind it. */
export interface Prober {
  /** From now on requests count for this phase. */
  readonly begin: (phase: string) => void;
  /** The number of answers of this phase, by status. */
  readonly count: (phase: string, kind: string) => Readonly<Record<string, number>>;
  /** Waits until this many requests of each kind have been answered that were sent from now on. */
  readonly rounds: (count: number) => Promise<void>;
  /** All phases as a table, one line for each kind. */
  readonly table: () => string;
  /** Milliseconds of the slowest answer of this phase. */
  readonly slowest: (phase: string) => number;
  readonly stop: () => Promise<void>;
}

/** Requests each second, of all kinds together. */
const rate = 50;

/** Fails at `stop` when a good credential has got 401, or a bad one 2xx, or anybody something else than 2xx, 401 or 503. */
export function startProber(front: FrontDoor, kinds: readonly Kind[]): Prober {
  const agent = new Agent({ keepAlive: true, maxSockets: 100, rejectUnauthorized: false });
  const phases = new Map<string, Map<string, Record<string, number>>>();
  const slowest = new Map<string, number>();
  const underWay = new Set<Promise<void>>();
  const answered = new Map<string, number>();
  const wrong: string[] = [];
  let phase = 'before';
  let turn = 0;

  async function probe({ name, isGood, next }: Kind): Promise<void> {
    const key = next();
    if (key === undefined) {
      wrong.push(`no ${name} is left`);
      return;
    }
    const [sentIn, sentAt] = [phase, performance.now()];
    const status = await statusOf(front, agent, key).catch((error: unknown) => (error as Error).message);
    const counts = phases.get(sentIn) ?? new Map<string, Record<string, number>>();
    phases.set(sentIn, counts);
    const ofKind = counts.get(name) ?? {};
    counts.set(name, ofKind);
    ofKind[status] = (ofKind[status] ?? 0) + 1;
    slowest.set(sentIn, Math.max(slowest.get(sentIn) ?? 0, performance.now() - sentAt));
    answered.set(name, (answered.get(name) ?? 0) + 1);
    if (status !== 503 && status !== (isGood ? 200 : 401)) wrong.push(`${sentIn}: ${name} got ${status}`);
  }

  const timer = setInterval(() => {
    const kind = kinds[turn++ % kinds.length];
    if (!kind) return;
    const probing = probe(kind).finally(() => underWay.delete(probing));
    underWay.add(probing);
  }, 1_000 / rate);

  return {
    begin(name) {
      phase = name;
    },
    count: (name, kind) => phases.get(name)?.get(kind) ?? {},
    async rounds(count) {
      // what is under way may have been sent before
      await Promise.all(underWay);
      const goals = kinds.map(({ name }) => [name, (answered.get(name) ?? 0) + count] as const);
      while (!goals.every(([name, goal]) => (answered.get(name) ?? 0) >= goal)) await delay(10);
    },
    table: () => describe(phases, kinds),
    slowest: (name) => slowest.get(name) ?? 0,
    async stop() {
      clearInterval(timer);
      await Promise.all(underWay);
      agent.destroy();
      assert.deepEqual(wrong.slice(0, 20), []);
    },
  };
}

function describe(
  phases: ReadonlyMap<string, ReadonlyMap<string, Readonly<Record<string, number>>>>,
  kinds: readonly Kind[],
): string {
  const lines = [...phases].map(([phase, counts]) => {
    const cells = kinds.map(({ name }) => {
      const statuses = Object.entries(counts.get(name) ?? {}).map(([status, count]) => `${status} x ${count}`);
      return `${name}: ${statuses.join(', ') || 'none'}`;
    });
    return `${phase.padEnd(28)} ${cells.join(' | ')}`;
  });
  return lines.join('\n');
}

export function statusOf(front: FrontDoor, agent: Agent, key: string, path = '/'): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { Authorization: key.includes(' ') ? key : `apk ${key}` };
    const target = { host: '127.0.0.1', servername: 'localhost', port: front.httpsPort, path, headers, agent };
    const asking = request(target, (response) => {
      response.resume();
      response.on('error', reject);
      response.on('end', () => {
        resolve(response.statusCode ?? 0);
      });
    });
    asking.on('error', reject);
    asking.end();
  });
}
