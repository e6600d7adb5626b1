import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readLocalSettings, type LocalSettings } from '../../src/local/settings.ts';
import { startStack } from '../../src/local/stack.ts';
import type { Bench } from '../bench.ts';
import { createTail, freePort } from '../process.ts';
import type { Target } from '../set-ups/set-up.ts';
import { certificate } from './certificate.ts';
import { database } from './database.ts';
import { audience, issuer } from './issuer.ts';
import { layOutOperator } from './shipped-front.ts';
import { application } from './upstreams.ts';

export interface StackOptions {
  readonly name: string;
  /** API clients in its database. */
  readonly clients: number;
  /** APIGW_WORKERS. */
  readonly workers?: number;
  readonly isCached?: boolean;
}

export interface GatewayStack extends Omit<Target, 'credentials'> {
  readonly management: string;
  /** The same in TLS. */
  readonly tlsUrl: string;
}

/** The product as `npm run up` starts it. */
export function gatewayStack(bench: Bench, options: StackOptions): Promise<GatewayStack> {
  return bench.shared(`stack ${options.name}`, () => start(bench, options));
}

async function start(bench: Bench, options: StackOptions): Promise<GatewayStack> {
  const { name, clients, workers = 1, isCached = false } = options;
  const { url, onStarted } = await issuer(bench);
  const port = await freePort();
  const env = {
    ...(workers > 1 && { APIGW_WORKERS: String(workers) }),
    DATABASE_URL: await database(bench, clients),
    OIDC_ALLOW_INSECURE_HTTP: 'true',
    APIGW_STATE_DIR: join(bench.folder(name), 'state'),
    APIGW_CONFIG_DIR: layOutOperator(bench, name, {
      port,
      isCached,
      settings: {
        open_id_connect_enabled: 'on',
        oidc_discovery: url(name),
        oidc_audience: audience,
      },
    }),
    APIGW_HTTP_PORT: String(await freePort()),
    APIGW_HTTPS_PORT: String(await freePort()),
    APIGW_APP_UPSTREAM: `unix:${(await application(bench)).socket}`,
  };
  const settings = readLocalSettings(env, bench.root, process.getuid?.() === 0);
  await useCertificate(bench, settings);
  const output = createTail();
  bench.signal.throwIfAborted();
  const stack = await startStack({ root: bench.root, settings, env: bench.env, output }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}\n${output.text()}`, { cause: error });
  });
  bench.atEnd(stack.stop);
  onStarted(name, workers);
  return {
    url: `http://127.0.0.1:${port}/`,
    tlsUrl: `https://127.0.0.1:${settings.httpsPort}/`,
    processes: {
      front: [stack.nginx.pid ?? 0],
      gateway: [stack.gateway.pid ?? 0],
      application: [(await application(bench)).pid],
    },
    logs: [join(stack.logDir, 'access.log')],
    refusesStrangers: true,
    management: join(stack.runDir, 'management.sock'),
  };
}

/** That of the set-ups it is compared with. */
async function useCertificate(bench: Bench, { configDir = '' }: LocalSettings): Promise<void> {
  const from = await certificate(bench);
  const folder = join(configDir, 'nginx/ssl');
  mkdirSync(folder, { recursive: true });
  for (const file of ['nginx.crt', 'nginx.key']) copyFileSync(join(from, file), join(folder, file));
}
