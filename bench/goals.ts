import { addedRatio, gatewayCpuOf, p50Of, p99Of, rateOf, ratio } from './compare.ts';
import type { Result } from './result.ts';
import { medianOf } from './statistics.ts';

export interface Goal {
  readonly number: number;
  readonly what: string;
  readonly unit: '' | 'MB' | 'ms';
  /** Undefined for what is only reported. */
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Undefined when it has not been measured. */
  readonly value: (result: Measured) => number | undefined;
}

/** What goals are computed from. */
export type Measured = Pick<Result, 'rows' | 'memory' | 'start' | 'cold' | 'key_set_fetches'>;

export interface GoalOutcome {
  readonly goal: Goal;
  readonly value: number | undefined;
  readonly mark: 'met' | 'missed' | 'reported' | 'not measured';
}

const megabyte = 1_000_000;
/** Seconds after which a gateway fetches a key set anew. */
const keySetLifetime = 300;

const rate = (name: string, other: string) => (result: Measured) => ratio(result, name, other, rateOf);
const megabytes = (bytes: number | undefined) => bytes && bytes / megabyte;

export const goals: readonly Goal[] = [
  { number: 1, what: 'key: requests/s, of L1', unit: '', atLeast: 0.75, value: rate('key', 'L1') },
  { number: 1, what: 'key: requests/s, of L1, stretch', unit: '', atLeast: 0.85, value: rate('key', 'L1') },
  {
    number: 1,
    what: "key: gateway's processor time per request, of that of L1's `return 204`",
    unit: '',
    atMost: 3,
    value: (result) => ratio(result, 'key', 'L1', gatewayCpuOf),
  },
  { number: 2, what: 'jwt: requests/s, of L1', unit: '', atLeast: 0.68, value: rate('jwt', 'L1') },
  { number: 2, what: 'jwt-new-rs256: requests/s, of L1', unit: '', atLeast: 0.35, value: rate('jwt-new-rs256', 'L1') },
  { number: 2, what: 'jwt-new-es256: requests/s, of L1', unit: '', value: rate('jwt-new-es256', 'L1') },
  {
    number: 2,
    what: 'fetches of a key set beyond one for each gateway process and 5 minutes',
    unit: '',
    atMost: 0,
    value: ({ key_set_fetches }) => {
      if (key_set_fetches.length === 0) return undefined;
      const tooMany = key_set_fetches.map(
        ({ fetches, processes, counted_seconds }) =>
          fetches - processes * (1 + Math.floor(counted_seconds / keySetLifetime)),
      );
      return Math.max(0, ...tooMany);
    },
  },
  {
    number: 3,
    what: 'key: p99 at 32 connections, of that of L1',
    unit: '',
    atMost: 1.4,
    value: (result) => ratio(result, 'key', 'L1', p99Of),
  },
  {
    number: 3,
    what: 'key: p99 at 128 connections, of that of L1',
    unit: '',
    atMost: 1.6,
    value: (result) => ratio(result, 'key-128', 'L1-128', p99Of),
  },
  {
    number: 3,
    what: 'key: p50 added to L0 at 2,000 requests/s, of what L1 adds',
    unit: '',
    atMost: 2.2,
    value: (result) => addedRatio(result, ['key-paced', 'L1-paced', 'L0-paced'], p50Of),
  },
  { number: 4, what: 'key-cache: requests/s, of L1', unit: '', atLeast: 1.1, value: rate('key-cache', 'L1') },
  { number: 4, what: 'jwt-cache: requests/s, of L1', unit: '', atLeast: 0.92, value: rate('jwt-cache', 'L1') },
  { number: 5, what: 'key-tls: requests/s, of L1-tls', unit: '', atLeast: 0.77, value: rate('key-tls', 'L1-tls') },
  {
    number: 6,
    what: "gateway's memory after many requests with few keys",
    unit: 'MB',
    atMost: 90,
    value: ({ memory }) => megabytes(memory?.after_all_bytes),
  },
  {
    number: 6,
    what: "gateway's memory with 100,000 keys in it",
    unit: 'MB',
    atMost: 140,
    value: ({ memory }) => megabytes(memory?.with_cached_keys_bytes),
  },
  {
    number: 6,
    what: "flat: gateway's memory after all of these requests, of that after half",
    unit: '',
    atMost: 1.05,
    value: ({ memory }) => memory?.after_all_bytes && memory.after_all_bytes / memory.after_half_bytes,
  },
  {
    number: 6,
    what: 'key-1m-zipf: requests/s, of key-10',
    unit: '',
    atLeast: 0.85,
    value: rate('key-1m-zipf', 'key-10'),
  },
  {
    number: 6,
    what: 'p95 of a first decision on a client of many',
    unit: 'ms',
    atMost: 1,
    value: ({ cold }) => cold?.cold_p95_us && cold.cold_p95_us / 1_000,
  },
  {
    number: 7,
    what: 'start of the gateway to its first granted decision, many clients',
    unit: 'ms',
    atMost: 1_000,
    value: ({ start }) => medianOf(start?.milliseconds ?? []),
  },
  {
    number: 8,
    what: 'key-workers-2: requests/s, of key',
    unit: '',
    atLeast: 0.98,
    value: rate('key-workers-2', 'key'),
  },
];

export function judge(result: Measured): GoalOutcome[] {
  return goals.map((goal) => {
    const value = goal.value(result);
    return { goal, value, mark: markOf(goal, value) };
  });
}

function markOf({ atLeast, atMost }: Goal, value: number | undefined): GoalOutcome['mark'] {
  if (value === undefined) return 'not measured';
  if (atLeast === undefined && atMost === undefined) return 'reported';
  return value >= (atLeast ?? -Infinity) && value <= (atMost ?? Infinity) ? 'met' : 'missed';
}
