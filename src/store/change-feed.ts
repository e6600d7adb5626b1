import type { Database } from './database.ts';

export interface ChangeFeedOptions {
  readonly database: Database;
  /** Called with the id of each API client that has changed, whoever changed it. */
  readonly onChange: (id: number) => void;
  /**
   * Called when the revision is lower than it was, or another server or connection says it: the database may have been
   * replaced by an older one.
   */
  readonly onReset: () => void;
  /** Called with the time since when nothing can have been missed. */
  readonly onConfirmed: (at: number) => void;
  /** Called when the revision that has been followed is another one than before, after what that has led to. */
  readonly onFollowed?: () => void;
  /** Called when the database cannot be asked; once until it can. */
  readonly onLost: (cause: unknown) => void;
  readonly onRecovered: () => void;
  /** Milliseconds on a clock that only goes forward. */
  readonly monotonicNow: () => number;
  /** Milliseconds between two looks at the revision. */
  readonly interval?: number;
}

export interface ChangeFeed {
  /** The revision that has been followed. */
  readonly revision: () => number;
  /** Whether the database says by itself that something has changed; undefined for one that never does. */
  readonly isNotified: () => boolean | undefined;
  stop(): Promise<void>;
}

/**
 * Follows the revision that every change advances, so that a change made by another process bites here too. Starts
 * at the revision of now: nothing may be remembered from before. It is asked for again and again, and at once when the
 * database says that it has advanced; so a notice that is lost costs time and nothing else.
 *
 * @throws {Error} when the database cannot be asked at the start
 */
export async function followChanges({
  database,
  onChange,
  onReset,
  onConfirmed,
  onFollowed,
  onLost,
  onRecovered,
  monotonicNow,
  interval = 250,
}: ChangeFeedOptions): Promise<ChangeFeed> {
  let isNoticed = false;
  let timer: NodeJS.Timeout | undefined;
  const revisions = database.openRevisions(() => {
    // while a look is under way, the next one follows at once
    isNoticed = true;
    if (timer === undefined) return;
    clearTimeout(timer);
    begin();
  });
  let seen = await revisions.latest().catch(async (error: unknown) => {
    await revisions.close();
    throw error;
  });
  let isLost = false;
  let isStopped = false;
  let round = Promise.resolve();

  async function catchUp(): Promise<void> {
    const latest = await revisions.latest();
    if (latest.revision < seen.revision || latest.source !== seen.source) {
      onReset();
      seen = latest;
      return;
    }
    if (latest.revision === seen.revision) return;
    const changed = await revisions.changedClients(seen.revision, latest.revision);
    // this process has slept for longer than the audit trail is kept
    if (changed === undefined) onReset();
    else for (const id of changed) onChange(id);
    seen = latest;
  }

  async function look(): Promise<void> {
    const startedAt = monotonicNow();
    const before = seen;
    try {
      await catchUp();
      onConfirmed(startedAt);
      if (seen !== before) onFollowed?.();
      if (isLost) onRecovered();
      isLost = false;
    } catch (error) {
      if (!isLost) onLost(error);
      isLost = true;
    }
  }

  function begin(): void {
    timer = undefined;
    isNoticed = false;
    round = look().then(schedule);
  }

  function schedule(): void {
    if (isStopped) return;
    timer = setTimeout(begin, isNoticed ? 0 : interval);
  }
  schedule();

  return {
    revision: () => seen.revision,
    isNotified: revisions.isNotified,
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      timer = undefined;
      await round;
      await revisions.close();
    },
  };
}
