import { Agent, request } from 'node:https';
import type { FrontDoor } from './front-door.ts';

/** One answer, or what came in its place: 0. */
export interface Sample {
  readonly status: number;
  /** On the clock of `performance.now()`. */
  readonly sentAt: number;
  /** Milliseconds. */
  readonly duration: number;
}

const mostAtOnce = 10;

export interface Load {
  readonly samples: readonly Sample[];
  /** Sends no more, and resolves when everything that was sent is answered. */
  readonly stop: () => Promise<void>;
}

/**
 * So many requests each second on connections that stay open, whether or not the ones before are answered. On a machine
 * that is too busy to send them in time they are fewer, never a heap at once.
 */
export function startLoad({ httpsPort }: FrontDoor, key: string, perSecond: number, path = '/'): Load {
  const agent = new Agent({ keepAlive: true, maxSockets: 2_000 });
  const samples: Sample[] = [];
  const underWay = new Set<Promise<void>>();
  const startedAt = performance.now();
  let sent = 0;
  const sendDue = () => {
    const due = Math.floor(((performance.now() - startedAt) / 1_000) * perSecond);
    sent = Math.max(sent, due - mostAtOnce);
    for (; sent < due; sent++) {
      const one = send().finally(() => underWay.delete(one));
      underWay.add(one);
    }
  };

  function send(): Promise<void> {
    const sentAt = performance.now();
    return new Promise((resolve) => {
      const note = (status: number) => {
        samples.push({ status, sentAt, duration: performance.now() - sentAt });
        resolve();
      };
      const call = request(
        {
          ...{ host: '127.0.0.1', servername: 'localhost', port: httpsPort, path, agent, rejectUnauthorized: false },
          headers: { Authorization: `apk ${key}` },
        },
        (response) => {
          response.resume();
          response.on('end', () => {
            note(response.statusCode ?? 0);
          });
          response.on('error', () => {
            note(0);
          });
        },
      );
      call.on('error', () => {
        note(0);
      });
      call.end();
    });
  }

  const timer = setInterval(sendDue, 5);
  return {
    samples,
    async stop() {
      clearInterval(timer);
      await Promise.all(underWay);
      agent.destroy();
    },
  };
}

/** How many of each status. */
export function countStatuses(samples: readonly Sample[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { status } of samples) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

/** Milliseconds from the first of these to the last, by the time they were sent; 0 without any. */
export function spanOf(samples: readonly Sample[]): number {
  const times = samples.map(({ sentAt }) => sentAt);
  return times.length === 0 ? 0 : Math.max(...times) - Math.min(...times);
}
