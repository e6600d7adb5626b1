import type { Database } from './sqlite.ts';

export interface ChangeFeedOptions {
  readonly database: Database;
  /** Called with the id of each API client that has changed, whoever changed it. */
  readonly onChange: (id: number) => void;
  /** Called when the revision is lower than it was: the database has been replaced by an older one. */
  readonly onReset: () => void;
  /** Called with the time since when nothing can have been missed. */
  readonly onConfirmed: (at: number) => void;
  /** Called when the database cannot be asked; once until it can. */
  readonly onLost: (cause: unknown) => void;
  readonly onRecovered: () => void;
  /** Milliseconds on a clock that only goes forward. */
  readonly monotonicNow: () => number;
  /** Milliseconds between two looks at the revision. */
  readonly interval?: number;
}

export interface ChangeFeed {
  stop(): Promise<void>;
}

/**
 * Follows the revision that every change advances, so that a change made by another process bites here too. Starts
 * at the revision of now: nothing may be remembered from before.
 */
export async function followChanges({
  database: { read, expectFile },
  onChange,
  onReset,
  onConfirmed,
  onLost,
  onRecovered,
  monotonicNow,
  interval = 250,
}: ChangeFeedOptions): Promise<ChangeFeed> {
  let seen = await revision();
  let isLost = false;
  let isStopped = false;
  let round = Promise.resolve();
  let timer: NodeJS.Timeout;

  async function revision(): Promise<number> {
    const row = await read<{ value: number }>('revision').first('value');
    if (!row) throw new Error('the table revision is empty');
    return row.value;
  }

  async function catchUp(): Promise<void> {
    expectFile();
    const latest = await revision();
    if (latest === seen) return;
    if (latest < seen) {
      onReset();
      seen = latest;
      return;
    }
    const oldest = await read<{ revision: number }>('audit_events')
      .whereNotNull('revision')
      .min({ revision: 'revision' });
    // what changed is not in the audit trail any more: this process has slept for longer than events are kept
    if ((oldest[0]?.revision ?? Infinity) > seen + 1) {
      onReset();
      seen = latest;
      return;
    }
    const changed: { client_id: number }[] = await read('audit_events')
      .where('revision', '>', seen)
      .andWhere('revision', '<=', latest)
      .whereNotNull('client_id')
      .distinct('client_id');
    for (const { client_id } of changed) onChange(client_id);
    seen = latest;
  }

  async function look(): Promise<void> {
    const startedAt = monotonicNow();
    try {
      await catchUp();
      onConfirmed(startedAt);
      if (isLost) onRecovered();
      isLost = false;
    } catch (error) {
      if (!isLost) onLost(error);
      isLost = true;
    }
  }

  function schedule(): void {
    if (isStopped) return;
    timer = setTimeout(() => {
      round = look().then(schedule);
    }, interval);
  }
  schedule();

  return {
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await round;
    },
  };
}
