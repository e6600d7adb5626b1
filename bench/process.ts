import { execFile, spawnSync } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { startChild, type Child } from '../src/local/child.ts';
import { Skip, type Bench } from './bench.ts';

export interface ServerOptions {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env?: NodeJS.ProcessEnv;
  /** Whether it serves yet. */
  readonly isReady: () => Promise<boolean>;
  /** Signal and milliseconds. */
  readonly stopWith?: readonly (readonly [NodeJS.Signals, number])[];
}

/** A process that runs until the end of the benchmark, or until it is stopped. */
export interface Server {
  readonly pid: number;
  readonly stop: () => Promise<void>;
}

const runFile = promisify(execFile);

/** @throws {Error} with what the process printed, when it does not come up */
export async function startServer(bench: Bench, options: ServerOptions): Promise<Server> {
  bench.signal.throwIfAborted();
  const output = createTail();
  const child = startChild({
    name: options.name,
    command: options.command,
    env: options.env ?? pathOnly(bench),
    output,
    stopWith: options.stopWith ?? [['SIGTERM', 5_000]],
  });
  bench.atEnd(child.stop);
  try {
    await untilReady(bench, child, options);
  } catch (error) {
    await child.stop();
    throw new Error(`${(error as Error).message}\n${output.text()}`, { cause: error });
  }
  if (child.pid === undefined) throw new Error(`${options.name} cannot be started.`);
  return { pid: child.pid, stop: child.stop };
}

async function untilReady({ signal }: Bench, { failed }: Child, { name, isReady }: ServerOptions): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!(await Promise.race([failed, isReady()]))) {
    signal.throwIfAborted();
    if (Date.now() > deadline) throw new Error(`${name} does not answer after 20 s.`);
    await delay(5);
  }
}

/** Keeps the last 4,000 characters that were written to it. */
export function createTail(): Writable & { readonly text: () => string } {
  let kept = '';
  const tail = new Writable({
    write(chunk: Buffer, _, done) {
      kept = (kept + chunk.toString()).slice(-4_000);
      done();
    },
  });
  return Object.assign(tail, { text: () => kept.trim() });
}

/**
 * Runs a program to its end and returns what it printed.
 *
 * @throws {Error} with what it printed on standard error, when it fails
 */
export async function runProgram(bench: Bench, command: string, args: readonly string[]): Promise<string> {
  const { signal } = bench;
  try {
    // it ends with us, even when we are killed
    const withUs = ['--pdeathsig', 'SIGTERM', '--', command, ...args];
    const { stdout } = await runFile('setpriv', withUs, { signal, env: pathOnly(bench), maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  } catch (error) {
    signal.throwIfAborted();
    const { stderr = '', message } = error as Error & { stderr?: string };
    throw new Error(`${command}: ${stderr.trim() || message}`, { cause: error });
  }
}

export function pathOnly({ env }: Pick<Bench, 'env'>): NodeJS.ProcessEnv {
  return { PATH: env['PATH'], HOME: env['HOME'] };
}

export function isInstalled(bench: Pick<Bench, 'env'>, program: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$0"', program], { env: pathOnly(bench), stdio: 'ignore' }).status === 0;
}

/** @throws {Skip} */
export function requireProgram(bench: Bench, program: string): void {
  if (!isInstalled(bench, program)) throw new Skip(`${program} is not installed`);
}

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Whether somebody listens there: a port of 127.0.0.1, or the path of a Unix socket. */
export function accepts(address: number | string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = typeof address === 'number' ? connect(address, '127.0.0.1') : connect(address);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
