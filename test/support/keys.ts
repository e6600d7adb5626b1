import { generateSecret } from '../../src/auth/api-key.ts';

/** A well-formed key, checksum and all, that nobody has given out. */
export function madeUpKey(id: number | string): string {
  return `${id}.${generateSecret(String(id))}`;
}
