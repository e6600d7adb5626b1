import { LRUCache } from 'lru-cache';
import type { ClientRecord, FindClient } from '../auth/authenticator.ts';
import { StoreUnavailable, type ClientStore, type ClientWithKeys } from './client-store.ts';

export interface ClientDirectoryOptions {
  readonly store: Pick<ClientStore, 'find'>;
  /** Milliseconds on a clock that only goes forward. */
  readonly monotonicNow: () => number;
  /** Clients kept in memory, known and unknown ids together. */
  readonly capacity?: number;
  /** Longest time in milliseconds for which answers are given from memory while changes cannot be followed. */
  readonly maxStaleness?: number;
  /** Lookups under way at once; one more is refused as unavailable. */
  readonly maxLookups?: number;
}

/** API clients by id, from memory where that is known to be current, else from the store. */
export interface ClientDirectory {
  readonly find: FindClient;
  /** Forgets what was known of a client. A lookup that is under way is repeated before it is answered. */
  readonly forget: (id: number) => void;
  readonly forgetAll: () => void;
  /** Says that every change made until that time, on the same clock, has been followed. */
  readonly confirm: (at: number) => void;
}

/** An id that no client has is remembered too, so that a flood of wrong keys costs no query each. */
type Entry = { readonly client: ClientRecord } | { readonly client: undefined };

export function createClientDirectory({
  store,
  monotonicNow,
  capacity = 100_000,
  maxStaleness = 5_000,
  maxLookups = 1_000,
}: ClientDirectoryOptions): ClientDirectory {
  const entries = new LRUCache<string, Entry>({ max: capacity });
  const lookups = new Map<string, Promise<ClientRecord | undefined>>();
  let epoch = 0;
  let confirmedAt = monotonicNow();

  async function lookUp(id: string): Promise<ClientRecord | undefined> {
    // no store gives ids beyond 2^53, and a JavaScript number could not tell them apart
    if (Number(id) > Number.MAX_SAFE_INTEGER) return undefined;
    let client: ClientRecord | undefined;
    let startedIn: number;
    do {
      startedIn = epoch;
      const stored = await store.find(Number(id));
      client = stored && toRecord(stored);
      // something was forgotten meanwhile: what was read may be older than a change that is already acknowledged
    } while (startedIn !== epoch);
    entries.set(id, { client });
    return client;
  }

  return {
    find(id) {
      if (monotonicNow() - confirmedAt <= maxStaleness) {
        const entry = entries.get(id);
        if (entry) return entry.client;
      }
      const underWay = lookups.get(id);
      if (underWay) return underWay;
      if (lookups.size >= maxLookups) return Promise.reject(new StoreUnavailable('too many lookups are waiting'));
      const lookup = lookUp(id).finally(() => lookups.delete(id));
      lookups.set(id, lookup);
      return lookup;
    },
    forget(id) {
      epoch++;
      entries.delete(String(id));
    },
    forgetAll() {
      epoch++;
      entries.clear();
    },
    confirm(at) {
      confirmedAt = at;
    },
  };
}

function toRecord({ id, apiClientId, name, isAdmin, keys }: ClientWithKeys): ClientRecord {
  return {
    principal: { id, clientId: apiClientId, clientName: name, isAdmin, method: 'api_key' },
    keys: keys.map(({ id: keyId, digest, expiresAt, isBootstrap, firstUsedAt }) => ({
      id: keyId,
      digest,
      expiresAt,
      isUnusedBootstrap: isBootstrap && firstUsedAt === null,
    })),
  };
}
