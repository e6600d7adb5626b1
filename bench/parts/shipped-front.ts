import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { freePort, pathOnly, runProgram } from '../process.ts';
import type { Target } from '../set-ups/set-up.ts';
import { runNginx } from './nginx.ts';
import { alwaysGranted, application } from './upstreams.ts';

export interface OperatorOptions {
  /** For the benchmark's server block. */
  readonly port: number;
  /** Value by the name of a setting in default.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Whether the decision cache of nginx is on. */
  readonly isCached?: boolean;
}

/**
 * Writes an operator's directory as the documents say: default.conf as shipped, with these settings and one more server,
 * because the shipped one for plain HTTP only redirects. limits.conf is as shipped: no load has more than 128 requests at
 * once, and 400 are allowed (test/faults/abuse.test.ts has those that are more).
 *
 * @returns the directory
 */
export function layOutOperator(bench: Bench, name: string, options: OperatorOptions): string {
  const { port, settings = {}, isCached = false } = options;
  const directory = join(bench.folder(name), 'config');
  mkdirSync(join(directory, 'nginx/conf.d'), { recursive: true });
  const shipped = readFileSync(join(bench.root, 'nginx/conf.d/default.conf'), 'utf8');
  const edited = Object.entries(settings).reduce((text, [setting, value]) => set(text, setting, value), shipped);
  writeFileSync(
    join(directory, 'nginx/conf.d/default.conf'),
    `${edited}
server {   # of the benchmark
  listen 127.0.0.1:${port};
  server_name _;
  include snippets/gateway.conf;
${isCached ? '  include snippets/decision-cache.conf;\n' : ''}
  location / {   # protected
    proxy_pass http://\${if_granted}application;
    include snippets/proxy.conf;
  }
}
`,
  );
  return directory;
}

function set(conf: string, setting: string, value: string): string {
  const edited = conf.replace(
    new RegExp(`(map \\$server_name \\$${setting}\\s+\\{[^}]*?default\\s+)[^;]+;`),
    (_, before: string) => `${before}"${value}";`,
  );
  if (edited === conf) throw new Error(`default.conf has no setting ${setting} to be edited`);
  return edited;
}

/** Our configuration of nginx, with somebody in the gateway's place who always says yes. */
export function shippedFront(bench: Bench): Promise<Omit<Target, 'credentials'>> {
  return bench.shared('front shipped', async () => {
    const { pid } = await alwaysGranted(bench);
    const front = await startFront(bench, 'L1-shipped', bench.folder('granted'));
    return { ...front, processes: { ...front.processes, gateway: [pid] }, refusesStrangers: false };
  });
}

/**
 * Our nginx by itself, in front of whoever listens in these folders.
 *
 * @param socketDirs as APIGW_SOCKET_DIR has them
 */
export async function startFront(
  bench: Bench,
  name: string,
  socketDirs: string,
): Promise<Omit<Target, 'credentials' | 'refusesStrangers'>> {
  const app = await application(bench);
  const [port, httpPort, httpsPort] = [await freePort(), await freePort(), await freePort()];
  const prefix = bench.folder(name);
  const env = {
    APIGW_PREFIX: prefix,
    APIGW_CONFIG_DIR: layOutOperator(bench, name, { port }),
    APIGW_SOCKET_DIR: socketDirs,
    APIGW_APP_UPSTREAM: `unix:${app.socket}`,
    APIGW_HTTP_PORT: String(httpPort),
    APIGW_HTTPS_PORT: String(httpsPort),
    // the gateways are of our own user
    ...(process.getuid?.() === 0 && { APIGW_WORKER_USER: 'root' }),
  };
  for (const script of ['stage.sh', 'check.sh']) {
    const assignments = Object.entries<string | undefined>({ ...pathOnly(bench), ...env }).map(
      ([key, value]) => `${key}=${value ?? ''}`,
    );
    await runProgram(bench, 'env', [...assignments, 'sh', join(bench.root, 'nginx', script)]);
  }
  const { pid } = await runNginx(bench, name, prefix, 'current/nginx.conf', port);
  return {
    url: `http://127.0.0.1:${port}/`,
    processes: { front: [pid], gateway: [], application: [app.pid] },
    logs: [join(prefix, 'logs/access.log')],
  };
}
