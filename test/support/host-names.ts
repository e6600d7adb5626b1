import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDir } from './stack.ts';

/** Names of hosts that some processes know, and whose addresses can be changed while these run. */
export interface HostNames {
  /** For the environment of a process. */
  readonly env: Readonly<Record<string, string>>;
  readonly set: (name: string, address: string) => void;
}

/** By libnss_wrapper, which answers getaddrinfo(3) from a file and looks whether that is another one now. */
export function createHostNames(): HostNames {
  const file = join(makeTempDir(), 'hosts');
  const addresses = new Map<string, string>();
  const write = () => {
    writeFileSync(`${file}.new`, [...addresses].map(([name, address]) => `${address} ${name}\n`).join(''));
    renameSync(`${file}.new`, file);
  };
  write();
  return {
    env: { LD_PRELOAD: libraryFile(), NSS_WRAPPER_HOSTS: file },
    set(name, address) {
      addresses.set(name, address);
      write();
    },
  };
}

/** Debian has it below the name of the processor's kind. */
function libraryFile(): string {
  for (const folder of ['', ...readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu'))]) {
    const found = readdirSync(join('/usr/lib', folder)).find((name) => name === 'libnss_wrapper.so');
    if (found !== undefined) return join('/usr/lib', folder, found);
  }
  throw new Error('libnss_wrapper.so is missing: apt-get install libnss-wrapper');
}
