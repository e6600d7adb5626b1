import { z } from 'zod';
import { isId } from '../auth/api-key.ts';
import { fitsHeader } from '../auth/header-value.ts';
import { faultOfCidr, isAddress } from '../auth/network.ts';
import { parseRate } from '../auth/rate-limit.ts';
import { sortOrders, type SortOrder } from '../clients/client-store.ts';
import { parseSeconds } from '../duration.ts';
import { redact } from '../redact.ts';
import { Problem, type FieldError } from '../problem.ts';

const maxCharacters = 1024;

// Names stand in logs, terminals and headers, and people compare them by eye: what cannot be seen, or looks different
// everywhere, has no place in them. docs/adr/0003-names.md
export const unseen = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
export const emoji = /[\p{Emoji_Presentation}\p{Emoji_Modifier}\u{FE0F}\u{20E3}]/u;

/** One line of visible text, 1 to 1,024 characters (Unicode code points). */
const visible = z
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
  .refine((text) => text === text.trim(), { error: 'must not begin or end with a space', abort: true })
  // what a refinement asks for is not to be seen in its schema, so the OpenAPI document has it from here
  .meta({ minLength: 1, maxLength: maxCharacters, pattern: String.raw`^\S(?:.*\S)?$` });

/** Such a line as it may be stored: whoever sees a client sees it. */
const line = visible.refine((text) => text === redact(text), {
  error: 'must not contain an API key or a token: everybody is shown it',
});

/** Such a line that fits into a header whole: of two clients that are cut off alike, an application would see one. */
const identifier = line.refine(fitsHeader, {
  error: 'has more than 1,024 bytes when percent-encoded for a header',
});

/** `true` and `false`; scripts written for other gateways send them as strings. */
const flag = z
  .union([z.boolean(), z.enum(['true', 'false'])], { error: 'must be true or false' })
  .transform(String)
  .transform((text) => text === 'true');

/** In a query string, where the two are one. */
const queryFlag = flag.meta({ type: 'boolean', anyOf: undefined });

/** RFC 3339, with any offset; what is kept and shown is UTC. In milliseconds since the epoch. */
const time = z.iso
  .datetime({ offset: true, error: 'must be a time as in RFC 3339, such as 2027-01-31T00:00:00Z, or null' })
  .transform((text) => Date.parse(text))
  .refine((at) => at <= Date.parse('9999-12-31T23:59:59.999Z'), { error: 'is beyond the year 9999' })
  // an offset makes it so, and what is shown could not be sent again
  .refine((at) => at >= Date.parse('0000-01-01T00:00:00Z'), { error: 'is before the year 0' })
  // the format says it all
  .meta({ pattern: undefined });

const futureTime = time.refine((at) => at > Date.now(), { error: 'is in the past' });

function listOf<T extends z.ZodType<string>>(item: T, most: number) {
  return z
    .array(item, { error: 'must be a list' })
    .max(most, { error: `has more than ${most} members` })
    .refine((list) => new Set(list).size === list.length, { error: 'has a member twice' })
    .meta({ uniqueItems: true });
}

const tags = listOf(
  line.refine((text) => countCharacters(text) <= 64, { error: 'has more than 64 characters' }).meta({ maxLength: 64 }),
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
  z
    .string({ error: 'must be a string' })
    .refine((text) => faultOfCidr(text) === undefined, {
      error: ({ input }) => faultOfCidr(input as string) ?? '',
    })
    .meta({ pattern: '^[0-9a-fA-F:.]{2,45}/(?:0|[1-9][0-9]{0,2})$', examples: ['192.0.2.0/24', '2001:db8::/32'] }),
  64,
);

const rate = z
  .string({ error: 'must be a string such as 100/s, or null' })
  .refine((text) => parseRate(text), {
    error: 'must be a number of requests and a unit of time, such as 100/s; also /m, /h and /d',
  })
  .meta({ pattern: '^[1-9][0-9]{0,8}/[smhd]$' });

const burst = z
  .int({ error: 'must be a whole number, or null' })
  .min(1, { error: 'must be at least 1' })
  .max(999_999_999, { error: 'must be at most 999999999' });

const longestSpan = 366 * 86_400;
const spanText = z.string().meta({ pattern: '^[0-9]{1,9}[smhd]?$' });

