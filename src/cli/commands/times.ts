import { InvalidArgumentError } from 'commander';
import { parseSeconds } from '../../duration.ts';

/** A number alone is none: 90 is read as seconds by programs, and as days by people. */
function parseSpan(text: string): number | undefined {
  return /^\d+$/.test(text) ? undefined : parseSeconds(text);
}

/** As the management API takes it. */
export function parseOverlap(text: string): string {
  if (text === '0' || parseSpan(text) !== undefined) return text;
  throw new InvalidArgumentError('allowed: a span such as 24h or 90m, or 0');
}

/** `never`, a span from now on such as 30d, or a time as in RFC 3339: as the management API takes it. */
export function parseExpiry(text: string): string | null {
  if (text === 'never') return null;
  const seconds = parseSpan(text);
  if (seconds !== undefined) return new Date(Date.now() + seconds * 1_000).toISOString();
  return parseMoment(text);
}

/** A span before now such as 30d, or a time as in RFC 3339. */
export function parsePast(text: string): string {
  const seconds = parseSpan(text);
  return seconds === undefined ? parseMoment(text) : new Date(Date.now() - seconds * 1_000).toISOString();
}

function parseMoment(text: string): string {
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return `${text}T00:00:00Z`;
  if (/^\d{4}-\d\d-\d\dT/.test(text) && !Number.isNaN(Date.parse(text))) return text;
  throw new InvalidArgumentError(
    'allowed: a span such as 30d or 12h, a date such as 2027-01-31, or a time as in RFC 3339',
  );
}
