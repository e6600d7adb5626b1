import ipaddr from 'ipaddr.js';
import { isIP } from 'node:net';
import { digestSecret, hintOf } from '../../auth/api-key.ts';
import { faultOfCidr } from '../../auth/network.ts';
import { maxKeys } from '../../clients/api-keys.ts';
import { secondsIn } from '../../duration.ts';
import { createRequest, emoji, unseen } from '../../http/schemas.ts';
import type { Declaration, DeclaredClient, DeclaredKey, Note } from './declaration.ts';
import { ImportError } from './import-error.ts';
import { showName, type Place } from './place.ts';

export interface Imported {
  document: Declaration;
  notes: Note[];
}

/** A limit of the source: so many requests in so many seconds. */
export interface SourceLimit {
  readonly requests: number;
  readonly seconds: number;
  readonly burst?: number;
}

export interface Collector {
  readonly note: (where: string, what: string) => void;
  /** Refuses a client whose values are beyond the limits, or whose `api_client_id` another one has. */
  readonly add: (where: string, client: DeclaredClient) => void;
  readonly finish: () => Imported;
}

const limits = { tags: 32, tagLength: 64, scopes: 64, lineLength: 1024 };
const largestRate = 999_999_999;
const { shape } = createRequest;

export function createCollector(file: string): Collector {
  const clients: DeclaredClient[] = [];
  const notes: Note[] = [];
  const places = new Map<string, string>();
  return {
    note: (where, what) => {
      notes.push({ where, what });
    },
    add: (where, client) => {
      const { keys } = client;
      const request = Object.fromEntries(
        Object.entries(client).filter(([member]) => member !== 'id' && member !== 'keys'),
      );
      const fault = createRequest.safeParse(request).error?.issues[0];
      if (fault) throw new ImportError(file, where, `${fault.path.join('.')} ${fault.message}`);
      const other = places.get(client.api_client_id);
      if (other !== undefined) {
        throw new ImportError(file, where, `has the same api_client_id as ${other}; it must be unique`);
      }
      if (keys && keys.length > maxKeys) {
        throw new ImportError(file, where, `has ${keys.length} keys; at most ${maxKeys} are allowed`);
      }
      places.set(client.api_client_id, where);
      clients.push(client);
    },
    finish: () => ({ document: { version: 1, clients }, notes }),
  };
}

/** The text as an `api_client_id`. Only its normal form is adapted: two different ones must not become one. */
export function readIdentifier({ note }: Collector, place: Place): string {
  const text = place.text();
  const normal = text.normalize();
  const fault = shape.api_client_id.safeParse(normal).error?.issues[0];
  if (fault) place.fail(`is to be the api_client_id, which ${fault.message}`);
  if (normal !== text) note(place.where, 'Brought into Unicode normal form C.');
  return normal;
}

/** The text as one line of visible text, with a note when it had to be changed; undefined when nothing is left. */
export function readLine(collector: Collector, place: Place): string | undefined {
  return adaptLine(collector, place.where, place.text());
}

export function adaptLine({ note }: Collector, where: string, text: string, most = limits.lineLength) {
  const visible = text
    .replace(/\s/g, ' ')
    .replace(new RegExp(`${unseen.source}|${emoji.source}`, 'gu'), '')
    .replace(/ {2,}/g, ' ')
    .normalize();
  const line = Array.from(visible.trim()).slice(0, most).join('').trim();
  if (line !== text) {
    note(
      where,
      line === ''
        ? 'Left out: it is empty, or has no character that is allowed.'
        : `Adapted to one line of at most ${most} visible characters without emoji.`,
    );
  }
  return line === '' ? undefined : line;
}

/** At most 32 different tags of 64 characters. */
export function readTags(collector: Collector, where: string, texts: readonly string[]): string[] {
  const adapted = texts.map((text) => adaptLine(collector, where, text, limits.tagLength));
  return first(
    collector,
    where,
    'tags',
    limits.tags,
    adapted.filter((tag) => tag !== undefined),
  );
}

/** Groups as scopes (RFC 6749 3.3): both are what a location may ask for. */
export function readScopes(collector: Collector, where: string, groups: readonly string[]): string[] {
  const fitting = groups.filter((group) => shape.scopes.safeParse([group]).success);
  for (const group of groups.filter((each) => !fitting.includes(each))) {
    collector.note(
      where,
      `The group ${showName(group)} is left out: a scope is 1 to 128 printable ASCII characters without space, quote and backslash.`,
    );
  }
  return first(collector, where, 'scopes', limits.scopes, fitting);
}

function first({ note }: Collector, where: string, what: string, most: number, texts: readonly string[]): string[] {
  const distinct = [...new Set(texts)];
  const excess = distinct.slice(most);
  if (excess.length > 0) {
    note(
      where,
      `Of ${distinct.length} ${what} the first ${most} are kept; left out: ${excess.slice(0, 10).map(showName).join(', ')}${excess.length > 10 ? ', ...' : ''}.`,
    );
  }
  return distinct.slice(0, most);
}