/** Seconds in; milliseconds out. */
const span = z
  .union([spanText, z.int().min(0).meta({ maximum: longestSpan }).transform(String)], {
    error: 'must be a span of time such as 24h, 90m or 0',
  })
  .transform((text) => parseSeconds(text) ?? -1)
  .refine((seconds) => seconds >= 0 && seconds <= longestSpan, {
    error: 'must be a span of time such as 24h, 90m or 0, at most 366d',
  })
  .transform((seconds) => seconds * 1_000);

/** What is said of the members of an API client, wherever they stand. */
export const clientMembers = {
  name: line.meta({
    description: `One line of visible text in any script: no control or invisible characters, no emoji, no space at either end, no API key or token in it, in Unicode normal form C. The application receives it as \`X-Client-Name\`.`,
  }),
  api_client_id: identifier.meta({
    description: `Unique. As \`name\`, and at most 1,024 bytes when percent-encoded. The application receives it as \`X-Client-Id\`; for access tokens it is what names the client.`,
  }),
  description: line.nullable().meta({ description: 'One line for people, as visible as a `name`.' }),
  tags: tags.meta({ description: 'To find clients by: each one line as visible as a `name`.' }),
  scopes: scopes.meta({ description: 'What locations ask for, `$required_scopes`: scope tokens of RFC 6749 3.3.' }),
  allowed_cidrs: cidrs.meta({
    description:
      'CIDR blocks that the client may call from, without bits beyond the prefix, IPv4 ones as IPv4. None: from anywhere.',
  }),
  is_admin: flag.meta({ description: 'May use the management API.' }),
  enabled: flag.meta({ description: '`false`: its keys and its access tokens are refused with 403.' }),
  rate_limit: rate.nullable().meta({ description: 'Requests and a unit of time, s, m, h or d, such as `100/s`.' }),
  rate_limit_burst: burst
    .nullable()
    .meta({ description: 'So many requests more in ten of the units of `rate_limit`, without which there is none.' }),
  quota: rate.nullable().meta({ description: 'A second limit of the same form, such as `100000/d`.' }),
};

const futureEnd = futureTime.nullable();

export const createRequest = z
  .strictObject({
    name: clientMembers.name.optional(),
    api_client_id: clientMembers.api_client_id.optional(),
    description: clientMembers.description.default(null),
    tags: clientMembers.tags.default([]),
    scopes: clientMembers.scopes.default([]),
    allowed_cidrs: clientMembers.allowed_cidrs.default([]),
    is_admin: clientMembers.is_admin.prefault(false),
    enabled: clientMembers.enabled.prefault(true),
    expires_at: futureEnd.meta({ description: 'In the future: from then on as if disabled.' }).prefault(null),
    rate_limit: clientMembers.rate_limit.default(null),
    rate_limit_burst: clientMembers.rate_limit_burst.default(null),
    quota: clientMembers.quota.default(null),
    generate_api_key: flag
      .meta({ description: '`false` for a client that comes with access tokens alone.' })
      .prefault(true),
  })
  .refine((request) => request.rate_limit_burst === null || request.rate_limit !== null, {
    path: ['rate_limit_burst'],
    error: 'needs a rate_limit',
  })
  .meta({
    id: 'CreateApiClient',
    description:
      'Nothing is needed. Without `api_client_id` one is generated; without `name` it is the `api_client_id`. A member that is not named here is refused.',
  });

/** Null clears. A time in the past ends the client at once. */
export const updateRequest = z
  .strictObject({
    name: clientMembers.name.optional(),
    api_client_id: clientMembers.api_client_id.optional(),
    description: clientMembers.description.optional(),
    tags: clientMembers.tags.nullish(),
    scopes: clientMembers.scopes.nullish(),
    allowed_cidrs: clientMembers.allowed_cidrs.nullish(),
    is_admin: clientMembers.is_admin.optional(),
    enabled: clientMembers.enabled.optional(),
    expires_at: time
      .nullable()
      .meta({ description: 'From then on as if disabled. A time in the past ends the client at once.' })
      .optional(),
    rate_limit: clientMembers.rate_limit.optional(),
    rate_limit_burst: clientMembers.rate_limit_burst.optional(),
    quota: clientMembers.quota.optional(),
  })
  .meta({
    id: 'UpdateApiClient',
    description:
      'What is not named stays; `null` clears, and a burst goes with its rate. What the gateway gives by itself is refused.',
  });

