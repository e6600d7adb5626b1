import type { JWK } from 'jose';

/** A public key that tokens may be verified with. */
export interface VerificationKey {
  readonly kid: string | undefined;
  /** JWS algorithms (RFC 7518, RFC 8037, RFC 9864) that this key can be used with. */
  readonly algorithms: readonly string[];
  /** Public members only, frozen: jose remembers what it made of it. */
  readonly jwk: Readonly<JWK>;
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
 * The usable keys of a JWK set (RFC 7517 5). A key that cannot be used is left out and spoils no other.
 *
 * @throws {Error} when it is no JWK set or has no usable key; the message is a sentence
 */
export function parseKeySet(document: unknown): VerificationKey[] {
  const keys = isObject(document) ? document['keys'] : undefined;
  if (!Array.isArray(keys)) throw new Error('The JWK set has no list of keys.');
  if (keys.length > maxKeys) throw new Error(`The JWK set has ${keys.length} keys; at most ${maxKeys} are taken.`);
  const usable = keys.flatMap((key: unknown) => {
    const parsed = isObject(key) ? parseKey(key) : undefined;
    return parsed ? [parsed] : [];
  });
  if (usable.length === 0) throw new Error(`None of the ${keys.length} keys of the JWK set can verify a signature.`);
  return usable;
}

function parseKey(key: Readonly<Record<string, unknown>>): VerificationKey | undefined {
  const { kid, use, key_ops: operations, alg } = key;
  if (kid !== undefined && typeof kid !== 'string') return undefined;
  if (use !== undefined && use !== 'sig') return undefined;
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) return undefined;
  // a private or symmetric key that is published is nobody's signature any more
  if ('d' in key || 'k' in key) return undefined;
  const jwk = publicMembers(key);
  if (!jwk) return undefined;
  const possible = jwk.kty === 'RSA' ? rsaAlgorithms : (curveAlgorithms[jwk.crv ?? ''] ?? []);
  const algorithms = alg === undefined ? possible : possible.filter((algorithm) => algorithm === alg);
  return algorithms.length === 0 ? undefined : { kid, algorithms, jwk: Object.freeze(jwk) };
}

function publicMembers({ kty, n, e, crv, x, y }: Readonly<Record<string, unknown>>): JWK | undefined {
  if (kty === 'RSA' && typeof n === 'string' && typeof e === 'string') {
    return countBits(n) >= 2048 && countBits(n) <= 8192 && countBits(e) <= 64 ? { kty, n, e } : undefined;
  }
  if (typeof crv !== 'string' || typeof x !== 'string') return undefined;
  if (kty === 'EC' && typeof y === 'string' && crv.startsWith('P-')) return { kty, crv, x, y };
  return kty === 'OKP' && crv === 'Ed25519' ? { kty, crv, x } : undefined;
}

/** Bits of an unsigned big-endian number in base64url, without leading zeros. */
function countBits(text: string): number {
  const bytes = Buffer.from(text, 'base64url');
  const first = bytes.findIndex((byte) => byte !== 0);
  return first < 0 ? 0 : (bytes.length - first) * 8 - Math.clz32(bytes[first] ?? 0) + 24;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
