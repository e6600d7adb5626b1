import cluster, { type Worker } from 'node:cluster';
import { patience, type Addresses, type Question, type ToPrimary, type ToWorker } from './peers.ts';
import type { Config } from '../config.ts';
import { claim } from '../http/listener.ts';
import type { Logger } from '../log.ts';

export interface Workers extends Addresses {
  readonly close: () => Promise<void>;
}

/** The start of a worker has failed; it has said why. */
export class WorkerFailed extends Error {
  override readonly name = 'WorkerFailed';
  readonly exitCode: number;

  constructor(exitCode: number) {
    super('a worker ended at its start');
    this.exitCode = exitCode;
  }
}

const firstPause = 1_000;
const longestPause = 10_000;
/** Milliseconds that a worker has for what is under way; a listener takes 8 s at most. */
const stopPatience = 9_000;

/**
 * Runs the workers: the first one alone, which brings the database up to date and makes the bootstrap key, then the
 * others. From then on a worker that dies is replaced. They share the listening sockets, which are this process's.
 *
 * @throws {WorkerFailed} when one of them does not start
 */
export async function startWorkers(config: Config, log: Logger): Promise<Workers> {
  for (const address of [config.decisionListen, config.managementListen]) await claim(address);
  const joined = new Set<Worker>();
  const questions = createQuestions(joined, (worker) => {
    log.warn({ worker: worker.id }, 'a worker does not answer; it is ended');
    worker.process.kill('SIGKILL');
  });
  const restarts = new Set<NodeJS.Timeout>();
  let isKept = false;
  let isStopping = false;

  function launch(pause: number): Promise<Addresses> {
    const worker = cluster.fork();
    const launchedAt = performance.now();
    return new Promise((resolve, reject) => {
      worker.on('message', (message: ToPrimary) => {
        if (message.type === 'joined') joined.add(worker);
        else if (message.type === 'started') resolve(message.addresses);
        else if (message.type === 'ask') questions.put(worker, message.number, message.question);
        else questions.answer(worker, message.number, message.answer);
      });
      worker.on('error', (error) => {
        log.debug({ err: error, worker: worker.id }, 'a message to a worker was lost');
      });
      worker.once('exit', (code: number | null, signal: string | null) => {
        joined.delete(worker);
        questions.leave(worker);
        if (isStopping) return;
        if (!isKept) {
          if (signal) log.fatal({ worker: worker.id, signal }, 'a worker was killed at its start');
          reject(new WorkerFailed(code === 78 ? code : 1));
          return;
        }
        const next = performance.now() - launchedAt > longestPause ? firstPause : pause;
        log.error({ worker: worker.id, code, signal }, `a worker ended; another one starts in ${next / 1000} s`);
        const timer = setTimeout(() => {
          restarts.delete(timer);
          launch(Math.min(next * 2, longestPause)).catch(() => undefined);
        }, next);
        restarts.add(timer);
      });
    });
  }

  const addresses = await launch(firstPause);
  await Promise.all(Array.from({ length: config.workers - 1 }, () => launch(firstPause)));
  isKept = true;

  return {
    ...addresses,
    async close() {
      isStopping = true;
      restarts.forEach(clearTimeout);
      const running = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
      await Promise.all(running.map(stop));
    },
  };
}

function stop(worker: Worker): Promise<void> {
  return new Promise((resolve) => {
    const giveUp = setTimeout(() => worker.process.kill('SIGKILL'), stopPatience);
    worker.once('exit', () => {
      clearTimeout(giveUp);
      resolve();
    });
    worker.process.kill('SIGTERM');
  });
}

interface Pending {
  readonly asker: Worker;
  readonly number: number;
  readonly missing: Set<Worker>;
  readonly answers: unknown[];
  readonly timer: NodeJS.Timeout;
}

/** Puts the question of one worker to all others. One who dies meanwhile knows nothing any more and need not answer. */
function createQuestions(joined: ReadonlySet<Worker>, onSilent: (worker: Worker) => void) {
  const pending = new Map<number, Pending>();
  let last = 0;

  function settleIfComplete(number: number, { asker, number: askedAs, missing, answers, timer }: Pending): void {
    if (missing.size > 0) return;
    clearTimeout(timer);
    pending.delete(number);
    send(asker, { type: 'answers', number: askedAs, answers });
  }

  return {
    put(asker: Worker, askedAs: number, question: Question): void {
      const number = ++last;
      const missing = new Set([...joined].filter((worker) => worker !== asker));
      const timer = setTimeout(() => {
        if (question.about === 'metrics') pending.delete(number);
        // it would go on from its memory when it wakes up; its exit counts as its answer, and another takes its place
        else for (const worker of missing) onSilent(worker);
      }, patience);
      const asked: Pending = { asker, number: askedAs, missing, answers: [], timer };
      pending.set(number, asked);
      for (const worker of missing) send(worker, { type: 'question', number, question });
      settleIfComplete(number, asked);
    },
    answer(worker: Worker, number: number, answer: unknown): void {
      const asked = pending.get(number);
      if (!asked?.missing.delete(worker)) return;
      asked.answers.push(answer);
      settleIfComplete(number, asked);
    },
    leave(worker: Worker): void {
      for (const [number, asked] of pending) {
        asked.missing.delete(worker);
        settleIfComplete(number, asked);
      }
    },
  };
}

function send(worker: Worker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message);
}
