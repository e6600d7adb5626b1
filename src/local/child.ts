import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

export interface ChildOptions {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env: NodeJS.ProcessEnv;
  /** For later starts, when they differ. */
  readonly restartEnv?: NodeJS.ProcessEnv;
  readonly output: Writable;
  /** Sent to stop it, one after the other, each with the milliseconds it is given. */
  readonly stopWith: readonly (readonly [NodeJS.Signals, number])[];
}

/** A process that is started again when it ends by itself. */
export interface Child {
  readonly pid: number | undefined;
  /** Rejects when the process ends before it was declared ready. */
  readonly failed: Promise<never>;
  /** From now on an end is answered with a new start. */
  readonly keepRunning: () => void;
  readonly stop: () => Promise<void>;
}

/** Bytes of output that wait for a slow reader; what comes after that is lost. */
const maxUnread = 1024 * 1024;
const firstPause = 1_000;
const longestPause = 10_000;

export function startChild({ name, command, env, restartEnv = env, output, stopWith }: ChildOptions): Child {
  const say = (message: string) => output.write(`apigw: ${message}\n`);
  const stopping = new AbortController();
  let isKept = false;
  let nextPause = 0;
  let fail: (error: Error) => void;
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => undefined);
  let current = launch(env);

  /** Not piped: a terminal that stops reading, or is gone, must not stop the child with its next line. */
  function relay(chunk: Buffer): void {
    if (output.writableLength < maxUnread) output.write(chunk);
  }

  function launch(environment: NodeJS.ProcessEnv): ChildProcess {
    const startedAt = performance.now();
    // A process group of its own: Ctrl-C reaches only us, and we stop the others in order. The signal of the parent's
    // death covers the case that we are killed and can stop nobody.
    const child = spawn('setpriv', ['--pdeathsig', 'SIGTERM', '--', ...command], {
      env: environment,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', relay);
    child.once('error', (error) => {
      fail(new Error(`${name} cannot be started: ${error.message}`));
    });
    child.once('exit', (code, signal) => {
      if (stopping.signal.aborted) return;
      const how = signal === null ? `exit code ${code ?? 0}` : signal;
      if (!isKept) {
        fail(new Error(`${name} ended at its start (${how}); what it said is above.`));
        return;
      }
      killGroup(child, 'SIGKILL');
      // at once, but for one that keeps ending
      const pause = performance.now() - startedAt > longestPause ? 0 : nextPause;
      nextPause = Math.min(Math.max(pause * 2, firstPause), longestPause);
      say(`${name} ended (${how}); starting it again${pause === 0 ? '' : ` in ${pause / 1000} s`}`);
      delay(pause, undefined, { signal: stopping.signal }).then(
        () => {
          current = launch(restartEnv);
        },
        () => undefined,
      );
    });
    return child;
  }

  return {
    get pid() {
      return current.pid;
    },
    failed,
    keepRunning() {
      isKept = true;
    },
    async stop() {
      stopping.abort();
      for (const [signal, patience] of stopWith) {
        if (hasEnded(current)) break;
        current.kill(signal);
        await Promise.race([once(current, 'exit'), delay(patience, undefined, { ref: false })]);
      }
      killGroup(current, 'SIGKILL');
      if (!hasEnded(current)) await once(current, 'exit');
    },
  };
}

function hasEnded({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid === undefined || exitCode !== null || signalCode !== null;
}

/** The processes that a killed one has left, such as nginx's workers. */
function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
