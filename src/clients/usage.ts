import type { ClientRecord, KeyRecord } from '../auth/authenticator.ts';
import type { ClientStore, Use } from './client-store.ts';

/** Keeps the times of last use, roughly: noted in memory, written now and then, never on the path of a decision. */
export interface Usage {
  readonly note: (at: number, client: ClientRecord, key: KeyRecord | undefined) => void;
  readonly flush: () => Promise<void>;
  /** Writes what is noted and stops. */
  readonly close: () => Promise<void>;
}

export interface UsageOptions {
  readonly store: Pick<ClientStore, 'recordUses'>;
  /** Called when what is noted cannot be written; it is tried again. */
  readonly onFault: (error: unknown) => void;
  /** Milliseconds between two writes. */
  readonly interval?: number;
  /** Uses that are noted at most; further ones are noted when they come again. */
  readonly capacity?: number;
}

/** Milliseconds to which a time is kept: every further use in one such span is none to be written. */
const period = 10 * 60_000;
/** A write holds the database's one lock, so it is short. */
const usesPerWrite = 500;

export function createUsage({ store, onFault, interval = 5_000, capacity = 10_000 }: UsageOptions): Usage {
  let noted = new Map<number, Use>();
  let isStopped = false;
  let writing = Promise.resolve();
  let timer: NodeJS.Timeout;

  async function write(): Promise<void> {
    const uses = [...noted.values()];
    noted = new Map();
    while (uses.length > 0) {
      const some = uses.splice(0, usesPerWrite);
      try {
        await store.recordUses(some);
      } catch (error) {
        for (const use of [...some, ...uses]) {
          const name = nameOf(use);
          // one that was noted meanwhile is later
          if (noted.size < capacity && !noted.has(name)) noted.set(name, use);
        }
        onFault(error);
        return;
      }
    }
  }

  function schedule(): void {
    if (isStopped) return;
    timer = setTimeout(() => {
      writing = write().then(schedule);
    }, interval);
    timer.unref();
  }
  schedule();

  return {
    async flush() {
      await writing;
      writing = write();
      await writing;
    },
    note(at, client, key) {
      const mark = key ?? client;
      const now = periodOf(at);
      if (mark.notedIn === now || noted.size >= capacity) return;
      mark.notedIn = now;
      // exactly for a key that has been replaced: whether it was before or after is what matters
      const isReplaced = key !== undefined && key.replacedAt !== null;
      const use: Use = { clientId: client.principal.id, keyId: key?.id, at: isReplaced ? at : now * period };
      noted.set(nameOf(use), use);
    },
    async close() {
      isStopped = true;
      clearTimeout(timer);
      await writing;
      await write();
    },
  };
}

/** For `UseMark`. */
export function periodOf(at: number): number {
  return Math.floor(at / period);
}

/** A number, because there are many: the id of the key, or that of the client below zero. */
function nameOf({ clientId, keyId }: Use): number {
  return keyId ?? -clientId;
}