/**
 * Addresses and blocks as `allowed_cidrs`. None is ever left out: a list without it could be empty, which is everybody.
 */
export function readCidrs({ note }: Collector, places: readonly Place[]): string[] {
  const cidrs = places.map((place) => {
    const text = place.text().trim();
    const cidr = toNetwork(text);
    const fault = faultOfCidr(cidr);
    if (fault !== undefined) place.fail(fault);
    if (text.includes('/') && cidr !== text) note(place.where, `Written as ${cidr}: the rest is beyond the prefix.`);
    return cidr;
  });
  return [...new Set(cidrs)];
}

/** A single address as a block of one, and a block without the bits beyond its prefix. */
function toNetwork(text: string): string {
  const version = isIP(text);
  if (version !== 0) {
    const address = ipaddr.process(text);
    return `${address.toString()}/${address.kind() === 'ipv4' ? 32 : 128}`;
  }
  return /did you mean (.+)\?$/.exec(faultOfCidr(text) ?? '')?.[1] ?? text;
}

/**
 * The shortest of these limits is the rate, the longest the quota (a single one by the day is a quota). One of another
 * span of time than second, minute, hour and day counts only where there are not two of those. The rest is noted.
 */
export function readLimits(
  collector: Collector,
  where: string,
  found: readonly SourceLimit[],
): Partial<DeclaredClient> {
  const ordered = found.toSorted((one, other) => one.seconds - other.seconds);
  const exact = ordered.filter(isExact);
  const [shortest, ...longer] = exact.length > 1 ? exact : ordered;
  const longest = longer.at(-1);
  for (const { requests, seconds } of ordered.filter((limit) => limit !== shortest && limit !== longest)) {
    collector.note(
      where,
      `A limit of ${requests} requests in ${seconds} s is left out: a client has one rate_limit and one quota.`,
    );
  }
  const rate = shortest && toRate(collector, where, shortest);
  const quota = longest && toRate(collector, where, longest);
  if (!longest && shortest && shortest.seconds >= secondsIn.d) return rate === undefined ? {} : { quota: rate };
  return {
    ...(rate !== undefined && { rate_limit: rate }),
    ...(rate !== undefined && shortest?.burst !== undefined && { rate_limit_burst: shortest.burst }),
    ...(quota !== undefined && { quota }),
  };
}

function isExact({ requests, seconds }: SourceLimit): boolean {
  return Number.isSafeInteger(requests) && Object.values<number>(secondsIn).includes(seconds);
}

/** "100/m". A span of time that is no unit is brought to one, never to more requests. */
function toRate({ note }: Collector, where: string, limit: SourceLimit): string | undefined {
  const { requests, seconds } = limit;
  const units = Object.entries(secondsIn).map(([unit, length]) => ({
    unit,
    length,
    // rounded first: 0.1 * 3 / 0.1 is less than 3
    requests: Math.floor(Number(((requests * length) / seconds).toPrecision(12))),
  }));
  const possible = units.filter((unit) => unit.requests >= 1 && unit.requests <= largestRate);
  const chosen = possible.findLast(({ length }) => length <= seconds) ?? possible[0];
  if (!chosen) {
    note(
      where,
      `A limit of ${requests} requests in ${seconds} s is left out: it cannot be written as 1/d to ${largestRate}/s.`,
    );
    return undefined;
  }
  const rate = `${chosen.requests}/${chosen.unit}`;
  if (!isExact(limit)) note(where, `A limit of ${requests} requests in ${seconds} s is written as ${rate}.`);
  return rate;
}

/**
 * The digest of a key of another gateway, when it has the form of a secret of ours (64 letters and digits); else
 * undefined and a note.
 */
export function readForeignKey({ note }: Collector, place: Place): DeclaredKey | undefined {
  const key = place.text();
  if (/^[A-Za-z0-9]{64}$/.test(key)) {
    note(
      place.where,
      `The key ...${hintOf(key)} is carried over. Its holder sends it as "Authorization: apk <id>.<key>" from now on, with the id that the client gets.`,
    );
    return toKey(key);
  }
  note(place.where, `${describeKey(key)} cannot be carried over. ${makeAKey}`);
  return undefined;
}

export const makeAKey = 'A new key must be made for the client and handed out.';

export function toKey(secret: string): DeclaredKey {
  return { digest: `sha256:${digestSecret(secret)}`, hint: hintOf(secret) };
}

/** Of a short key even four characters are too much. */
function describeKey(key: string): string {
  if (/\$\{|\{vault:|^\$(?:ENV|env|secret|SECRET):\/\/|^\$\w+$/.test(key)) return 'A reference to a key';
  return key.length >= 32 ? `The key ...${hintOf(key)}` : 'A key that is not 64 letters and digits';
}

/** Leaves out what is empty: it keeps its default. */
export function compact(client: DeclaredClient): DeclaredClient {
  return Object.fromEntries(
    Object.entries(client).filter(([, value]) => value !== undefined && !(Array.isArray(value) && value.length === 0)),
  ) as unknown as DeclaredClient;
}
