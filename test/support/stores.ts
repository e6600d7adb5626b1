import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { ClientStore } from '../../src/clients/client-store.ts';
import { parseDatabaseUrl } from '../../src/config.ts';
import type { DatabaseAddress } from '../../src/database-address.ts';
import { followChanges, type ChangeFeed, type ChangeFeedOptions } from '../../src/store/change-feed.ts';
import { openStore } from '../../src/store/open-store.ts';
import { sharedPostgres } from './postgres.ts';
import { makeTempDir } from './stack.ts';

/** What a promise of the store is kept by. */
export const databaseKinds = ['SQLite', 'PostgreSQL'] as const;
export type DatabaseKind = (typeof databaseKinds)[number];

/** A new, empty store of that kind. */
export async function openTestStore(kind: DatabaseKind): ReturnType<typeof openStore> {
  return openStore(await newDatabase(kind));
}

export async function newDatabase(kind: DatabaseKind): Promise<DatabaseAddress> {
  if (kind === 'SQLite') return join(makeTempDir(), 'apigw.db');
  const server = await sharedPostgres();
  return addressOf(server.url(await server.createDatabase()));
}

export function addressOf(url: string): DatabaseAddress {
  const address = parseDatabaseUrl(url);
  assert.ok(address, url);
  return address;
}

/** A database as one process has it open. */
export interface OpenedStore {
  readonly store: ClientStore;
  readonly follow: (options: Omit<ChangeFeedOptions, 'database'>) => Promise<ChangeFeed>;
  readonly revision: () => Promise<number>;
  readonly close: () => Promise<void>;
}

/** Opens one and the same database, each time as one more process would. */
export type OpenStore = () => Promise<OpenedStore>;

/** A database of that kind that is empty. */
export async function newStore(kind: DatabaseKind): Promise<OpenStore> {
  const address = await newDatabase(kind);
  return async () => {
    const { database, store } = await openStore(address);
    return {
      store,
      follow: (options) => followChanges({ database, ...options }),
      revision: async () => (await database.read<{ value: number }>('revision').first('value'))?.value ?? 0,
      close: () => database.close(),
    };
  };
}
