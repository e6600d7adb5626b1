import assert from 'node:assert/strict';
import { join } from 'node:path';
import { parseDatabaseUrl } from '../../src/config.ts';
import type { DatabaseAddress } from '../../src/database-address.ts';
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
