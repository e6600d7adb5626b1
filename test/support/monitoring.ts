import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { acceptTokensOf, startProvider, type RealProvider } from './provider.ts';
import { startPrometheus, type Prometheus } from './prometheus.ts';
import { setSettings } from './settings.ts';
import { freePorts, root, startTestStack, type TestStack } from './stack.ts';

/** The product with an issuer, read by a real Prometheus through nginx as docs/monitoring.md says. */
export interface MonitoredStack {
  readonly stack: TestStack;
  readonly provider: RealProvider;
  readonly prometheus: Prometheus;
  /** Where nginx hands out the metrics. */
  readonly metricsUrl: string;
  readonly stop: () => Promise<void>;
}

/** Prometheus reads so often, at that port or any. */
export async function startMonitoredStack(interval: string, port?: number): Promise<MonitoredStack> {
  const [providerPort, freePort] = await freePorts(2);
  const metricsPort = port ?? freePort;
  const provider = await startProvider(providerPort, ['abc123', 'stranger']);
  const metricsConf = readFileSync(join(root, 'monitoring/metrics.conf'), 'utf8').replace('9145', String(metricsPort));
  const stack = await startTestStack({
    env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
    edit: (conf) => `${setSettings(conf, acceptTokensOf(provider, 'ES256'))}\n${metricsConf}`,
  });
  const prometheus = await startPrometheus(metricsPort, interval);
  return {
    stack,
    provider,
    prometheus,
    metricsUrl: `http://127.0.0.1:${metricsPort}/metrics`,
    stop: async () => {
      await prometheus.stop();
      await stack.stop();
      await provider.stop();
    },
  };
}

export interface Target {
  readonly expr: string;
  readonly legendFormat: string;
}

/** What we use of a panel of Grafana's. */
export interface Panel {
  readonly type: 'stat' | 'timeseries';
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly Target[];
  readonly fieldConfig: {
    readonly defaults: {
      readonly unit: string;
      readonly decimals?: number;
      readonly min?: number;
      readonly max?: number;
      readonly custom?: { readonly fillOpacity: number; readonly stacking: { readonly mode: string } };
      readonly thresholds?: { readonly steps: readonly { readonly color: string; readonly value: number | null }[] };
      readonly mappings?: readonly { readonly options: Readonly<Record<string, { readonly text: string }>> }[];
    };
    readonly overrides: readonly {
      readonly matcher: { readonly options: string };
      readonly properties: readonly { readonly value: { readonly fixedColor: string } }[];
    }[];
  };
  readonly options: { readonly textMode?: string; readonly legend?: { readonly placement: string } };
}

export interface Dashboard {
  readonly title: string;
  readonly schemaVersion: number;
  readonly panels: readonly Panel[];
}

export function readDashboard(): Dashboard {
  return JSON.parse(readFileSync(join(root, 'monitoring/grafana-dashboard.json'), 'utf8')) as Dashboard;
}

/** A panel's query as Grafana sends it, for all gateways. */
export function expand(expr: string, rateInterval: string): string {
  return expr.replaceAll('$__rate_interval', rateInterval).replaceAll('$instance', '.*');
}

/** The name of a series in a legend. */
export function nameOf(legendFormat: string, metric: Readonly<Record<string, string>>): string {
  return legendFormat.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? '');
}
