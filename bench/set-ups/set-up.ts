import type { Bench } from '../bench.ts';

/** One row of the result. */
export interface SetUp {
  readonly name: string;
  readonly about: string;
  readonly kind: 'baseline' | 'ours' | 'peer';
  /** Names of the set-ups that this one is compared with; they are measured with it. The ratios are to the first. */
  readonly comparedWith: readonly string[];
  readonly load: Load;
  /** Whether `--quick` measures it too. */
  readonly isQuick: boolean;
  /** @throws {Skip} when it cannot be measured here */
  readonly prepare: (bench: Bench) => Promise<Target>;
}

export type Load =
  /** So many connections, each with the next request as soon as there is an answer. */
  | { readonly kind: 'closed'; readonly connections: number }
  /** So many requests a second, whatever the answers take. */
  | { readonly kind: 'paced'; readonly perSecond: number };

/** What runs, and how it is to be asked. */
export interface Target {
  readonly url: string;
  readonly credentials: CredentialSource;
  readonly processes: Processes;
  /** Files that grow with every request; emptied after each measurement. */
  readonly logs: readonly string[];
  /** Whether a request without a credential, or with a forged one, gets 401. */
  readonly refusesStrangers: boolean;
  /** The socket of our gateway's management listener. */
  readonly management?: string;
}

/** Roots of process trees by what they do. */
export interface Processes {
  readonly front: readonly number[];
  readonly gateway: readonly number[];
  readonly application: readonly number[];
}

export interface CredentialSource {
  /** A file with one Authorization value a line, for a measurement of so many seconds. */
  readonly file: (seconds: number) => Promise<string>;
  /** Whether no line may be sent twice in one measurement. */
  readonly isUsedOnce: boolean;
  /** Called after each measurement, so that the next list is long enough. */
  readonly onMeasured?: (requestsPerSecond: number) => void;
}

export const closed = { kind: 'closed', connections: 32 } as const satisfies Load;
export const crowded: Load = { kind: 'closed', connections: 128 };
export const paced: Load = { kind: 'paced', perSecond: 2_000 };
