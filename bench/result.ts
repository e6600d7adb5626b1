import type { Spread } from './statistics.ts';

/** What result.json has. Names say the unit; latencies and processor times are in microseconds. */
export interface Result {
  readonly date: string;
  readonly commit: string;
  readonly command: string;
  readonly options: ResultOptions;
  readonly machine: Machine;
  /** By program. */
  readonly versions: Readonly<Record<string, string>>;
  readonly duration_seconds: number;
  readonly rows: readonly Row[];
  /** What is not here, or runs not here. */
  readonly skipped: readonly Skipped[];
  /** Of ours, what could not be measured. */
  readonly failed: readonly Skipped[];
  readonly memory: MemoryResult | null;
  readonly start: StartResult | null;
  readonly cold: ColdResult | null;
  readonly scale: readonly DatabaseScale[] | null;
  readonly key_set_fetches: readonly KeySetFetches[];
}

export interface ResultOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly many_clients: number;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_bytes: number;
  readonly kernel: string;
  readonly system: string;
}

export interface Skipped {
  readonly name: string;
  readonly reason: string;
}

/** One set-up. */
export interface Row {
  readonly name: string;
  readonly about: string;
  readonly kind: 'baseline' | 'ours' | 'peer';
  readonly load: 'closed' | 'paced';
  readonly connections: number | null;
  /** The set-up that the ratio is to; null for one that others are compared with. */
  readonly baseline: string | null;
  readonly measurements: readonly Measurement[];
  readonly requests_per_second: Spread | null;
  /** To the baseline of the same round. */
  readonly ratio: Spread | null;
  readonly p50_us: Spread | null;
  readonly p99_us: Spread | null;
}

export interface Measurement {
  readonly round: number;
  readonly requests: number;
  readonly seconds: number;
  readonly requests_per_second: number;
  readonly p50_us: number;
  readonly p99_us: number;
  /** Why it does not count; null when it does. */
  readonly invalid: string | null;
  readonly cpu_us_per_request: CpuPerRequest;
  /** Resident, after the measurement. */
  readonly gateway_memory_bytes: number | null;
  /** What our gateway says of itself; null for others, and when it says nothing. */
  readonly gateway: GatewayCounters | null;
}

export interface CpuPerRequest {
  readonly front: number;
  readonly gateway: number;
  readonly application: number;
  readonly load_generator: number;
  /** All processes of the machine, the kernel's and the benchmark's own among them. */
  readonly system: number;
}

/** What was added during one measurement, but for the lag. */
export interface GatewayCounters {
  readonly gc_seconds: Readonly<Record<string, number>>;
  readonly gc_count: Readonly<Record<string, number>>;
  readonly event_loop_lag_p99_seconds: number | null;
  /** By labels, such as "cache=clients result=hit". */
  readonly cache_lookups: Readonly<Record<string, number>>;
  readonly decisions: Readonly<Record<string, number>>;
  readonly token_verifications: Readonly<Record<string, number>>;
}

export interface MemoryResult {
  readonly requests: number;
  readonly after_half_bytes: number;
  readonly after_all_bytes: number;
  readonly cached_keys: number;
  readonly with_cached_keys_bytes: number;
}

export interface StartResult {
  readonly clients: number;
  /** From the start of the process to its first granted decision. */
  readonly milliseconds: readonly number[];
}

export interface ColdResult {
  readonly clients: number;
  readonly asked: number;
  readonly cold_p50_us: number;
  readonly cold_p95_us: number;
  readonly warm_p50_us: number;
  readonly warm_p95_us: number;
}

/** What many API clients cost on one database. */
export interface DatabaseScale {
  readonly database: string;
  readonly clients: number;
  readonly database_bytes: number;
  /** From the start of the process to its first granted decision. */
  readonly start_ms: readonly number[];
  /** Resident, of the gateway: after its start, and when it remembers as many clients as it may. */
  readonly memory_bytes: number;
  readonly memory_full_bytes: number;
  /** Of decisions, one after the other. */
  readonly cold: Latency;
  readonly warm: Latency;
  /** Of decisions over 32 connections. */
  readonly cold_rate: Rate;
  readonly warm_rate: Rate;
  /** Of the list of all clients, one after the other. */
  readonly pages: number;
  readonly page_size: number;
  readonly page: Latency;
  readonly by_name: Latency;
  /** One after the other, and by several at once. */
  readonly create: Latency;
  readonly create_per_second: number;
  readonly remove: Latency;
}

export interface Latency {
  readonly p50_ms: number;
  readonly p99_ms: number;
}

export interface Rate {
  readonly per_second: number;
  /** Processor time of a decision; null where the database has no process. */
  readonly gateway_cpu_us: number;
  readonly database_cpu_us: number | null;
}

export interface KeySetFetches {
  /** The gateway stack that asked. */
  readonly name: string;
  readonly fetches: number;
  readonly processes: number;
  readonly counted_seconds: number;
}
