import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from './stack.ts';

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
