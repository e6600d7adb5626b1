import { startGateway, type Gateway, type Surroundings } from './app.ts';
import { ConfigError, readConfig, type Config } from './config.ts';
import { nameOfDatabase } from './database-address.ts';
import { createLog, type Logger } from './log.ts';
import { readVersion } from './version.ts';
import { connectPeers, sendToPrimary } from './workers/peers.ts';
import type { Tracing } from './tracing.ts';
import type { TraceConfig } from './trace-settings.ts';
import type { Workers } from './workers/primary.ts';

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

async function start(config: Config, log: Logger, surroundings: Surroundings): Promise<Gateway> {
  const gateway = await startGateway(config, log, surroundings);
  if (config.createApiKey) await bootstrap(gateway, config);
  await warnOfBootstrapKeys(gateway, log);
  return gateway;
}

/** Stops at the first signal. The second one ends a lone process or a primary at once; a worker may get it from both. */
function stopOnSignal(
  close: () => Promise<void>,
  log: Logger,
  stopOnFault: (error: unknown) => void,
  isWorker = false,
) {
  let isStopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (isStopping && !isWorker) process.exit(1);
      if (isStopping) return;
      isStopping = true;
      if (!isWorker) log.info({ signal }, 'stopping');
      close().then(() => {
        if (!isWorker) log.info('stopped');
        process.exit(0);
      }, stopOnFault);
    });
  }
}

/** One of several: the first makes the bootstrap key, and the primary says when all are ready. */
async function runWorker(
  config: Config,
  id: number,
  log: Logger,
  tracing: Tracing | undefined,
  stopOnFault: (error: unknown) => void,
) {
  const surroundings = { peers: connectPeers(), tracing };
  const starting = id === 1 ? start(config, log, surroundings) : startGateway(config, log, surroundings);
  stopOnSignal(async () => (await starting).close(), log, stopOnFault, true);
  const { decisionAddress, managementAddress } = await starting;
  sendToPrimary({ type: 'started', addresses: { decisionAddress, managementAddress } });
}

/** Loaded only when it is wanted: it is larger than all the rest. */
async function trace(config: TraceConfig, log: () => Logger): Promise<Tracing> {
  const { startTracing } = await import('./tracing.ts');
  return startTracing({
    config,
    version: readVersion(),
    onLost: (why) => {
      log().warn({ cause: why }, 'traces are lost; decisions are not affected');
    },
  });
}

async function run(): Promise<void> {
  const config = configure();
  process.stdout.on('error', () => undefined);
  // one process alone has nothing to do with node:cluster
  const { worker } = config.workers === 1 ? {} : (await import('node:cluster')).default;
  const isDeciding = worker !== undefined || config.workers === 1;
  const tracing = config.traces && isDeciding ? await trace(config.traces, () => log) : undefined;
  const commonLog = createLog(config.logLevel, undefined, tracing?.logFields);
  const log = worker ? commonLog.child({ worker: worker.id }) : commonLog;
  const stopOnFault = (error: unknown) => {
    log.fatal({ err: error }, 'a fault in the program');
    process.exit(1);
  };
  process.on('uncaughtException', stopOnFault);
  process.on('unhandledRejection', stopOnFault);
  const giveUp = (error: unknown): never => {
    log.fatal((error as Error).message);
    process.exit(1);
  };

  if (worker) {
    await runWorker(config, worker.id, log, tracing, stopOnFault).catch(giveUp);
    return;
  }
  const starting = (config.workers === 1 ? start(config, log, { tracing }) : startAll(config, log)).catch(giveUp);
  // from the first decision on, which is before the end of the start
  stopOnSignal(async () => (await starting).close(), log, stopOnFault);
  const gateway = await starting;
  log.info(
    {
      version: readVersion(),
      node: process.versions.node,
      database: nameOfDatabase(config.database),
      workers: config.workers,
      decision: gateway.decisionAddress,
      management: gateway.managementAddress,
    },
    'ready',
  );
}

async function startAll(config: Config, log: Logger): Promise<Workers> {
  const { startWorkers, WorkerFailed } = await import('./workers/primary.ts');
  return startWorkers(config, log).catch((error: unknown) => {
    // the worker has said why
    if (error instanceof WorkerFailed) process.exit(error.exitCode);
    throw error;
  });
}

await run();
