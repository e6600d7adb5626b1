import { X509Certificate } from 'node:crypto';

const block = /-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[^-]*-----END \1-----/g;

/**
 * The certificates of a PEM file. TLS takes whatever text it is given for authorities, and then knows none.
 *
 * @returns each by itself; undefined when there is none, or one that cannot be read
 */
export function certificatesIn(text: string): readonly string[] | undefined {
  const found = text.match(block) ?? [];
  return found.length > 0 && found.every(isCertificate) ? found : undefined;
}

function isCertificate(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}
