import { hash, randomInt, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const randomLength = 58;
const checksumLength = 6;
const largestId = '9223372036854775807';
const keyPattern = /^([1-9][0-9]{0,18})\.([A-Za-z0-9]{64})$/;
const idPattern = /^[1-9][0-9]{0,18}$/;

export interface ApiKeyCredential {
  readonly scheme: 'apk';
  /** Id of the API client, decimal, 1 to 2^63-1, as it was written. */
  readonly clientId: string;
  readonly secret: string;
}

/**
 * A new secret for a client: 58 characters of A-Z a-z 0-9 from the system's CSPRNG, each equally likely (345 bits), and
 * six of checksum.
 */
export function generateSecret(clientId: string): string {
  let random = '';
  while (random.length < randomLength) random += alphabet.charAt(randomInt(alphabet.length));
  return random + checksumOf(`${clientId}.${random}`);
}

/**
 * The last six characters of a key: CRC-32 (as zlib has it) of all that stands before them, in base 62 with A for 0 and
 * A in front. It keeps nobody out; it tells a mistyped key, and one in a text from something that looks like one.
 */
export function checksumOf(keyWithoutChecksum: string): string {
  let rest = crc32(keyWithoutChecksum);
  let digits = '';
  while (digits.length < checksumLength) {
    digits = alphabet.charAt(rest % alphabet.length) + digits;
    rest = Math.floor(rest / alphabet.length);
  }
  return digits;
}

/** Whether the key is as it was given out, by its checksum. */
export function isIntact({ clientId, secret }: ApiKeyCredential): boolean {
  return checksumOf(`${clientId}.${secret.slice(0, randomLength)}`) === secret.slice(randomLength);
}

/** What may be shown of a secret: its last four characters, of the checksum. */
export function hintOf(secret: string): string {
  return secret.slice(-4);
}

/** What is stored of a secret: its SHA-256, 64 hexadecimal digits. A fast digest is right for 345 random bits. */
export function digestSecret(secret: string): string {
  return hash('sha256', secret, 'hex');
}

/** Compares two digests in a time that does not depend on where they differ. */
export function isSameDigest(one: string, other: string): boolean {
  const [first, second] = [Buffer.from(one), Buffer.from(other)];
  return first.length === second.length && timingSafeEqual(first, second);
}

/** `<id>.<secret>`, or undefined. Decided on the text alone: a database takes `01`, `1e0` or `0x1` for 1. */
export function parseApiKey(text: string): ApiKeyCredential | undefined {
  const [, clientId, secret] = keyPattern.exec(text) ?? [];
  if (clientId === undefined || secret === undefined || !isId(clientId)) return undefined;
  return { scheme: 'apk', clientId, secret };
}

/** Whether the text is the canonical decimal form of an integer from 1 to 2^63-1. */
export function isId(text: string): boolean {
  if (!idPattern.test(text)) return false;
  return text.length < largestId.length || text <= largestId;
}
