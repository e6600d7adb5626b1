import { createPublicKey, type KeyObject } from 'node:crypto';
import type { JWK } from 'jose';

/** A public key that tokens may be verified with. */
export interface VerificationKey {
  readonly kid: string | undefined;
  /** JWS algorithms (RFC 7518, RFC 8037, RFC 9864) that this key can be used with. */
  readonly algorithms: readonly string[];
  readonly key: KeyObject;
}

const maxKeys = 100;
const rsaAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const curveAlgorithms: Readonly<Record<string, readonly string[]>> = {
  'P-256': ['ES256'],
  'P-384': ['ES384'],
  'P-521': ['ES512'],
  Ed25519: ['EdDSA', 'Ed25519'],
};

/**
 * The usable keys of a JWK set (RFC 7517 5), perhaps none. A key that cannot be used is left out and spoils no other.
 *
 * @throws {Error} when it is no JWK set; the message is a sentence
 */
export function parseKeySet(document: unknown): VerificationKey[] {
  const keys = isObject(document) ? document['keys'] : undefined;
  if (!Array.isArray(keys)) throw new Error('The JWK set has no list of keys.');
  if (keys.length > maxKeys) throw new Error(`The JWK set has ${keys.length} keys; at most ${maxKeys} are taken.`);
  return keys.flatMap((key: unknown) => {
    const parsed = isObject(key) ? parseKey(key) : undefined;
    return parsed ? [parsed] : [];
  });
}

function parseKey(jwk: Readonly<Record<string, unknown>>): VerificationKey | undefined {
  const { kid, use, key_ops: operations, alg } = jwk;
  if (kid !== undefined && typeof kid !== 'string') return undefined;
  if (use !== undefined && use !== 'sig') return undefined;
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) return undefined;
  // a private or symmetric key that is published is nobody's signature any more
  if ('d' in jwk || 'k' in jwk) return undefined;
  const members = publicMembers(jwk);
  if (!members) return undefined;
  const possible = members.kty === 'RSA' ? rsaAlgorithms : (curveAlgorithms[members.crv ?? ''] ?? []);
  const algorithms = alg === undefined ? possible : possible.filter((algorithm) => algorithm === alg);
  const key = algorithms.length === 0 ? undefined : toKey(members);
  return key && { kid, algorithms, key };
}

/** Undefined for members that make no key, such as a point that is not on its curve. */
function toKey(jwk: JWK): KeyObject | undefined {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return undefined;
  }
}

function publicMembers({ kty, n, e, crv, x, y }: Readonly<Record<string, unknown>>): JWK | undefined {
  if (kty === 'RSA' && typeof n === 'string' && typeof e === 'string') {
    return isSoundRsa(Buffer.from(n, 'base64url'), Buffer.from(e, 'base64url')) ? { kty, n, e } : undefined;
  }
  if (typeof crv !== 'string' || typeof x !== 'string') return undefined;
  if (kty === 'EC' && typeof y === 'string' && crv.startsWith('P-')) return { kty, crv, x, y };
  return kty === 'OKP' && crv === 'Ed25519' ? { kty, crv, x } : undefined;
}

/** RFC 7518 3.3: at least 2,048 bits. With an exponent of 1 everybody can sign, and an even number is no RSA key. */
function isSoundRsa(n: Buffer, e: Buffer): boolean {
  const isOdd = (number: Buffer) => ((number.at(-1) ?? 0) & 1) === 1;
  const [bits, exponentBits] = [countBits(n), countBits(e)];
  return isOdd(n) && isOdd(e) && bits >= 2048 && bits <= 8192 && exponentBits >= 2 && exponentBits <= 64;
}

/** Bits of an unsigned big-endian number, without leading zeros. */
function countBits(bytes: Buffer): number {
  const first = bytes.findIndex((byte) => byte !== 0);
  return first < 0 ? 0 : (bytes.length - first) * 8 - Math.clz32(bytes[first] ?? 0) + 24;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
