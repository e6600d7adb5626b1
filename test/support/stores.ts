import { join } from 'node:path';
import type { ClientStore } from '../../src/clients/client-store.ts';
import { followChanges, type ChangeFeed, type ChangeFeedOptions } from '../../src/store/change-feed.ts';
import { openStore } from '../../src/store/open-store.ts';
import { makeTempDir } from './stack.ts';

/** A database as one process has it open. */
export interface OpenedStore {
  readonly store: ClientStore;
  readonly follow: (options: Omit<ChangeFeedOptions, 'database'>) => Promise<ChangeFeed>;
  readonly revision: () => Promise<number>;
  readonly close: () => Promise<void>;
}

/** Opens one and the same database, each time as one more process would. */
export type OpenStore = () => Promise<OpenedStore>;

/** What the product can keep its clients in; each makes a database that is empty. */
export const databases: Readonly<Record<string, () => OpenStore>> = {
  SQLite: () => {
    const file = join(makeTempDir(), 'apigw.db');
    return async () => {
      const { database, store } = await openStore(file);
      return {
        store,
        follow: (options) => followChanges({ database, ...options }),
        revision: async () => (await database.read<{ value: number }>('revision').first('value'))?.value ?? 0,
        close: () => database.close(),
      };
    };
  },
};
