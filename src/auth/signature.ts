import { constants, verify, type KeyObject } from 'node:crypto';

/** Whether the key has made the signature over the bytes with a JWS algorithm; at once, and never throws. */
export type IsSignedBy = (alg: string, key: KeyObject, input: Buffer, signature: Buffer) => boolean;

interface Scheme {
  readonly keyType: 'rsa' | 'ec' | 'ed25519';
  /** None for Ed25519, which has its own. */
  readonly digest: string | null;
  /** Bytes; of RSA it is the key that says. */
  readonly signatureLength?: number;
  readonly options: { readonly padding?: number; readonly saltLength?: number; readonly dsaEncoding?: 'ieee-p1363' };
}

/** RFC 7518 3.3, 3.5 (the salt is as long as the digest), 3.4 (R and S, not DER), RFC 8037 3.1, RFC 9864 2.2. */
const schemes: ReadonlyMap<string, Scheme> = new Map([
  ['RS256', pkcs1('sha256')],
  ['RS384', pkcs1('sha384')],
  ['RS512', pkcs1('sha512')],
  ['PS256', pss('sha256')],
  ['PS384', pss('sha384')],
  ['PS512', pss('sha512')],
  ['ES256', ecdsa('sha256', 64)],
  ['ES384', ecdsa('sha384', 96)],
  ['ES512', ecdsa('sha512', 132)],
  ['EdDSA', ed25519()],
  ['Ed25519', ed25519()],
]);

export const isSignedBy: IsSignedBy = (alg, key, input, signature) => {
  const scheme = schemes.get(alg);
  // the key set has seen to it; here so that no other caller can let a token choose how a key is used
  if (!scheme || key.asymmetricKeyType !== scheme.keyType) return false;
  const { digest, signatureLength = signature.length, options } = scheme;
  if (signature.length !== signatureLength) return false;
  try {
    return verify(digest, input, { key, ...options }, signature);
  } catch {
    // what OpenSSL cannot even try has not been signed
    return false;
  }
};

function pkcs1(digest: string): Scheme {
  return { keyType: 'rsa', digest, options: { padding: constants.RSA_PKCS1_PADDING } };
}

function pss(digest: string): Scheme {
  const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_DIGEST: saltLength } = constants;
  return { keyType: 'rsa', digest, options: { padding, saltLength } };
}

/** A key on another curve has signatures of another length. */
function ecdsa(digest: string, signatureLength: number): Scheme {
  return { keyType: 'ec', digest, signatureLength, options: { dsaEncoding: 'ieee-p1363' } };
}

function ed25519(): Scheme {
  return { keyType: 'ed25519', digest: null, signatureLength: 64, options: {} };
}
