import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Environment } from '../src/config.ts';
import type { Options } from './options.ts';

/** What is shared by everything in one run of the benchmark, and what is to be stopped at its end. */
export interface Bench {
  /** The repository. */
  readonly root: string;
  readonly env: Environment;
  readonly options: Options;
  /** Fires when the run is to end early. */
  readonly signal: AbortSignal;
  /** Prints one line of progress. */
  readonly say: (message: string) => void;
  /** A folder of this run, which nginx's workers may enter; gone at the end. */
  readonly folder: (name: string) => string;
  /** Registers what is to be done at the end, last one first. */
  readonly atEnd: (step: () => Promise<void> | void) => void;
  /** The same thing for everyone who asks for this name. */
  readonly shared: <T>(name: string, make: () => Promise<T>) => Promise<T>;
  readonly close: () => Promise<void>;
}

/** Why a set-up cannot be measured here; it is reported, and the others go on. */
export class Skip extends Error {
  override readonly name = 'Skip';
}

export function createBench({
  root,
  env,
  options,
  signal,
  say,
}: Pick<Bench, 'root' | 'env' | 'options' | 'signal' | 'say'>): Bench {
  const dir = mkdtempSync(join(tmpdir(), 'apigw-bench-'));
  chmodSync(dir, 0o711);
  const removeDir = () => {
    rmSync(dir, { recursive: true, force: true });
  };
  process.on('exit', removeDir);
  const steps: (() => Promise<void> | void)[] = [];
  const made = new Map<string, Promise<unknown>>();

  return {
    root,
    env,
    options,
    signal,
    say,
    folder(name) {
      const path = join(dir, name);
      mkdirSync(path, { recursive: true, mode: 0o711 });
      return path;
    },
    atEnd(step) {
      steps.push(step);
    },
    shared<T>(name: string, make: () => Promise<T>) {
      const known = made.get(name) as Promise<T> | undefined;
      if (known) return known;
      const making = make();
      made.set(name, making);
      return making;
    },
    async close() {
      for (const step of steps.splice(0).reverse()) {
        await Promise.resolve()
          .then(step)
          .catch((error: unknown) => {
            say(`while stopping: ${(error as Error).message}`);
          });
      }
      removeDir();
    },
  };
}
