import {
  AggregatorRegistry,
  collectDefaultMetrics,
  Registry,
  type Metric,
  type MetricObjectWithValues,
  type MetricValue,
} from 'prom-client';
import type { TokenCounts } from './auth/access-token.ts';
import { createDecisionCounts, listDecisions, type DecisionCounts } from './auth/decision-counts.ts';
import type { DirectoryCounts } from './clients/client-directory.ts';
import { bounds, type Histogram } from './histogram.ts';
import { createManagementCounts, type ManagementCounts } from './http/management-counts.ts';
import { createServerCounts, type ServerCounts } from './http/decision-server.ts';
import type { IssuerStatus } from './oidc/issuer.ts';
import { createStoreDurations, type StoreDurations } from './store/client-store.ts';

/** Plain numbers that the path of a decision counts up; they become metrics when somebody reads them. */
export interface Counts {
  readonly decisions: DecisionCounts;
  readonly clients: DirectoryCounts;
  readonly tokens: TokenCounts;
  readonly server: ServerCounts;
  readonly management: ManagementCounts;
  readonly store: StoreDurations;
}

export function createCounts(): Counts {
  return {
    decisions: createDecisionCounts(),
    clients: { hits: 0, misses: 0, queries: 0 },
    tokens: { hits: 0, misses: 0, verified: 0, rejected: 0, unavailable: 0 },
    server: createServerCounts(),
    management: createManagementCounts(),
    store: createStoreDurations(),
  };
}

/** What this process is asked when somebody reads its metrics. */
export interface ProcessState {
  /** Milliseconds since when a change by another process may have been missed. */
  readonly feedLag: () => number;
  /** Whether the database says by itself that something has changed; undefined for one that never does. */
  readonly isNotified: () => boolean | undefined;
  readonly issuers: () => readonly IssuerStatus[];
}

/** What is the same for all workers of a gateway, and so is asked by one of them; undefined when it cannot be told. */
export interface GatewayState {
  readonly bootstrapKeys: () => Promise<number | undefined>;
  /** Null when it is not looked at. */
  readonly certificateDaysLeft: (() => Promise<number | undefined>) | null;
  readonly version: string;
}

type Labels = Readonly<Record<string, string | number>>;
/** A value with its labels, and with its own name where that is not the metric's. */
type Sample = readonly [labels: Labels, value: number, name?: string];
type Samples = readonly Sample[];

interface Definition {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** How the values of several workers become one. */
  readonly aggregator: 'sum' | 'min' | 'max';
  readonly read: () => Samples | Promise<Samples>;
}

/** What they are called and mean is in docs/metrics.md; the labels hold nothing that a client chooses. */
function publish(registry: Registry, { read, ...definition }: Definition): void {
  const get = async () => ({
    ...definition,
    values: (await read()).map(([labels, value, metricName]) => ({ labels, value, ...(metricName && { metricName }) })),
  });
  // the library's own classes count up by themselves; all that its registry asks for is this
  registry.registerMetric({ ...definition, get } as unknown as Metric);
}

