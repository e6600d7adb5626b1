import { parse as parseCsv } from 'csv-parse/sync';
import { digestSecret, parseApiKey } from '../../auth/api-key.ts';
import {
  compact,
  createCollector,
  readIdentifier,
  readLine,
  toKey,
  type Collector,
  type Imported,
} from './collector.ts';
import type { DeclaredClient, DeclaredKey } from './declaration.ts';
import { ImportError } from './import-error.ts';
import { parseJson, Place, showName } from './place.ts';

const known = [
  ...['id', 'api_key_id', 'api_client_entity_id', 'name', 'api_client_id', 'is_admin', 'enabled'],
  ...['digest', 'token', 'created_at', 'updated_at'],
];
const truths = new Map<unknown, boolean>([
  ...[true, 'true', 't', 1, '1'].map((text) => [text, true] as const),
  ...[false, 'false', 'f', 0, '0'].map((text) => [text, false] as const),
]);

/**
 * API clients of a gateway with the same contract: keys `apk <id>.<64 letters and digits>`, of which the SHA-256 is
 * stored. Either of
 * - the JSON array of its `GET /v1/management/api-clients`, which has no digests
 * - rows of its database: JSON lines, or CSV (RFC 4180) or TSV with a line of names, with `id`, `api_client_id` and, when
 *   they are known, `name`, `is_admin`, `enabled`, and `digest` (64 hexadecimal digits, bare or after `sha256:` or `\x`) or
 *   `token` (`<id>.<secret>`, of which the digest is kept)
 *
 * With its id and digest a key works as it is.
 *
 * @throws {ImportError}
 */
export function readOpenresty(text: string, file: string): Imported {
  const collector = createCollector(file);
  const rows = readRows(text, file);
  const ids = new Map<number, string>();
  const ignored = new Set<string>();
  for (const row of rows) {
    const client = readRow(collector, row);
    const other = ids.get(client.id);
    if (other !== undefined) row.fail(`has the same id as ${other}; it must be unique`);
    ids.set(client.id, row.where);
    collector.add(row.where, client);
    for (const name of row.names().filter((each) => !known.includes(each))) ignored.add(name);
  }
  for (const name of ignored) collector.note(showName(name), 'Not carried over: it is not a column that is known.');
  if (rows.some((row) => row.member('created_at')))
    collector.note('created_at', 'Not carried over: a client is created when it is imported.');
  const { document, notes } = collector.finish();
  return { document, notes: summariseMissingDigests(document.clients, notes) };
}

const noDigest =
  'No digest and no token: a key that this client had does not work here. If it had one, make a new one.';

/** When no client has a digest, that is one thing to know, not one for each client. */
function summariseMissingDigests(clients: readonly DeclaredClient[], notes: Imported['notes']): Imported['notes'] {
  if (clients.length === 0 || clients.some(({ keys }) => keys)) return notes;
  return [
    {
      where: 'all clients',
      what: "No digests: no key of theirs works here. Export the digests from the old gateway's database, or make new keys.",
    },
    ...notes.filter(({ what }) => what !== noDigest),
  ];
}

