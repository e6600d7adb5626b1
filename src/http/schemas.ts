import { z } from 'zod';
import { isId } from '../auth/api-key.ts';
import { fitsHeader } from '../auth/header-value.ts';
import { Problem, type FieldError } from '../problem.ts';

const maxCharacters = 1024;

// Names stand in logs, terminals and headers, and people compare them by eye: what cannot be seen, or looks different
// everywhere, has no place in them. docs/adr/0003-names.md
const unseen = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
const emoji = /[\p{Emoji_Presentation}\p{Emoji_Modifier}\u{FE0F}\u{20E3}]/u;

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

export const createRequest = z.strictObject({
  name: line.optional(),
  api_client_id: identifier.optional(),
  is_admin: flag.default(false),
  enabled: flag.default(true),
  generate_api_key: flag.default(true),
});

export const updateRequest = z.strictObject({
  name: line.optional(),
  api_client_id: identifier.optional(),
  is_admin: flag.optional(),
  enabled: flag.optional(),
});

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

export const listQuery = z.strictObject({
  limit: wholeNumber(1, maxPage).default(maxPage),
  cursor: wholeNumber(0, Number.MAX_SAFE_INTEGER).default(0),
});

export const changeQuery = z.strictObject({ force: flag.default(false) });

export const noQuery = z.strictObject({});

/**
 * The id in a path, in canonical decimal form.
 *
 * @throws {Problem} 400 for anything else
 */
export function parseId(text: string): number {
  if (!isId(text)) {
    throw new Problem(
      400,
      'invalid_id',
      'The id in the path must be a whole number from 1 to 9223372036854775807, without a sign or leading zeros.',
    );
  }
  return Number(text);
}

/** @throws {Problem} 400 with a JSON Pointer for each fault */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const errors = result.error.issues.flatMap((issue): FieldError[] =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({ pointer: pointer([...issue.path, key]), detail: 'is not a member of this object' }))
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
