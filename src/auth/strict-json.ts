const maxDepth = 32;

/**
 * Parses a JSON object (RFC 8259) whose members all have different names, at every level: of two members with one name
 * each reader may see another one (RFC 7519 4 lets us refuse them). It is nested at most 32 deep.
 *
 * @returns undefined for anything else
 */
export function parseStrictObject(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value) || isUnsound(text)) return undefined;
    return value as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
}

/**
 * Whether an object in it has two members of one name, or it is nested more than 32 deep. For text that is known to be
 * JSON: the first string after `{`, or after a `,` directly inside an object, is a name.
 */
export function isUnsound(text: string): boolean {
  const open: (Set<string> | undefined)[] = [];
  let isNameNext = false;
  for (let at = 0; at < text.length; at++) {
    switch (text.charAt(at)) {
      case '{':
      case '[':
        isNameNext = text[at] === '{';
        open.push(isNameNext ? new Set() : undefined);
        if (open.length > maxDepth) return true;
        break;
      case '}':
      case ']':
        open.pop();
        isNameNext = false;
        break;
      case ',':
        isNameNext = open.at(-1) !== undefined;
        break;
      case '"': {
        const end = endOfString(text, at);
        if (isNameNext) {
          const names = open.at(-1);
          const name = JSON.parse(text.slice(at, end + 1)) as string;
          if (names?.has(name)) return true;
          names?.add(name);
          isNameNext = false;
        }
        at = end;
      }
    }
  }
  return false;
}

/** Where the string that begins there ends. Not by a regular expression: its stack is too small for a string of 10 MB. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at;
}