/** Clients that one document may declare: all of it is applied in one transaction. */
const maxDeclared = 10_000;

/** What a declared key has of a secret. With `checksum` it was made by this program, and a mistyped one is known as such. */
const declaredKey = z
  .strictObject({
    digest: z
      .string({ error: 'must be a string' })
      .regex(/^sha256:[0-9a-f]{64}$/, {
        error: 'must be sha256: and the 64 hexadecimal digits of the SHA-256 of the secret',
      })
      .meta({ description: '`sha256:` and the SHA-256 of what stands behind the dot of the key.' })
      .transform((text) => text.slice('sha256:'.length)),
    hint: z
      .string({ error: 'must be a string' })
      .regex(/^[A-Za-z0-9]{0,4}$/, { error: 'must be at most the last four characters of the secret' })
      .meta({ description: 'The last four characters of the key.' })
      .default(''),
    expires_at: time.nullable().meta({ description: 'From then on the key is refused.' }).prefault(null),
    checksum: flag
      .meta({ description: '`true` for a key of this program, whose last six characters are a checksum.' })
      .prefault(false),
  })
  .meta({ id: 'DeclaredApiKey' })
  .transform(({ digest, hint, expires_at: expiresAt, checksum }) => ({
    digest,
    hint,
    expiresAt,
    isImported: !checksum,
  }));

/** What is absent has its default, so that the document is all there is to know of a client. */
const declaredClient = z
  .strictObject({
    id: z
      .int({ error: 'must be a whole number' })
      .min(1, { error: 'must be at least 1' })
      .max(2 ** 31, { error: 'must be at most 2147483648' })
      .meta({
        description: 'The id that its keys begin with: of the client, or, for a new one, larger than every id before.',
      })
      .optional(),
    api_client_id: clientMembers.api_client_id,
    name: clientMembers.name.optional(),
    description: clientMembers.description.default(null),
    tags: clientMembers.tags.default([]),
    scopes: clientMembers.scopes.default([]),
    allowed_cidrs: clientMembers.allowed_cidrs.default([]),
    is_admin: clientMembers.is_admin.prefault(false),
    enabled: clientMembers.enabled.prefault(true),
    expires_at: time.nullable().meta({ description: 'From then on as if disabled.' }).prefault(null),
    rate_limit: clientMembers.rate_limit.default(null),
    rate_limit_burst: clientMembers.rate_limit_burst.default(null),
    quota: clientMembers.quota.default(null),
    keys: z
      .array(declaredKey, { error: 'must be a list' })
      .max(20, { error: 'has more than 20 members' })
      .refine((list) => new Set(list.map(({ digest }) => digest)).size === list.length, { error: 'has a digest twice' })
      .meta({ description: 'Keys that it must have. Without it the keys of the client are left alone.' })
      .optional(),
  })
  .refine((client) => client.rate_limit_burst === null || client.rate_limit !== null, {
    path: ['rate_limit_burst'],
    error: 'needs a rate_limit',
  })
  .meta({ id: 'DeclaredApiClient', description: 'What is left out has its default.' });

export const declarationRequest = z
  .strictObject({
    version: z.literal(1, { error: 'must be 1' }),
    clients: z
      .array(declaredClient, { error: 'must be a list' })
      .max(maxDeclared, { error: `has more than ${maxDeclared} members` }),
  })
  .superRefine(({ clients }, context) => {
    const seen = new Map<string, number>();
    for (const [index, { api_client_id: name }] of clients.entries()) {
      const first = seen.get(name);
      if (first !== undefined)
        context.addIssue({
          code: 'custom',
          path: ['clients', index, 'api_client_id'],
          message: `is that of /clients/${first} too`,
        });
      seen.set(name, first ?? index);
    }
  })
  .meta({ id: 'Declaration', description: 'All API clients that are declared.' });

const keyEnd = futureEnd
  .meta({ description: 'In the future: from then on the key is refused. Null: never.' })
  .prefault(null);

