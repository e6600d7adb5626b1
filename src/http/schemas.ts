import { isIP } from 'node:net';
import { z } from 'zod';
import { isId } from '../auth/api-key.ts';
import { fitsHeader } from '../auth/header-value.ts';
import { faultOfCidr } from '../auth/network.ts';
import { parseRate } from '../auth/rate-limit.ts';
import { sortOrders, type SortOrder } from '../clients/client-store.ts';
import { parseSeconds } from '../duration.ts';
import { Problem, type FieldError } from '../problem.ts';

const maxCharacters = 1024;

// Names stand in logs, terminals and headers, and people compare them by eye: what cannot be seen, or looks different
// everywhere, has no place in them. docs/adr/0003-names.md
export const unseen = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
export const emoji = /[\p{Emoji_Presentation}\p{Emoji_Modifier}\u{FE0F}\u{20E3}]/u;

/** One line of visible text, 1 to 1,024 characters (Unicode code points). */
const line = z
  .string({ error: 'must be a string' })
  .refine((text) => text.length > 0, { error: 'must not be empty', abort: true })
  .refine((text) => countCharacters(text) <= maxCharacters, {
    error: ({ input }) => `has ${countCharacters(input as string)} characters; at most ${maxCharacters} are allowed`,
    abort: true,
  })
  .refine((text) => !emoji.test(text), { error: 'must not contain emoji', abort: true })
  .refine((text) => !unseen.test(text), {
    error: 'must not contain control characters (such as CR, LF or NUL), invisible or unassigned ones',
    abort: true,
  })
  .refine((text) => text === text.normalize(), { error: 'must be in Unicode normal form C', abort: true })
  .refine((text) => text === text.trim(), { error: 'must not begin or end with a space' });

/** Such a line that fits into a header whole: of two clients that are cut off alike, an application would see one. */
const identifier = line.refine(fitsHeader, {
  error: 'has more than 1,024 bytes when percent-encoded for a header',
});

/** `true` and `false`; scripts written for other gateways send them as strings. */
const flag = z
  .union([z.boolean(), z.enum(['true', 'false'])], { error: 'must be true or false' })
  .transform(String)
  .transform((text) => text === 'true');

/** RFC 3339, with any offset; what is kept and shown is UTC. In milliseconds since the epoch. */
const time = z.iso
  .datetime({ offset: true, error: 'must be a time as in RFC 3339, such as 2027-01-31T00:00:00Z, or null' })
  .transform((text) => Date.parse(text))
  .refine((at) => at <= Date.parse('9999-12-31T23:59:59.999Z'), { error: 'is beyond the year 9999' });

const futureTime = time.refine((at) => at > Date.now(), { error: 'is in the past' });

function listOf<T extends z.ZodType<string>>(item: T, most: number) {
  return z
    .array(item, { error: 'must be a list' })
    .max(most, { error: `has more than ${most} members` })
    .refine((list) => new Set(list).size === list.length, { error: 'has a member twice' });
}

const tags = listOf(
  line.refine((text) => countCharacters(text) <= 64, { error: 'has more than 64 characters' }),
  32,
);

/** RFC 6749 3.3: scope-token. */
const scopes = listOf(
  z.string({ error: 'must be a string' }).regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/, {
    error: 'must be 1 to 128 printable ASCII characters without space, quote and backslash',
  }),
  64,
);

const cidrs = listOf(
  z.string({ error: 'must be a string' }).refine((text) => faultOfCidr(text) === undefined, {
    error: ({ input }) => faultOfCidr(input as string) ?? '',
  }),
  64,
);

const rate = z.string({ error: 'must be a string such as 100/s, or null' }).refine((text) => parseRate(text), {
  error: 'must be a number of requests and a unit of time, such as 100/s; also /m, /h and /d',
});

const burst = z
  .int({ error: 'must be a whole number, or null' })
  .min(1, { error: 'must be at least 1' })
  .max(999_999_999, { error: 'must be at most 999999999' });

