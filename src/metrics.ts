import {
  AggregatorRegistry,
  collectDefaultMetrics,
  Counter,
  Registry,
  type MetricObjectWithValues,
  type MetricValue,
} from 'prom-client';
import type { TokenCounts } from './auth/access-token.ts';
import { createDecisionCounts, listDecisions, type DecisionCounts } from './auth/decision-counts.ts';
import type { DirectoryCounts } from './clients/client-directory.ts';
import type { ServerCounts } from './http/decision-server.ts';

/** Plain numbers that the path of a decision counts up; they become metrics when somebody reads them. */
export interface Counts {
  readonly decisions: DecisionCounts;
  readonly clients: DirectoryCounts;
  readonly tokens: TokenCounts;
  readonly server: ServerCounts;
}

export function createCounts(): Counts {
  return {
    decisions: createDecisionCounts(),
    clients: { hits: 0, misses: 0, queries: 0 },
    tokens: { hits: 0, misses: 0, verified: 0, rejected: 0, unavailable: 0 },
    server: { connections: 0 },
  };
}

/**
 * The metrics of this process, and those of Node. What they are called and mean is in docs/metrics.md; the labels hold
 * nothing that a client chooses.
 */
export function createMetrics({ decisions, clients, tokens, server }: Counts): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });

  /** A counter that copies what was counted elsewhere. */
  function follow(
    name: string,
    help: string,
    labelNames: readonly string[],
    samples: () => readonly (readonly [labels: Readonly<Record<string, string>>, count: number])[],
  ): void {
    new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        for (const [labels, count] of samples()) this.inc(labels, count);
      },
    });
  }

  follow('apigw_decisions_total', 'Answers of the decision listener.', ['outcome', 'reason', 'method'], () =>
    listDecisions(decisions).map(({ count, ...labels }) => [labels, count]),
  );
  follow('apigw_cache_lookups_total', 'Lookups of API clients and of verified tokens.', ['cache', 'result'], () =>
    Object.entries({ clients, tokens }).flatMap(([cache, { hits, misses }]) => [
      [{ cache, result: 'hit' }, hits],
      [{ cache, result: 'miss' }, misses],
    ]),
  );
  follow('apigw_token_verifications_total', 'Access tokens that were verified anew.', ['result'], () =>
    (['verified', 'rejected', 'unavailable'] as const).map((result) => [{ result }, tokens[result]]),
  );
  follow('apigw_store_queries_total', 'Queries of the database for API clients that were not in memory.', [], () => [
    [{}, clients.queries],
  ]);
  follow('apigw_decision_connections_total', 'Connections that the decision listener has accepted.', [], () => [
    [{}, server.connections],
  ]);
  return registry;
}

/** The metrics of all workers as one: counters are added up, lags averaged. Those of others are what they sent. */
export async function aggregate(own: Registry, others: readonly unknown[]): Promise<Registry> {
  const all = [await own.getMetricsAsJSON(), ...(others as MetricObjectWithValues<MetricValue<string>>[][])];
  return AggregatorRegistry.aggregate(all);
}
