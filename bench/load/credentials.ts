import { hash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checksumOf } from '../../src/auth/api-key.ts';
import type { Bench } from '../bench.ts';
import type { CredentialSource } from '../set-ups/set-up.ts';

/** The secret of a client of the benchmark. */
export function secretOf(id: number): string {
  const random = hash('sha256', `bench-${id}`).slice(0, 58);
  return random + checksumOf(`${id}.${random}`);
}

export function apiKeyOf(id: number): string {
  return `apk ${id}.${secretOf(id)}`;
}

/** The same credential in every request. */
export function always(bench: Bench, name: string, authorization: string): CredentialSource {
  const file = writeCredentials(bench, name, [authorization]);
  return { isUsedOnce: false, file: () => Promise.resolve(file) };
}

/** Credentials that are made anew for each measurement, so many for each second of it. */
export function drawn(
  bench: Bench,
  name: string,
  perSecond: number,
  draw: (count: number) => string[] | Promise<string[]>,
): CredentialSource {
  return {
    isUsedOnce: false,
    file: async (seconds) => writeCredentials(bench, name, await draw(perSecond * seconds)),
  };
}

/** @returns the file */
export function writeCredentials(bench: Bench, name: string, lines: readonly string[]): string {
  const file = join(bench.folder('load'), name);
  writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
  return file;
}
