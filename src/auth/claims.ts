export type Claims = Readonly<Record<string, unknown>>;

/** Where a claim is: the names to follow, outermost first. */
export type ClaimPath = readonly string[];

/** A rule such as `repository_owner_id=123`. */
export interface RequiredClaim {
  readonly path: ClaimPath;
  readonly value: string;
}

/** The path as it is written: a claim's name, a dotted path, or a JSON array of names. Undefined when it is none. */
export function parseClaimPath(text: string): ClaimPath | undefined {
  if (!text.startsWith('[')) return text === '' || /\s/.test(text) ? undefined : [text];
  try {
    const path: unknown = JSON.parse(text);
    const isPath =
      Array.isArray(path) && path.length > 0 && path.every((name) => typeof name === 'string' && name !== '');
    return isPath ? (path as string[]) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The claim at a path, through own members only. A name that is no member of the token is tried as a dotted path, so
 * that both `https://ns.example/client` and `realm_access.client` can be written as they are.
 */
export function findClaim(claims: Claims, path: ClaimPath): unknown {
  const [name = ''] = path;
  if (path.length > 1) return follow(claims, path);
  return Object.hasOwn(claims, name) ? claims[name] : follow(claims, name.split('.'));
}

function follow(claims: unknown, path: ClaimPath): unknown {
  return path.reduce<unknown>(
    (value, name) =>
      typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? (value as Claims)[name] : undefined,
    claims,
  );
}

/** A claim as one line of text of 1 to 1,024 characters; undefined when it is anything else. */
export function asLine(claim: unknown): string | undefined {
  const text = Number.isSafeInteger(claim) ? String(claim) : claim;
  if (typeof text !== 'string' || text === '' || text.length > 1024) return undefined;
  return /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(text) ? undefined : text;
}

/** Whether the claim is that value, or a list that has it; numbers and booleans by their JSON text. */
export function meets(claims: Claims, { path, value }: RequiredClaim): boolean {
  const claim = findClaim(claims, path);
  const values: unknown[] = Array.isArray(claim) ? claim : [claim];
  return values.some((one) => asText(one) === value);
}

/** Undefined for what has no text of its own; of integers beyond 2^53 several are the same number here. */
function asText(claim: unknown): string | undefined {
  if (typeof claim === 'string') return claim;
  if (typeof claim === 'boolean' || Number.isSafeInteger(claim)) return String(claim);
  return typeof claim === 'number' && !Number.isInteger(claim) ? String(claim) : undefined;
}

/** Scopes of a token: `scope` (RFC 8693 4.2), or `scp` as some issuers call it; text with spaces, or a list. */
export function scopesOf(claims: Claims): readonly unknown[] {
  const scopes = Object.hasOwn(claims, 'scope') ? claims['scope'] : Object.hasOwn(claims, 'scp') ? claims['scp'] : [];
  if (typeof scopes === 'string') return scopes.split(' ');
  return Array.isArray(scopes) ? scopes : [];
}
