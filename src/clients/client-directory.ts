import { LRUCache } from 'lru-cache';
import type { ClientRecord, FindClient } from '../auth/authenticator.ts';
import { detached } from '../auth/detached.ts';
import { encodeHeaderValue } from '../auth/header-value.ts';
import { createNetwork } from '../auth/network.ts';
import { parseRate, type Limit } from '../auth/rate-limit.ts';
import type { ApiClient } from './api-client.ts';
import { StoreUnavailable, type ClientStore, type ClientWithKeys } from './client-store.ts';
import { periodOf } from './usage.ts';

export interface ClientDirectoryOptions {
  readonly store: Pick<ClientStore, 'find' | 'findByApiClientId'>;
  /** Milliseconds on a clock that only goes forward. */
  readonly monotonicNow: () => number;
  /** Bytes, about, that the clients of each index may take; ids without a client may take an eighth of it in addition. */
  readonly capacity?: number;
  /** Longest time in milliseconds for which answers are given from memory while changes cannot be followed. */
  readonly maxStaleness?: number;
  /** Lookups under way at once; one more is refused as unavailable. */
  readonly maxLookups?: number;
  /** Counted up with every lookup. */
  readonly counts?: DirectoryCounts;
}

/** Lookups that memory answered or did not, and queries of the store: one query may answer several lookups. */
export interface DirectoryCounts {
  hits: number;
  misses: number;
  queries: number;
}

/** API clients, from memory where that is known to be current, else from the store. */
export interface ClientDirectory {
  /** By the id in decimal. */
  readonly find: FindClient;
  readonly findByApiClientId: FindClient;
  /** Forgets what was known of a client. A lookup that is under way is repeated before it is answered, or not remembered. */
  readonly forget: (id: number) => void;
  readonly forgetAll: () => void;
  /** Says that every change made until that time, on the same clock, has been followed. */
  readonly confirm: (at: number) => void;
}

/** What a client was asked for by. */
interface Texts {
  readonly get: (id: number) => string | undefined;
  readonly set: (id: number, text: string) => unknown;
  readonly delete: (id: number) => unknown;
}

/** For one lookup, when clients change all the time and the store is far away. */
const mostQueries = 3;

const nothing = (): void => undefined;

export function createClientDirectory({
  store,
  monotonicNow,
  capacity = 64 * 1024 * 1024,
  maxStaleness = 5_000,
  maxLookups = 1_000,
  counts = { hits: 0, misses: 0, queries: 0 },
}: ClientDirectoryOptions): ClientDirectory {
  const changes = createChanges();
  let confirmedAt = monotonicNow();
  let underWay = 0;

  /**
   * Remembers what a query of the store answers, by the text that was asked for.
   *
   * @param isOutdated whether the answer may be older than a change since then
   * @param texts by the id of the client, of those that are remembered
   */
  function createIndex(
    query: (text: string) => Promise<ClientWithKeys | undefined>,
    isOutdated: (text: string, client: ClientRecord | undefined, since: number) => boolean,
    texts: Texts,
  ) {
    const known = new LRUCache<string, ClientRecord>({
      maxSize: capacity,
      sizeCalculation: sizeOf,
      dispose: ({ principal }) => {
        texts.delete(principal.id);
      },
    });
    // so that a flood of wrong keys costs no query each; apart from the others, so that it pushes none of them out
    const unknown = new LRUCache<string, true>({
      maxSize: capacity / 8,
      sizeCalculation: (_, { length }) => 160 + length,
    });
    const lookups = new Map<string, Promise<ClientRecord | undefined>>();

    async function lookUp(text: string): Promise<ClientRecord | undefined> {
      for (let left = mostQueries; ; left--) {
        // whoever asks from now on has a lookup of his own, so what is read now is new enough for all who wait for this one
        if (left === 1) lookups.delete(text);
        const since = changes.now();
        counts.queries++;
        const stored = await query(text);
        const client = stored && toRecord(stored);
        const isCurrent = !isOutdated(text, client, since);
        if (isCurrent) remember(text, client);
        if (isCurrent || left === 1) return client;
      }
    }

    function remember(text: string, client: ClientRecord | undefined): void {
      if (client) {
        // under another text it would be there still when this one is forgotten
        forget(client.principal.id);
        unknown.delete(text);
        known.set(text, client);
        if (known.has(text)) texts.set(client.principal.id, text);
      } else {
        known.delete(text);
        unknown.set(text, true);
      }
    }

    function forget(id: number): void {
      const text = texts.get(id);
      if (text !== undefined) known.delete(text);
    }

    const find: FindClient = (text) => {
      if (monotonicNow() - confirmedAt <= maxStaleness) {
        const client = known.get(text);
        if (client || unknown.get(text)) {
          counts.hits++;
          return client;
        }
      }
      counts.misses++;
      const waiting = lookups.get(text);
      if (waiting) return waiting;
      if (underWay >= maxLookups) return Promise.reject(new StoreUnavailable('too many lookups are waiting'));
      underWay++;
      const lookup = lookUp(text).finally(() => {
        underWay--;
        if (lookups.get(text) === lookup) lookups.delete(text);
      });
      lookups.set(text, lookup);
      return lookup;
    };
    return {
      find,
      forget,
      forgetUnknown: (text?: string) => {
        if (text === undefined) unknown.clear();
        else unknown.delete(text);
      },
      forgetAll: () => {
        known.clear();
        unknown.clear();
      },
    };
  }

  // no store gives ids beyond 2^53, and a JavaScript number could not tell them apart
  const byId = createIndex(
    (id) => (Number(id) > Number.MAX_SAFE_INTEGER ? Promise.resolve(undefined) : store.find(Number(id))),
    (id, _, since) => changes.hasChanged(Number(id), since),
    { get: String, set: nothing, delete: nothing },
  );
  const byApiClientId = createIndex(
    (apiClientId) => store.findByApiClientId(apiClientId),
    // nobody has it: any change may have given it to somebody
    (_, client, since) => (client ? changes.hasChanged(client.principal.id, since) : changes.now() !== since),
    new Map(),
  );

  return {
    // it comes from the head of a request
    find: (id) => byId.find(detached(id)),
    findByApiClientId: byApiClientId.find,
    forget(id) {
      changes.note(id);
      byId.forget(id);
      byId.forgetUnknown(String(id));
      byApiClientId.forget(id);
      // the change may have given this client one of them
      byApiClientId.forgetUnknown();
    },
    forgetAll() {
      changes.noteAll();
      byId.forgetAll();
      byApiClientId.forgetAll();
    },
    confirm(at) {
      confirmedAt = at;
    },
  };
}

