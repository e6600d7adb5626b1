import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDir } from './stack.ts';

const mounted = new Set<string>();
process.on('exit', () => {
  for (const path of mounted) unmount(path);
});

/** Whether this user may mount: root may, unless a container forbids it. */
export const mayMount = (() => {
  try {
    unmount(mountTmpfs('1m'));
    return true;
  } catch {
    return false;
  }
})();

/** A file system in memory of its own, with this room. */
export function mountTmpfs(size: string): string {
  const path = join(makeTempDir(), 'mounted');
  mkdirSync(path);
  mount('-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path);
  mounted.add(path);
  return path;
}

/** Shows the folder where it is, but read-only. What is open already is not affected. */
export function mountReadOnly(path: string): void {
  mount('--bind', path, path);
  mounted.add(path);
  mount('-o', 'remount,bind,ro', path);
}

export function unmount(path: string): void {
  mounted.delete(path);
  execFileSync('umount', ['--lazy', path], { stdio: 'ignore' });
}

function mount(...args: string[]): void {
  execFileSync('mount', args, { stdio: 'ignore' });
}
