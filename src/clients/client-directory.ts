import { LRUCache } from 'lru-cache';
import type { ClientRecord, FindClient } from '../auth/authenticator.ts';
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
  /** Bytes, about, that the clients of each index may take, known and unknown ones together. */
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
  /** Forgets what was known of a client. A lookup that is under way is repeated before it is answered. */
  readonly forget: (id: number) => void;
  readonly forgetAll: () => void;
  /** Says that every change made until that time, on the same clock, has been followed. */
  readonly confirm: (at: number) => void;
}

/** Remembered too, so that a flood of wrong keys costs no query each. */
const nobody = Symbol('no client');

export function createClientDirectory({
  store,
  monotonicNow,
  capacity = 64 * 1024 * 1024,
  maxStaleness = 5_000,
  maxLookups = 1_000,
  counts = { hits: 0, misses: 0, queries: 0 },
}: ClientDirectoryOptions): ClientDirectory {
  let epoch = 0;
  let confirmedAt = monotonicNow();
  let underWay = 0;

  /** Remembers what a query of the store answers, by the text that was asked for. */
  function createIndex(query: (text: string) => Promise<ClientWithKeys | undefined>) {
    const entries = new LRUCache<string, ClientRecord | typeof nobody>({ maxSize: capacity, sizeCalculation: sizeOf });
    const lookups = new Map<string, Promise<ClientRecord | undefined>>();

    async function lookUp(text: string): Promise<ClientRecord | undefined> {
      let client: ClientRecord | undefined;
      let startedIn: number;
      do {
        startedIn = epoch;
        counts.queries++;
        const stored = await query(text);
        client = stored && toRecord(stored);
        // something was forgotten meanwhile: what was read may be older than a change that is already acknowledged
      } while (startedIn !== epoch);
      entries.set(text, client ?? nobody);
      return client;
    }

    const find: FindClient = (text) => {
      if (monotonicNow() - confirmedAt <= maxStaleness) {
        const entry = entries.get(text);
        if (entry) {
          counts.hits++;
          return entry === nobody ? undefined : entry;
        }
      }
      counts.misses++;
      const waiting = lookups.get(text);
      if (waiting) return waiting;
      if (underWay >= maxLookups) return Promise.reject(new StoreUnavailable('too many lookups are waiting'));
      underWay++;
      const lookup = lookUp(text).finally(() => {
        underWay--;
        lookups.delete(text);
      });
      lookups.set(text, lookup);
      return lookup;
    };
    return { entries, find };
  }

  // no store gives ids beyond 2^53, and a JavaScript number could not tell them apart
  const byId = createIndex((id) =>
    Number(id) > Number.MAX_SAFE_INTEGER ? Promise.resolve(undefined) : store.find(Number(id)),
  );
  const byApiClientId = createIndex((apiClientId) => store.findByApiClientId(apiClientId));

  return {
    find: byId.find,
    findByApiClientId: byApiClientId.find,
    forget(id) {
      epoch++;
      byId.entries.delete(String(id));
      // a change may have given this client another api_client_id, or one that was unknown until now
      byApiClientId.entries.clear();
    },
    forgetAll() {
      epoch++;
      byId.entries.clear();
      byApiClientId.entries.clear();
    },
    confirm(at) {
      confirmedAt = at;
    },
  };
}

/** Bytes, about: what V8 takes for objects of this shape and for their place in the cache. */
function sizeOf(client: ClientRecord | typeof nobody, text: string): number {
  if (client === nobody) return 160 + text.length;
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
      notedIn: (key.lastUsedAt ?? 0) < (key.replacedAt ?? 0) ? 0 : periodOf(key.lastUsedAt ?? 0),
    })),
    notedIn: periodOf(lastUsedAt ?? 0),
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
