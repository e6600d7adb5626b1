import type { ClientStore } from './client-store.ts';

export interface AuditRetentionOptions {
  readonly store: Pick<ClientStore, 'pruneEvents'>;
  /** Milliseconds that an event is kept at least. */
  readonly retention: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly onPruned: (events: number) => void;
  readonly onFault: (error: unknown) => void;
  /** Milliseconds between two looks. */
  readonly interval?: number;
}

/** A write holds the database's one lock, so it is short; and between two of them everybody else has a turn. */
const eventsPerWrite = 500;
const pause = 50;

/**
 * Removes audit events that are older than they are kept, now and then.
 *
 * @returns a function that stops it, and resolves when nothing is under way
 */
export function keepRetention(options: AuditRetentionOptions): () => Promise<void> {
  const { store, retention, now, onPruned, onFault, interval = 60 * 60_000 } = options;
  let isStopped = false;
  let timer: NodeJS.Timeout;
  let round = Promise.resolve();
  let pruned = 0;

  async function prune(): Promise<void> {
    let wait = interval;
    try {
      const removed = await store.pruneEvents(now() - retention, eventsPerWrite);
      pruned += removed;
      if (removed === eventsPerWrite) wait = pause;
    } catch (error) {
      onFault(error);
    }
    if (wait === interval && pruned > 0) {
      onPruned(pruned);
      pruned = 0;
    }
    schedule(wait);
  }

  function schedule(wait: number): void {
    if (isStopped) return;
    timer = setTimeout(() => {
      round = prune();
    }, wait);
    timer.unref();
  }
  schedule(pause);

  return async () => {
    isStopped = true;
    clearTimeout(timer);
    await round;
  };
}
