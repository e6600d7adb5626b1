import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { after } from 'node:test';
import { FrontDoor } from './front-door.ts';
import { freePorts, root, until } from './stack.ts';

export interface Up extends FrontDoor {
  readonly npm: ChildProcess;
  readonly output: () => string;
  readonly key: () => string;
  readonly ended: Promise<[number | null, NodeJS.Signals | null]>;
}

// a test that fails must not leave its processes behind
const spawned = new Set<ChildProcess>();
after(() => {
  for (const npm of spawned) npm.kill('SIGTERM');
});

export const typed = ['npm', 'run', 'up'] as const;
/** The same without npm, for what is not about how it is started. */
export const withoutNpm = [process.execPath, 'scripts/up.mjs'] as const;
export type UpCommand = typeof typed | typeof withoutNpm;

/** `npm run up`, as it is typed. */
export async function spawnUp(env: Record<string, string>, [command, ...args]: UpCommand = typed): Promise<Up> {
  const [httpPort, httpsPort] = await freePorts(2);
  const npm = spawn(command, args, {
    cwd: root,
    env: { ...process.env, APIGW_HTTP_PORT: String(httpPort), APIGW_HTTPS_PORT: String(httpsPort), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  spawned.add(npm);
  let output = '';
  for (const stream of [npm.stdout, npm.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  return Object.assign(new FrontDoor(httpsPort, httpPort), {
    npm,
    output: () => output,
    key: () => /^NEWLY GENERATED API KEY: (.*)$/m.exec(output)?.[1] ?? '',
    ended: once(npm, 'exit') as Promise<[number | null, NodeJS.Signals | null]>,
  });
}

export async function startUp(env: Record<string, string>, command?: UpCommand): Promise<Up> {
  const up = await spawnUp(env, command);
  await until(
    'npm run up is up',
    () => {
      if (up.npm.exitCode !== null) throw new Error(`npm run up ended:\n${up.output()}`);
      return up.output().includes('Ctrl-C stops everything');
    },
    60_000,
  );
  return up;
}

/** Processes that have a path below the directory on their command line, or one of its sockets open. */
export function processesOf(...needles: string[]): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^[0-9]+$/.test(pid) && Number(pid) !== process.pid)
    .map((pid) => {
      try {
        return (
          readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ') +
          readFileSync(`/proc/${pid}/environ`, 'utf8')
        );
      } catch {
        return '';
      }
    })
    .filter((text) => needles.some((needle) => text.includes(needle)));
}

export async function stopUp(up: Up, stateDir: string): Promise<void> {
  up.npm.kill('SIGTERM');
  await up.ended;
  await until('nothing is left running', () => processesOf(stateDir).length === 0);
}
