import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { spawnGateway, stopGateway, type GatewayProcess } from './gateway.ts';
import { makeTempDir, until } from './stack.ts';

/** Gateways on one database, each with sockets of its own, as an operator has them. */
export interface Gateways {
  /** What the proxy has as APIGW_SOCKET_DIR. */
  readonly socketDirs: string;
  readonly all: () => readonly GatewayProcess[];
  readonly at: (index: number) => GatewayProcess;
  /** Starts the one of this index again; the one before must have ended. */
  readonly restart: (index: number) => Promise<void>;
  readonly everybodySays: (key: string, status: number) => Promise<boolean>;
  readonly stop: () => Promise<void>;
}

/** One for each URL, and with this in the environment of all. */
export async function startGateways(
  urls: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Gateways> {
  const dir = makeTempDir();
  const dirs = urls.map((_, index) => join(dir, String(index)));
  for (const one of dirs) mkdirSync(one);

  async function start(index: number, env: Record<string, string> = {}): Promise<GatewayProcess> {
    const own = dirs[index] ?? '';
    const gateway = spawnGateway(own, {
      DATABASE_URL: urls[index] ?? '',
      APIGW_DECISION_LISTEN: `unix:${join(own, 'decision.sock')}`,
      APIGW_MANAGEMENT_LISTEN: `unix:${join(own, 'management.sock')}`,
      ...environment,
      ...env,
    });
    await until(
      'the gateway is ready',
      () => {
        if (gateway.child.exitCode !== null) throw new Error(`the gateway ended: ${gateway.output()}`);
        return gateway.output().includes('"msg":"ready"');
      },
      60_000,
    );
    return gateway;
  }

  const gateways = [await start(0, { API_KEY_CREATE: 'true' })];
  gateways.push(...(await Promise.all(urls.slice(1).map((_, index) => start(index + 1)))));
  const at = (index: number) => {
    const gateway = gateways[index];
    if (!gateway) throw new Error(`there is no gateway ${index}`);
    return gateway;
  };
  return {
    socketDirs: dirs.join(' '),
    all: () => gateways,
    at,
    async restart(index) {
      gateways[index] = await start(index);
    },
    everybodySays: async (key, status) =>
      (await Promise.all(gateways.map((gateway) => gateway.decide(key)))).every((one) => one === status),
    async stop() {
      await Promise.all(gateways.map((gateway) => stopGateway(gateway)));
    },
  };
}