export const createKeyRequest = z
  .strictObject({ expires_at: keyEnd })
  .meta({ id: 'CreateApiKey', description: 'Nothing is needed, and so no body either.' });

export const rotateRequest = z
  .strictObject({
    overlap: span
      .meta({
        description:
          'How long the keys that are replaced are still accepted, never past their own end: seconds, or a number with s, m, h or d; at most 366d. 0 is now.',
      })
      .prefault('24h'),
    expires_at: keyEnd,
  })
  .meta({ id: 'RotateApiKeys', description: 'Nothing is needed, and so no body either.' });

const token = z
  .string({ error: 'must be a string' })
  .min(1, { error: 'must not be empty' })
  .max(20_000, { error: 'has more than 20,000 characters' });

export const tokenRequest = z
  .strictObject({
    token: token.meta({ description: 'An API key, `<id>.<64 characters>`, with or without `apk ` before it.' }),
  })
  .meta({ id: 'ReportLeak' });

export const introspectRequest = z
  .strictObject({
    token: token.meta({
      description: 'An API key or an access token, with or without `apk ` or `Bearer ` before it.',
    }),
    address: z
      .string({ error: 'must be a string' })
      .refine(isAddress, { error: 'must be an IP address' })
      .meta({
        description: 'The IPv4 or IPv6 address that the request would come from. Without it your own.',
        anyOf: [{ format: 'ipv4' }, { format: 'ipv6' }],
      })
      .optional(),
  })
  .meta({ id: 'Introspect' });

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
    .refine((value) => value >= min && value <= max, { error: `must be a whole number from ${min} to ${max}` })
    .meta({ type: 'integer', minimum: min, maximum: max, pattern: undefined });

/** Seconds. nginx gives a call four. */
const longestWait = 3;

/** Seconds in; milliseconds out. */
const wait = z
  .string({ error: 'must be given once' })
  .transform((text) => parseSeconds(text) ?? -1)
  .refine((seconds) => seconds >= 0 && seconds <= longestWait, {
    error: `must be a span of time such as 2s, at most ${longestWait}s`,
  })
  .transform((seconds) => seconds * 1_000)
  .meta({
    description:
      'Answer when every gateway on this database has followed the change; after so many seconds at most with 202, which says who has not. `0` to `3s`, from the arrival of the call.',
    pattern: '^0*[0-3]s?$|^0+[mhd]$',
  });

export const applyQuery = z.strictObject({
  dry_run: queryFlag.meta({ description: '`true`: nothing is done, and the answer is the plan.' }).prefault('false'),
  prune: queryFlag
    .meta({
      description: '`true`: remove clients that are not declared, and keys that are not, of clients whose keys are.',
    })
    .prefault('false'),
  force: queryFlag.meta({ description: '`true`: even if no administrator is left.' }).prefault('false'),
  revision: wholeNumber(0, Number.MAX_SAFE_INTEGER)
    .meta({ description: 'Of the plan: nothing is done when something has been changed since then.' })
    .optional(),
  wait: wait.optional(),
});

export const maxPage = 1000;

const moment = z.iso
  .datetime({ offset: true, error: 'must be a time as in RFC 3339, such as 2026-01-31T00:00:00Z' })
  .transform((text) => Date.parse(text))
  .meta({ pattern: undefined });

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
      (order === 'name' ? typeof value === 'string' && !value.includes('\0') : Number.isSafeInteger(value))
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
    limit: wholeNumber(1, maxPage).meta({ description: 'How many clients at most.' }).prefault(String(maxPage)),
    cursor: cursor
      .meta({ description: 'Where the page before ended: take the whole address from its `Link` header.' })
      .optional(),
    sort: sort.meta({ description: 'What the list is in the order of; with `-` the other way round.' }).prefault('id'),
    name: visible.meta({ description: 'A part of the name. A to Z and a to z are the same.' }).optional(),
    api_client_id: visible.meta({ description: 'The `api_client_id`, whole.' }).optional(),
    tag: visible.meta({ description: 'One of the tags, whole.' }).optional(),
    is_admin: queryFlag.meta({ description: 'Administrators, or all others.' }).optional(),
    state: z
      .enum(['enabled', 'disabled', 'expired'], { error: 'must be enabled, disabled or expired' })
      .meta({ description: 'Those that are enabled and have not ended, are disabled, or have ended.' })
      .optional(),
    unused_since: moment
      .meta({ description: 'Those that were there before this time and have not been used since.' })
      .optional(),
    replaced_key_used: queryFlag
      .meta({ description: '`true`: those that still use a key in whose place another one is.' })
      .optional(),
  })
  .refine(({ cursor: from, sort: { order } }) => from === undefined || from.sort === order, {
    path: ['cursor'],
    error: 'is of a list that is sorted otherwise',
  });

