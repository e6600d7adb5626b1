const maxBytes = 1024;
const encoder = new TextEncoder();

declare const encoded: unique symbol;

/** Text as it may stand in an HTTP header: what `encodeHeaderValue` returns. */
export type HeaderValue = string & { readonly [encoded]: true };

/**
 * A value that is safe in an HTTP header: UTF-8, percent-encoded outside printable ASCII and for `%` itself, so that
 * `decodeURIComponent` gives the text back. At most 1,024 bytes: of a longer value as many whole characters as fit.
 */
export function encodeHeaderValue(text: string): HeaderValue {
  if (text.length <= maxBytes && /^[!-$&-~](?:[ -$&-~]*[!-$&-~])?$/.test(text)) return text as HeaderValue;
  const characters = Array.from(text);
  let value = '';
  for (const [position, character] of characters.entries()) {
    // RFC 9110 5.5: space at the ends is no part of a header's value, so there it must not stand bare
    const isAtEnd = position === 0 || position === characters.length - 1;
    const next = /^[!-$&-~]$/.test(character) || (character === ' ' && !isAtEnd) ? character : percentEncode(character);
    if (value.length + next.length > maxBytes) return value.trimEnd() as HeaderValue;
    value += next;
  }
  return value as HeaderValue;
}

/** Whether the value is encoded without being cut off. */
export function fitsHeader(text: string): boolean {
  return decodeURIComponent(encodeHeaderValue(text)) === text;
}

function percentEncode(character: string): string {
  let encoded = '';
  for (const byte of encoder.encode(character)) encoded += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return encoded;
}