/** Which clients have changed last, for lookups that began before. */
function createChanges(capacity = 10_000) {
  const changedAt = new Map<number, number>();
  let now = 0;
  /** When all may have changed. */
  let allAt = 0;
  const noteAll = (): void => {
    allAt = ++now;
    changedAt.clear();
  };
  return {
    now: () => now,
    noteAll,
    note(id: number): void {
      if (changedAt.size >= capacity) noteAll();
      changedAt.set(id, ++now);
    },
    hasChanged: (id: number, since: number) => allAt > since || (changedAt.get(id) ?? 0) > since,
  };
}

/** Bytes, about: what V8 takes for objects of this shape and for their places in the cache. */
function sizeOf(client: ClientRecord, text: string): number {
  const { principal, keys, scopes, network, limits } = client;
  const { clientId, clientName } = principal;
  const rare = 64 * scopes.length + (network ? 2_000 : 0) + (limits ? 256 : 0);
  return 360 + text.length + clientId.length + clientName.length + rare + 184 * keys.length;
}

// one for all that have none
const none: readonly string[] = [];

function toRecord(client: ClientWithKeys): ClientRecord {
  const { id, apiClientId, name, isAdmin, isEnabled, expiresAt, scopes, allowedCidrs, lastUsedAt, keys } = client;
  return {
    principal: {
      id,
      clientId: encodeHeaderValue(apiClientId),
      clientName: encodeHeaderValue(name),
      isAdmin,
      method: 'api_key',
    },
    isEnabled,
    expiresAt,
    scopes: scopes.length === 0 ? none : scopes,
    network: allowedCidrs.length === 0 ? undefined : createNetwork(allowedCidrs),
    limits: toLimits(client),
    keys: keys.map((key) => ({
      id: key.id,
      digest: key.digest,
      expiresAt: key.expiresAt,
      replacedAt: key.replacedAt,
      isRevoked: key.revokedAt !== null,
      isUnusedBootstrap: key.isBootstrap && key.firstUsedAt === null,
      // of a replaced key only a use since then counts
      notedIn: (key.lastUsedAt ?? 0) < (key.replacedAt ?? 0) ? 0 : periodOf(key.lastUsedAt ?? 0, id),
    })),
    notedIn: periodOf(lastUsedAt ?? 0, id),
  };
}

function toLimits({ rateLimit, rateLimitBurst, quota }: ApiClient): readonly Limit[] | undefined {
  const rate = parseRate(rateLimit ?? '');
  const total = parseRate(quota ?? '');
  const limits: Limit[] = [];
  if (rate) limits.push({ name: 'rate', ...rate, burst: rateLimitBurst ?? 0 });
  if (total) limits.push({ name: 'quota', ...total, burst: 0 });
  return limits.length === 0 ? undefined : limits;
}