/** Seconds in; milliseconds out. */
const span = z
  .union([z.string(), z.int().min(0).transform(String)], { error: 'must be a span of time such as 24h, 90m or 0' })
  .transform((text) => parseSeconds(text) ?? -1)
  .refine((seconds) => seconds >= 0 && seconds <= 366 * 86_400, {
    error: 'must be a span of time such as 24h, 90m or 0, at most 366d',
  })
  .transform((seconds) => seconds * 1_000);

export const createRequest = z
  .strictObject({
    name: line.optional(),
    api_client_id: identifier.optional(),
    description: line.nullable().default(null),
    tags: tags.default([]),
    scopes: scopes.default([]),
    allowed_cidrs: cidrs.default([]),
    is_admin: flag.default(false),
    enabled: flag.default(true),
    expires_at: futureTime.nullable().default(null),
    rate_limit: rate.nullable().default(null),
    rate_limit_burst: burst.nullable().default(null),
    quota: rate.nullable().default(null),
    generate_api_key: flag.default(true),
  })
  .refine((request) => request.rate_limit_burst === null || request.rate_limit !== null, {
    path: ['rate_limit_burst'],
    error: 'needs a rate_limit',
  });

/** Null clears. A time in the past ends the client at once. */
export const updateRequest = z.strictObject({
  name: line.optional(),
  api_client_id: identifier.optional(),
  description: line.nullish(),
  tags: tags.nullish(),
  scopes: scopes.nullish(),
  allowed_cidrs: cidrs.nullish(),
  is_admin: flag.optional(),
  enabled: flag.optional(),
  expires_at: time.nullish(),
  rate_limit: rate.nullish(),
  rate_limit_burst: burst.nullish(),
  quota: rate.nullish(),
});

export const createKeyRequest = z.strictObject({ expires_at: futureTime.nullable().default(null) });

export const rotateRequest = z.strictObject({
  overlap: span.default(24 * 3_600_000),
  expires_at: futureTime.nullable().default(null),
});

export const tokenRequest = z.strictObject({
  token: z
    .string({ error: 'must be a string' })
    .min(1, { error: 'must not be empty' })
    .max(20_000, { error: 'has more than 20,000 characters' }),
});

export const introspectRequest = tokenRequest.extend({
  address: z
    .string({ error: 'must be a string' })
    .refine((text) => isIP(text) !== 0, { error: 'must be an IP address' })
    .optional(),
});

/** What the gateway gives by itself, in the words of a client or of a key. */
const given = new Set([
  'id',
  'api_key_id',
  'api_client_entity_id',
  'has_api_key',
  'api_key_expires_at',
  'replaced_key_used_at',
  'created_at',
  'updated_at',
  'last_used_at',
  'token',
  'hint',
]);

function countCharacters(text: string): number {
  return Array.from(text).length;
}

const wholeNumber = (min: number, max: number) =>
  z
    .string({ error: 'must be given once' })
    .regex(/^(?:0|[1-9][0-9]*)$/, { error: `must be a whole number from ${min} to ${max}`, abort: true })
    .transform(Number)
    .refine((value) => value >= min && value <= max, { error: `must be a whole number from ${min} to ${max}` });

export const maxPage = 1000;

const moment = z.iso
  .datetime({ offset: true, error: 'must be a time as in RFC 3339, such as 2026-01-31T00:00:00Z' })
  .transform((text) => Date.parse(text));

const sort = z
  .enum(
    sortOrders.flatMap((order) => [order, `-${order}`] as const),
    { error: `must be one of ${sortOrders.join(', ')}, for the other direction with - before it` },
  )
  .transform((text) => ({ order: text.replace('-', '') as SortOrder, isDescending: text.startsWith('-') }));

