import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  chmodSync,
  chownSync,
} from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export interface StateDir {
  /** For sockets and nginx's working files: short, and gone at the end. */
  readonly runDir: string;
  readonly release: () => void;
}

/**
 * Takes a state directory for this process, making it when it does not exist.
 *
 * @throws {Error} naming the directory, when it cannot be used or another process has it
 */
export function claimStateDir(stateDir: string, runParent: string): StateDir {
  try {
    makeFolders(join(stateDir, 'logs'));
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
    accessSync(join(stateDir, 'logs'), constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new Error(
      `The state directory ${stateDir} cannot be used: ${(error as Error).message}. Set APIGW_STATE_DIR to another.`,
      { cause: error },
    );
  }
  const pidFile = join(stateDir, 'up.pid');
  const owner = runningOwner(pidFile);
  if (owner !== undefined) {
    throw new Error(
      `The state directory ${stateDir} is in use by process ${owner}. Stop that one, or set APIGW_STATE_DIR to another.`,
    );
  }
  writeFileSync(pidFile, `${process.pid}\n`);

  const link = join(stateDir, 'run');
  removeRunDir(link);
  const runDir = makeRunDir(runParent);
  symlinkSync(runDir, link);
  return {
    runDir,
    release() {
      removeRunDir(link);
      rmSync(pidFile, { force: true });
    },
  };
}

/** Not with mkdir's own `recursive`, which below /proc never comes back. */
function makeFolders(path: string): void {
  if (existsSync(path)) return;
  makeFolders(dirname(path));
  mkdirSync(path, { mode: 0o700 });
}

function runningOwner(pidFile: string): number | undefined {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8'));
    // the number of a process that was killed may belong to another by now
    const isOurs = pid !== process.pid && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('up.mjs');
    return isOurs ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** nginx's workers are another user when root starts nginx: their group may enter, and sockets made here are of it. */
function makeRunDir(parent: string): string {
  const runDir = mkdtempSync(join(isUsable(parent) ? parent : tmpdir(), 'apigw-'));
  if (process.getuid?.() === 0) {
    chownSync(runDir, 0, workerGroup());
    chmodSync(runDir, 0o2710);
  }
  return runDir;
}

function isUsable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The group that nginx/stage.sh gives to the workers. */
function workerGroup(): number {
  for (const user of ['nginx', 'www-data', 'nobody']) {
    try {
      return Number(execFileSync('id', ['-g', user], { stdio: ['ignore', 'pipe', 'ignore'] }));
    } catch {
      // no such user
    }
  }
  return 0;
}

function removeRunDir(link: string): void {
  if (!lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink()) return;
  const target = readlinkSync(link);
  if (/\/apigw-[A-Za-z0-9]{6}$/.test(target)) rmSync(target, { recursive: true, force: true });
  rmSync(link);
}
