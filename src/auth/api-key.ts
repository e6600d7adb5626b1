import { hash, randomInt, timingSafeEqual } from 'node:crypto';

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const secretLength = 64;
const largestId = '9223372036854775807';
const keyPattern = /^([1-9][0-9]{0,18})\.([A-Za-z0-9]{64})$/;
const idPattern = /^[1-9][0-9]{0,18}$/;

export interface ApiKeyCredential {
  readonly scheme: 'apk';
  /** Id of the API client, decimal, 1 to 2^63-1, as it was written. */
  readonly clientId: string;
  readonly secret: string;
}

/** 64 characters of A-Z a-z 0-9 from the system's CSPRNG, each equally likely: 381 bits. */
export function generateSecret(): string {
  let secret = '';
  while (secret.length < secretLength) secret += alphabet.charAt(randomInt(alphabet.length));
  return secret;
}

/** What is stored of a secret: its SHA-256, 64 hexadecimal digits. A fast digest is right for 381 random bits. */
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
