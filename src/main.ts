import { readFileSync } from 'node:fs';
import { startGateway, type Gateway } from './app.ts';
import { ConfigError, readConfig, type Config } from './config.ts';
import { createLog, type Logger } from './log.ts';

/** sysexits.h: EX_CONFIG. A supervisor need not try the same environment again. */
const exitConfig = 78;

function configure(): Config {
  try {
    // eslint-disable-next-line no-restricted-properties -- the entry point
    return readConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) process.stderr.write(`apigw: ${problem}\n`);
    process.exit(exitConfig);
  }
}

/** Once, on standard output and in no log record: a plain line, as scripts look for it. */
async function bootstrap({ clients }: Gateway, { bootstrapKeyLifetime }: Config): Promise<void> {
  const token = await clients.bootstrap(bootstrapKeyLifetime);
  process.stdout.write(`NEWLY GENERATED API KEY: ${token}\n`);
}

async function warnOfBootstrapKeys({ store }: Gateway, log: Logger): Promise<void> {
  for (const { clientId, expiresAt } of await store.liveBootstrapKeys(Date.now())) {
    log.warn(
      { client_id: clientId, expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString() },
      'a bootstrap key is alive: create an API client of your own with it, then delete this one',
    );
  }
}

function readVersion(): string {
  const file = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(file) as { version: string }).version;
}

async function start(config: Config, log: Logger): Promise<Gateway> {
  const gateway = await startGateway(config, log);
  if (config.createApiKey) await bootstrap(gateway, config);
  await warnOfBootstrapKeys(gateway, log);
  return gateway;
}

async function run(): Promise<void> {
  const config = configure();
  process.stdout.on('error', () => undefined);
  const log = createLog(config.logLevel);
  const stopOnFault = (error: unknown) => {
    log.fatal({ err: error }, 'a fault in the program');
    process.exit(1);
  };
  process.on('uncaughtException', stopOnFault);
  process.on('unhandledRejection', stopOnFault);

  const gateway = await start(config, log).catch((error: unknown) => {
    log.fatal((error as Error).message);
    process.exit(1);
  });
  let isStopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (isStopping) process.exit(1);
      isStopping = true;
      log.info({ signal }, 'stopping');
      gateway.close().then(() => {
        log.info('stopped');
        process.exit(0);
      }, stopOnFault);
    });
  }
  log.info(
    {
      version: readVersion(),
      node: process.versions.node,
      database: config.databaseFile,
      decision: gateway.decisionAddress,
      management: gateway.managementAddress,
    },
    'ready',
  );
}

await run();
