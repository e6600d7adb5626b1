import type { Knex } from 'knex';
import type { Dialect } from './dialect.ts';

/** The connections to one database. */
export interface Database {
  readonly dialect: Dialect;
  readonly read: Knex;
  readonly write: Knex;
  /**
   * The rows of a statement that only reads. For those that a decision waits for: prepared once and on a connection of
   * its own, it takes half the processor time that it takes through knex. A SQLite file was the expected one less than
   * a moment before.
   *
   * @throws {FileGone}
   */
  readonly lookUp: (sql: string, ...values: readonly unknown[]) => Promise<unknown[]>;
  /**
   * @throws {FileGone} when the file, its log or the index of its log is not the one that was opened: what is written to
   * that one would be lost with the next restart
   */
  readonly expectFile: () => void;
  /** @param onNotice called when the database says by itself that something has changed */
  readonly openRevisions: (onNotice?: () => void) => Revisions;
  close(): Promise<void>;
}

/** What a change feed asks a database for. */
export interface Revisions {
  /** The revision now, and which database says so: after a failover another one does, and may know less. */
  readonly latest: () => Promise<{ readonly revision: number; readonly source: string }>;
  /** The ids of clients that were changed after one revision and until another; undefined when it is not known any more. */
  readonly changedClients: (after: number, until: number) => Promise<readonly number[] | undefined>;
  /** Whether notices arrive; undefined for a database that has none. */
  readonly isNotified: () => boolean | undefined;
  readonly close: () => Promise<void>;
}

/** By any connection of it. Undefined when events from then have left the audit trail. */
export async function selectChangedClients(
  database: Knex,
  after: number,
  until: number,
): Promise<readonly number[] | undefined> {
  const rows: { client_id: number }[] = await database('audit_events')
    .where('revision', '>', after)
    .andWhere('revision', '<=', until)
    .whereNotNull('client_id')
    .distinct('client_id');
  // afterwards, so that what has left the audit trail meanwhile is noticed
  const oldest = await database<{ revision: number }>('audit_events').min<{ revision: number | null }[]>({
    revision: 'revision',
  });
  if ((oldest[0]?.revision ?? Infinity) > after + 1) return undefined;
  return rows.map(({ client_id }) => client_id);
}
