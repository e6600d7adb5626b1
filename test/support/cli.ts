import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDir, root, type TestStack } from './stack.ts';

export interface Ran {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output as JSON. */
  readonly json: unknown;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  /** Bytes of standard output as they are; `stdout` is then empty. */
  readonly onBytes?: (bytes: Buffer) => void;
}

/** The built command line, with nothing in its environment but what is named. */
export function runCli(args: readonly string[], { env = {}, input = '', onBytes }: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'dist/cli/main.js'), ...args], {
      env: { PATH: process.env['PATH'], ...env },
    });
    const chunks: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('close', (exitCode) => {
      onBytes?.(Buffer.concat(chunks));
      const stdout = onBytes ? '' : Buffer.concat(chunks).toString();
      resolve({
        exitCode,
        stdout,
        stderr,
        get json(): unknown {
          return JSON.parse(stdout) as unknown;
        },
      });
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

type Run = (args: readonly string[], options?: RunOptions) => Promise<Ran>;

/** The command line of whoever runs a stack. */
export interface CommandLine {
  /** On the database of the stack, beside its gateway. */
  readonly local: Run;
  /** Over the management API, through nginx. */
  readonly remote: Run;
  readonly both: readonly (readonly [where: string, run: Run])[];
}

export function commandLineOf(getStack: () => TestStack): CommandLine {
  let keyFile: string | undefined;
  const local: Run = (args, options = {}) => {
    const { stateDir, stack } = getStack();
    return runCli(args, {
      ...options,
      env: {
        DATABASE_URL: `sqlite:${join(stateDir, 'apigw.db')}`,
        APIGW_MANAGEMENT_LISTEN: `unix:${join(stack.runDir, 'management.sock')}`,
        ...options.env,
      },
    });
  };
  const remote: Run = (args, options = {}) => {
    const { url, adminKey } = getStack();
    if (keyFile === undefined) {
      keyFile = join(makeTempDir(), 'key');
      writeFileSync(keyFile, `${adminKey}\n`);
    }
    return runCli(['--server', url, '--key-file', keyFile, '--insecure', ...args], options);
  };
  return {
    local,
    remote,
    both: [
      ['on the local database', local],
      ['over the management API', remote],
    ],
  };
}

/** Of a command that is to succeed. */
export async function done(run: Promise<Ran>): Promise<Ran> {
  const ran = await run;
  assert.equal(ran.exitCode, 0, ran.stderr);
  return ran;
}