function readRows(text: string, file: string): Place[] {
  if (/^\s*\[/.test(text)) return parseJson(text, file).list();
  if (!/^\s*\{/.test(text)) return readTable(text, file);
  return text.split(/\r?\n/).flatMap((line, index) => (line.trim() === '' ? [] : [parseJson(line, file, index + 1)]));
}

/** Tabs in the line of names make it TSV. Errors of the parser quote the text, so they are said anew. */
function readTable(text: string, file: string): Place[] {
  const [head = ''] = text.split(/\r?\n/, 1);
  const delimiter = head.includes('\t') ? '\t' : ',';
  let line = 1;
  const fail = (what: string): never => {
    throw new ImportError(file, `line ${line}`, what);
  };
  const records: { values: string[]; line: number }[] = [];
  try {
    parseCsv(text, {
      delimiter,
      on_record: (values: string[], { lines }) => {
        records.push({ values, line: lines });
        return null;
      },
      relax_column_count: true,
      skip_empty_lines: true,
      // tabs are escaped in TSV, not quoted
      quote: delimiter === '\t' ? null : '"',
    });
  } catch (error) {
    line = (error as { lines?: number }).lines ?? 1;
    return fail('is not CSV as in RFC 4180: a quote is open, or stands inside a value');
  }
  const names = records[0]?.values.map((name) => name.trim()) ?? [];
  if (!names.includes('id') || !names.includes('api_client_id')) {
    fail(`must name the columns, id and api_client_id among them; known are ${known.join(', ')}`);
  }
  if (new Set(names).size < names.length) fail('names a column twice');
  return records.slice(1).map((record) => {
    line = record.line;
    const { values } = record;
    if (values.length !== names.length) fail(`has ${values.length} values for ${names.length} columns`);
    const where = `line ${line}`;
    const members = names.map((name, index) => [name, values[index] === '' ? null : values[index]] as const);
    return new Place(Object.fromEntries(members), file, [], (path) => [where, ...path].join(', '));
  });
}

function readRow(collector: Collector, row: Place): DeclaredClient & { id: number } {
  const id = readId(row);
  const identifier = row.member('api_client_id') ?? row.fail('has no api_client_id');
  const nameAt = row.member('name');
  const name = nameAt && readLine(collector, nameAt);
  const [isAdmin, isEnabled] = [readFlag(row, 'is_admin'), readFlag(row, 'enabled')];
  const key = readKey(row, id);
  if (!key) collector.note(row.where, noDigest);
  return {
    ...compact({
      api_client_id: readIdentifier(collector, identifier),
      ...(name !== undefined && { name }),
      ...(isAdmin !== undefined && { is_admin: isAdmin }),
      ...(isEnabled !== undefined && { enabled: isEnabled }),
      keys: key ? [key] : [],
    }),
    id,
  };
}

/** `id`, with two more names of the same number. */
function readId(row: Place): number {
  const ids = ['id', 'api_key_id', 'api_client_entity_id'].flatMap((name) => {
    const place = row.member(name);
    if (!place) return [];
    const text = typeof place.value === 'number' ? String(place.value) : place.text();
    if (!/^[1-9][0-9]{0,15}$/.test(text) || !Number.isSafeInteger(Number(text)))
      place.fail(`must be a whole number from 1 to ${Number.MAX_SAFE_INTEGER}`);
    return [Number(text)];
  });
  const [id] = ids;
  if (id === undefined || !row.member('id')) row.fail('has no id');
  if (ids.some((other) => other !== id)) row.fail('has another api_key_id or api_client_entity_id than id');
  return id;
}

function readFlag(row: Place, name: string): boolean | undefined {
  const place = row.member(name);
  if (!place) return undefined;
  return truths.get(place.value) ?? place.fail('must be true or false');
}

function readKey(row: Place, id: number): DeclaredKey | undefined {
  const [digestAt, tokenAt] = [row.member('digest'), row.member('token')];
  const digest = digestAt && /^(?:sha256:|\\{1,2}x)?([0-9a-f]{64})$/i.exec(digestAt.text())?.[1]?.toLowerCase();
  if (digestAt && digest === undefined) digestAt.fail('must be a SHA-256 of 64 hexadecimal digits');
  if (!tokenAt) return digest === undefined ? undefined : { digest: `sha256:${digest}` };
  const credential = parseApiKey(tokenAt.text()) ?? tokenAt.fail('must be <id>.<64 letters and digits>');
  if (credential.clientId !== String(id)) tokenAt.fail('is of another id than its row');
  if (digest !== undefined && digestSecret(credential.secret) !== digest) tokenAt.fail('does not fit its digest');
  return toKey(credential.secret);
}