/** Where the page before ended: for the order of ids the last id, else what it was sorted by with it. */
const cursor = z.string({ error: 'must be given once' }).transform((text, context) => {
  if (/^(?:0|[1-9][0-9]{0,15})$/.test(text)) return { value: Number(text), id: Number(text), sort: 'id' };
  try {
    const [order, value, id]: unknown[] = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[];
    if (
      typeof order === 'string' &&
      order !== 'id' &&
      Number.isSafeInteger(id) &&
      (typeof value === 'string' || Number.isSafeInteger(value))
    )
      return { value: value as string | number, id: id as number, sort: order };
  } catch {
    // said below
  }
  context.addIssue({ code: 'custom', message: 'must be what the Link of the page before has' });
  return z.NEVER;
});

export const listQuery = z
  .strictObject({
    limit: wholeNumber(1, maxPage).default(maxPage),
    cursor: cursor.optional(),
    sort: sort.default({ order: 'id', isDescending: false }),
    name: line.optional(),
    tag: line.optional(),
    is_admin: flag.optional(),
    state: z.enum(['enabled', 'disabled', 'expired'], { error: 'must be enabled, disabled or expired' }).optional(),
    unused_since: moment.optional(),
    replaced_key_used: flag.optional(),
  })
  .refine(({ cursor: from, sort: { order } }) => from === undefined || from.sort === order, {
    path: ['cursor'],
    error: 'is of a list that is sorted otherwise',
  });

export function writeCursor(order: SortOrder, value: string | number, id: number): string {
  return order === 'id' ? String(id) : Buffer.from(JSON.stringify([order, value, id])).toString('base64url');
}

export const changeQuery = z.strictObject({ force: flag.default(false) });

export const noQuery = z.strictObject({});

/**
 * The id in a path, in canonical decimal form.
 *
 * @throws {Problem} 400 for anything else
 */
export function parseId(text = ''): number {
  if (!isId(text)) {
    throw new Problem(
      400,
      'invalid_id',
      'The id in the path must be a whole number from 1 to 9223372036854775807, without a sign or leading zeros.',
    );
  }
  return Number(text);
}

/**
 * The value of the header `Idempotency-Key`, a structured field string (RFC 8941 3.3.3) or bare.
 *
 * @throws {Problem} 400 for anything else
 */
export function parseIdempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  const [, quoted, bare] =
    /^(?:"([\x20\x21\x23-\x5b\x5d-\x7e]{8,255})"|([\x21\x23-\x7e]{8,255}))$/.exec(String(header)) ?? [];
  const key = quoted ?? bare;
  if (key !== undefined) return key;
  throw new Problem(
    400,
    'invalid_idempotency_key',
    'The Idempotency-Key must have 8 to 255 printable ASCII characters, such as a UUID.',
  );
}

/** @throws {Problem} 400 with a JSON Pointer for each fault */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const errors = result.error.issues.flatMap((issue): FieldError[] =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({
          pointer: pointer([...issue.path, key]),
          detail: given.has(key) ? 'is given by the gateway and cannot be set' : 'is not a member of this object',
        }))
      : [{ pointer: pointer(issue.path), detail: issue.path.length === 0 ? 'must be a JSON object' : issue.message }],
  );
  throw new Problem(400, 'invalid_body', `The request body is not valid. ${sentence(errors)}`, { errors });
}

/** @throws {Problem} 400 naming each parameter at fault */
export function parseQuery<T>(schema: z.ZodType<T>, query: unknown): T {
  const result = schema.safeParse(query);
  if (result.success) return result.data;
  const errors = result.error.issues.flatMap((issue): FieldError[] =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((parameter) => ({ parameter, detail: 'is not a parameter of this call' }))
      : [{ parameter: String(issue.path[0]), detail: issue.message }],
  );
  throw new Problem(400, 'invalid_parameter', `The query string is not valid. ${sentence(errors)}`, { errors });
}

/** RFC 6901. */
function pointer(path: readonly PropertyKey[]): string {
  return path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

function sentence([first]: readonly FieldError[]): string {
  if (!first) return '';
  const where = 'pointer' in first ? first.pointer || 'It' : first.parameter;
  return `${where} ${first.detail}.`;
}