/** The metrics of this process, and those of Node. */
export function createMetrics(counts: Counts, state: ProcessState): Registry {
  const { decisions, clients, tokens, server, management, store } = counts;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const count = (name: string, help: string, read: Definition['read']) => {
    publish(registry, { name, help, type: 'counter', aggregator: 'sum', read });
  };
  const gauge = (name: string, help: string, aggregator: 'min' | 'max', read: Definition['read']) => {
    publish(registry, { name, help, type: 'gauge', aggregator, read });
  };
  const time = (name: string, help: string, read: () => readonly (readonly [Labels, Histogram])[]) => {
    const samples = () => read().flatMap(([labels, histogram]) => samplesOf(name, labels, histogram));
    publish(registry, { name, help, type: 'histogram', aggregator: 'sum', read: samples });
  };

  count('apigw_decisions_total', 'Answers of the decision listener.', () =>
    listDecisions(decisions).map(({ count, ...labels }) => [labels, count]),
  );
  count('apigw_management_calls_total', 'Answers of the management API.', () =>
    management.list().map(({ count, ...labels }) => [labels, count]),
  );
  time('apigw_decision_duration_seconds', 'Time from the whole question of nginx to the answer.', () => [
    [{}, server.durations],
  ]);
  count('apigw_cache_lookups_total', 'Lookups of API clients and of verified tokens.', () =>
    Object.entries({ clients, tokens }).flatMap(([cache, { hits, misses }]): Samples => [
      [{ cache, result: 'hit' }, hits],
      [{ cache, result: 'miss' }, misses],
    ]),
  );
  count('apigw_token_verifications_total', 'Access tokens that were verified anew.', () =>
    (['verified', 'rejected', 'unavailable'] as const).map((result) => [{ result }, tokens[result]]),
  );
  count('apigw_store_queries_total', 'Queries of the database for API clients that were not in memory.', () => [
    [{}, clients.queries],
  ]);
  time('apigw_store_duration_seconds', 'Time that the database takes.', () =>
    Object.entries(store).map(([operation, durations]) => [{ operation }, durations]),
  );
  count('apigw_decision_connections_total', 'Connections that the decision listener has accepted.', () => [
    [{}, server.connections],
  ]);
  gauge('apigw_feed_lag_seconds', 'Time since when a change by another process may have been missed.', 'max', () => [
    [{}, state.feedLag() / 1_000],
  ]);
  gauge(
    'apigw_feed_notified',
    'Whether PostgreSQL notifies the gateway of changes, besides being asked.',
    'min',
    () => {
      const isNotified = state.isNotified();
      return isNotified === undefined ? [] : [[{}, Number(isNotified)]];
    },
  );
  gauge('apigw_issuer_up', 'Whether the issuer could be asked the last time.', 'min', () =>
    byIssuer(state, Math.min, ({ reachable }) => Number(reachable)),
  );
  gauge('apigw_issuer_key_set_age_seconds', 'Time since the keys of the issuer were fetched.', 'max', () =>
    byIssuer(state, Math.max, ({ age }) => age),
  );
  gauge('apigw_issuer_keys', 'Keys of the issuer that can be used.', 'min', () =>
    byIssuer(state, Math.min, ({ keys }) => keys),
  );
  return registry;
}

/** Metrics of the gateway as a whole. */
export function createGatewayMetrics({ bootstrapKeys, certificateDaysLeft, version }: GatewayState): Registry {
  const registry = new Registry();
  const gauge = (name: string, help: string, read: () => Promise<number | undefined>, labels: Labels = {}) => {
    const samples = async (): Promise<Samples> => {
      const value = await read();
      return value === undefined ? [] : [[labels, value]];
    };
    publish(registry, { name, help, type: 'gauge', aggregator: 'max', read: samples });
  };
  gauge('apigw_bootstrap_keys', 'Bootstrap keys that are alive.', bootstrapKeys);
  gauge(
    'apigw_certificate_days_left',
    'Days until the certificate that is served at the front door ends.',
    certificateDaysLeft ?? (() => Promise.resolve(undefined)),
  );
  gauge('apigw_build_info', 'The version of the gateway and of Node.', () => Promise.resolve(1), {
    version,
    node: process.versions.node,
  });
  return registry;
}

/** As Prometheus wants it: each bucket has what the smaller ones have too. */
function samplesOf(name: string, labels: Labels, { counts, sum }: Histogram): Samples {
  let total = 0;
  const buckets = Array.from(counts, (count, index): Sample => {
    total += count;
    const bound = bounds[index];
    return [{ ...labels, le: bound === undefined ? '+Inf' : bound / 1_000 }, total, `${name}_bucket`];
  });
  return [...buckets, [labels, sum / 1_000, `${name}_sum`], [labels, total, `${name}_count`]];
}

/** Policies may speak to one issuer in several ways, with another CA say: the worse state counts, once there is one. */
function byIssuer(
  { issuers }: ProcessState,
  worse: (one: number, other: number) => number,
  valueOf: (status: IssuerStatus) => number | null,
): Samples {
  const values = new Map<string, number>();
  for (const status of issuers()) {
    const isAsked = status.age !== null || status.last_error !== null;
    if (!isAsked) continue;
    const value = valueOf(status);
    if (value !== null) values.set(status.discovery, worse(value, values.get(status.discovery) ?? value));
  }
  return Array.from(values, ([issuer, value]) => [{ issuer }, value]);
}

/** The metrics of all workers as one. Those of others are what they sent. */
export async function aggregate(own: Registry, others: readonly unknown[]): Promise<Registry> {
  const all = [await own.getMetricsAsJSON(), ...(others as MetricObjectWithValues<MetricValue<string>>[][])];
  return AggregatorRegistry.aggregate(all);
}

export async function write(registries: Registry[]): Promise<{ readonly contentType: string; readonly text: string }> {
  const all = Registry.merge(registries);
  return { contentType: all.contentType, text: await all.metrics() };
}
