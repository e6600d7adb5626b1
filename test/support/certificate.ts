import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeTempDir } from './stack.ts';

/** A self-signed certificate with its key, both PEM; `protection` is what openssl req is told about the key. */
export function makeCertificate(name: string, protection: readonly string[] = ['-nodes']): Pair {
  const dir = makeTempDir();
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-subj', `/CN=${name}`, '-keyout', 'key'];
  openssl('req', '-x509', ...kind, ...protection, '-days', '90', '-out', 'certificate');
  const pair = {
    certificate: readFileSync(join(dir, 'certificate'), 'utf8'),
    key: readFileSync(join(dir, 'key'), 'utf8'),
  };
  rmSync(dir, { recursive: true });
  return pair;
}

export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

interface Ending {
  readonly days?: number;
  readonly authority?: Pair;
}

/** The same, but its time is over, or will be in so many days; signed by itself, or by an authority. */
export function makeExpiredCertificate(name: string, { days = -1, authority }: Ending = {}): Pair {
  const { key } = makeCertificate(name);
  const dir = makeTempDir();
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
  writeFileSync(join(dir, 'key'), key);
  writeFileSync(join(dir, 'authority.key'), authority?.key ?? '');
  writeFileSync(join(dir, 'authority.crt'), authority?.certificate ?? '');
  const signer = authority
    ? ['-CA', 'authority.crt', '-CAkey', 'authority.key', '-set_serial', '1']
    : ['-signkey', 'key'];
  openssl('req', '-new', '-key', 'key', '-subj', `/CN=${name}`, '-out', 'request');
  openssl('x509', '-req', '-in', 'request', ...signer, '-days', String(days), '-out', 'certificate');
  const certificate = readFileSync(join(dir, 'certificate'), 'utf8');
  rmSync(dir, { recursive: true });
  return { certificate, key };
}
