import type { Knex } from 'knex';

/** What the two databases say differently. Values are bound, never written into a statement. */
export interface Dialect {
  readonly name: 'sqlite' | 'postgresql';
  /** True of a row whose column, of that type, has one of the values of a list; the list is one binding. */
  readonly isOneOf: (column: string, type: 'bigint' | 'text') => string;
  readonly toList: (values: readonly (string | number)[]) => unknown;
  /** True of a client whose name has the binding, a pattern of `like`, in it; A to Z and a to z are the same. */
  readonly nameIsLike: string;
  /** True of a client that has the binding, a text, among its tags. */
  readonly hasTag: string;
  /** Milliseconds since the epoch, by the clock of the database. */
  readonly now: string;
  /** The same, for a statement that may be lost with a crash of the database: it waits for no disk where that can be had. */
  readonly nowInPassing: string;
  /** The rows that a raw statement has found. */
  readonly rowsOf: <Row>(result: unknown) => Row[];
  /**
   * Begins a change: the next revision. Whoever has it is alone, until its transaction ends, so that what has a higher
   * revision is also visible later.
   */
  readonly advanceRevision: (transaction: Knex) => Promise<number>;
  /** Runs what writes but is no change in a transaction that waits for changes, and they for it. */
  readonly inTurn: (database: Knex, work: (transaction: Knex) => Promise<void>) => Promise<void>;
  /** The largest id that was ever given to a client; 0 when none was. */
  readonly lastClientId: (transaction: Knex) => Promise<number>;
  /** The id that an insertion must name; undefined where the database gives the next one by itself. */
  readonly claimClientId: (transaction: Knex, wanted: number | undefined) => Promise<number | undefined>;
  /**
   * Keeps times of last use of a table's rows, unless later ones are kept already. Waits for nobody who has locked one of
   * them: resolves to the ids of those.
   */
  readonly recordUses: (
    database: Knex,
    table: string,
    uses: readonly (readonly [id: number, at: number])[],
  ) => Promise<readonly number[]>;
  /** Whether a statement failed because another client has this `api_client_id`. */
  readonly isDuplicateApiClientId: (error: unknown) => boolean;
  /** Whether a transaction whose commit has failed with this may have been kept nevertheless. */
  readonly isOutcomeUnknown: (error: unknown) => boolean;
}