/** An id in a query, as in a path. */
const idParameter = z
  .string({ error: 'must be given once' })
  .refine((text) => isId(text) && Number.isSafeInteger(Number(text)), { error: 'must be the number of an API client' })
  .transform(Number)
  .meta({ type: 'integer', minimum: 1 });

const word = (pattern: RegExp, error: string) => z.string({ error: 'must be given once' }).regex(pattern, { error });

export const auditQuery = z.strictObject({
  format: z
    .enum(['json', 'jsonl'], { error: 'must be json or jsonl' })
    .meta({ description: '`jsonl`: everything, or `limit` of it, as JSON lines.' })
    .default('json'),
  limit: wholeNumber(1, maxPage)
    .meta({ description: `How many events at most: for JSON ${maxPage} when it is not given.` })
    .optional(),
  cursor: wholeNumber(0, Number.MAX_SAFE_INTEGER)
    .meta({ description: 'Where the page before ended: take the whole address from its `Link` header.' })
    .optional(),
  sort: z
    .enum(['id', '-id'], { error: 'must be id or -id' })
    .transform((text) => ({ isDescending: text === '-id' }))
    .meta({ description: '`id`: the oldest first.' })
    .prefault('-id'),
  client_id: idParameter.meta({ description: 'To this API client.' }).optional(),
  actor_id: idParameter.meta({ description: 'By this API client.' }).optional(),
  action: word(/^[a-z_]+(?:\.[a-z_]+)?$/, 'must be an action such as api_key.create, or its first part')
    .meta({ description: 'Such as `api_key.rotate`, or `api_key` for all of them.' })
    .optional(),
  outcome: word(/^[a-z_]{1,64}$/, 'must be done, or the reason of a refusal')
    .meta({ description: '`done`, or the reason of a refusal.' })
    .optional(),
  request_id: word(/^[A-Za-z0-9._-]{1,64}$/, 'must be a request id')
    .meta({ description: 'In the course of this request.' })
    .optional(),
  since: moment.meta({ description: 'From this time on.' }).optional(),
  until: moment.meta({ description: 'Before this time.' }).optional(),
});

export function writeCursor(order: SortOrder, value: string | number, id: number): string {
  return order === 'id' ? String(id) : Buffer.from(JSON.stringify([order, value, id])).toString('base64url');
}

export const changeQuery = z.strictObject({
  force: queryFlag
    .meta({ description: 'Even if no administrator is left that can authenticate a day later.' })
    .prefault(false),
  wait: wait.optional(),
});

export const createQuery = z.strictObject({ wait: wait.optional() });

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

export const idempotencyKeyPattern = /^(?:"([\x20\x21\x23-\x5b\x5d-\x7e]{8,255})"|([\x21\x23-\x7e]{8,255}))$/;

/**
 * The value of the header `Idempotency-Key`, a structured field string (RFC 8941 3.3.3) or bare.
 *
 * @throws {Problem} 400 for anything else
 */
export function parseIdempotencyKey(header: string | string[] | undefined): string | undefined {
  if (header === undefined) return undefined;
  const [, quoted, bare] = idempotencyKeyPattern.exec(String(header)) ?? [];
  const key = quoted ?? bare;
  if (key !== undefined) return key;
  throw new Problem(
    400,
    'invalid_idempotency_key',
    'The Idempotency-Key must have 8 to 255 printable ASCII characters, such as a UUID.',
  );
}

/** Faults of a body that are told at once. */
const maxErrors = 100;

/** @throws {Problem} 400 with a JSON Pointer for each fault */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const errors = result.error.issues.slice(0, maxErrors).flatMap((issue): FieldError[] =>
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
