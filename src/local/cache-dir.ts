import { hash } from 'node:crypto';
import { readdirSync, rmdirSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';

/** statfs(2): TMPFS_MAGIC. */
const tmpfs = 0x01021994;

/**
 * Where nginx keeps decisions, with credentials in them: in memory. With nginx's working files when those are, else in
 * a directory that the next start finds again, should this one be killed.
 */
export function chooseCacheDir(prefix: string, runDir: string, stateDir: string): string {
  if (statfsSync(runDir).type === tmpfs) return join(prefix, 'decisions');
  const name = hash('sha256', stateDir, 'hex').slice(0, 12);
  return join('/dev/shm', `apigw-decisions-${process.getuid?.() ?? 0}-${name}`);
}

/** Removes what nginx/stage.sh and nginx make there. */
export function removeCacheDir(directory: string): void {
  try {
    for (const entry of readdirSync(directory)) {
      if (/^[0-9a-f]$/.test(entry)) rmSync(join(directory, entry), { recursive: true, force: true });
    }
    rmdirSync(directory);
  } catch {
    // never made, or the operator has it mounted
  }
}
