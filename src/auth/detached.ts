/** Shorter parts of a string are copies in V8. */
const leastPart = 13;

/**
 * The same text, of characters up to U+00FF, with memory of its own. For what is kept: V8 makes a part of a string by
 * reference, so the id of a request would keep the whole of its head.
 */
export function detached(text: string): string {
  return text.length < leastPart ? text : Buffer.from(text, 'latin1').toString('latin1');
}
