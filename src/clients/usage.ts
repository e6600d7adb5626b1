import { setTimeout as after } from 'node:timers/promises';
import type { ClientRecord, KeyRecord } from '../auth/authenticator.ts';
import type { ClientStore, Use } from './client-store.ts';

/** Keeps the times of last use, roughly: noted in memory, written now and then, never on the path of a decision. */
export interface Usage {
  readonly note: (at: number, client: ClientRecord, key: KeyRecord | undefined) => void;
  /** Writes what is noted. Resolves to the ids of the keys of which it could not: they have been used, and the store does not know. */
  readonly flush: () => Promise<ReadonlySet<number>>;
  /** Writes what is noted, waits for a second at most for whoever is writing to the same rows, and stops. */
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
/** Its multiples are spread over the period evenly, however many there are. */
const goldenSection = Math.round(period * 0.618_034);
/** A write holds the lock of SQLite's one writer, so it is short. */
const usesPerWrite = 500;
/** Times that rows of somebody else are tried at the end, and the milliseconds between them. */
const attempts = 20;
const pause = 50;

export function createUsage({ store, onFault, interval = 5_000, capacity = 10_000 }: UsageOptions): Usage {
  let noted = new Map<number, Use>();
  let isStopped = false;
  let writing = Promise.resolve(false);
  let timer: NodeJS.Timeout;

  /** Resolves to whether some are not written, because somebody else is writing to their rows. */
  async function write(): Promise<boolean> {
    const uses = [...noted.values()];
    noted = new Map();
    let isLate = false;
    while (uses.length > 0) {
      const some = uses.splice(0, usesPerWrite);
      try {
        const late = await store.recordUses(some);
        noteAgain(late);
        isLate ||= late.length > 0;
      } catch (error) {
        noteAgain([...some, ...uses]);
        onFault(error);
        return false;
      }
    }
    return isLate;
  }

  /** One after the other: what is not written is noted again before the next one begins. */
  function writeInTurn(): Promise<boolean> {
    writing = writing.then(write);
    return writing;
  }

  function noteAgain(uses: readonly Use[]): void {
    for (const use of uses) {
      const name = nameOf(use);
      // one that was noted meanwhile is later
      if (noted.size < capacity && !noted.has(name)) noted.set(name, use);
    }
  }

  function schedule(): void {
    if (isStopped) return;
    timer = setTimeout(() => {
      void writeInTurn().then(schedule);
    }, interval);
    timer.unref();
  }
  schedule();

  return {
    async flush() {
      await writeInTurn();
      return new Set([...noted.values()].flatMap(({ keyId }) => keyId ?? []));
    },
    note(at, client, key) {
      const mark = key ?? client;
      const { id } = client.principal;
      const now = periodOf(at, id);
      if (mark.notedIn === now || noted.size >= capacity) return;
      mark.notedIn = now;
      // exactly for a key that has been replaced: whether it was before or after is what matters
      const isReplaced = key !== undefined && key.replacedAt !== null;
      const use: Use = { clientId: id, keyId: key?.id, at: isReplaced ? at : now * period - shiftOf(id) };
      noted.set(nameOf(use), use);
    },
    async close() {
      isStopped = true;
      clearTimeout(timer);
      for (let left = attempts; (await writeInTurn()) && --left > 0;) await after(pause);
    },
  };
}

/** For `UseMark`: a number that goes up once in every period, for each client at another time. */
export function periodOf(at: number, clientId: number): number {
  return Math.floor((at + shiftOf(clientId)) / period);
}

/** Milliseconds, the same in every process. Were it one for all, everything in use would be written at one moment. */
function shiftOf(clientId: number): number {
  return ((clientId % period) * goldenSection) % period;
}

/** A number, because there are many: the id of the key, or that of the client below zero. */
function nameOf({ clientId, keyId }: Use): number {
  return keyId ?? -clientId;
}
