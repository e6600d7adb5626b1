import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { createTokenVerifier } from './auth/access-token.ts';
import { createAuthenticator, type ClientRecord, type KeyRecord } from './auth/authenticator.ts';
import { countDecisions } from './auth/decision-counts.ts';
import { createDenials, type Denial } from './auth/denials.ts';
import { createRateLimiter, limitDecisions } from './auth/rate-limit.ts';
import { createPolicyCompiler, type CompilePolicy, type Policy } from './auth/policy.ts';
import { firstClient, StoreUnavailable, type ClientStore } from './clients/client-store.ts';
import { createApiClients, type ApiClients } from './clients/api-clients.ts';
import { createApiKeys } from './clients/api-keys.ts';
import { keepRetention } from './clients/audit-retention.ts';
import { createClientDirectory } from './clients/client-directory.ts';
import { createDeclarations } from './clients/declarations.ts';
import { createGateways, joinGateways } from './clients/gateways.ts';
import { createUsage } from './clients/usage.ts';
import type { Config, ListenAddress } from './config.ts';
import { createDecisionCache } from './http/decision-cache.ts';
import { createDecisionHandler } from './http/decision-listener.ts';
import { createDecisionServer } from './http/decision-server.ts';
import { createFrontDoorCertificate } from './http/front-door-certificate.ts';
import { createHttpServer, listen, type ClosableServer, type Listener } from './http/listener.ts';
import type { FindDenial } from './http/decision-routes.ts';
import { createDenialReporter } from './http/report-denial.ts';
import type { Logger } from './log.ts';
import { aggregate, createCounts, createGatewayMetrics, createMetrics, write } from './metrics.ts';
import { fetchDocument } from './oidc/fetch-document.ts';
import { loadClient } from './oidc/issuer.ts';
import { createIssuers } from './oidc/issuers.ts';
import { followChanges } from './store/change-feed.ts';
import type { Database } from './store/database.ts';
import { createGatewayStore } from './store/gateways.ts';
import { inBatches } from './store/in-batches.ts';
import { expectUndamaged, keepCopyBeforeUpgrade, openStore } from './store/open-store.ts';
import type { Tracing } from './tracing.ts';
import { readVersion } from './version.ts';
import type { Peers } from './workers/peers.ts';

export interface Gateway {
  readonly decisionAddress: string;
  readonly managementAddress: string;
  readonly clients: ApiClients;
  readonly store: ClientStore;
  /** Answers what is under way, then closes everything. */
  close(): Promise<void>;
}

/** What a process has that is not alone, or not unwatched. */
export interface Surroundings {
  readonly peers?: Peers | undefined;
  readonly tracing?: Tracing | undefined;
}

/**
 * Composes the gateway and starts it. Whatever has been opened is closed again when a later step fails.
 *
 * @throws {Error} whose message says what cannot be opened or listened on
 */
export async function startGateway(config: Config, log: Logger, surroundings: Surroundings = {}): Promise<Gateway> {
  const opened: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const step of opened.splice(0).reverse()) await step();
  };
  try {
    return { ...(await start(config, log, opened, surroundings)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function start(
  config: Config,
  log: Logger,
  opened: (() => Promise<void>)[],
  { peers, tracing }: Surroundings,
): Promise<Omit<Gateway, 'close'>> {
  const now = Date.now;
  const monotonicNow = () => performance.now();
  const counts = createCounts();

  // last, when nothing is left to be traced
  if (tracing) opened.push(tracing.close);
  await keepCopyBeforeUpgrade(config.database);
  const { database, store } = await openStore(config.database, counts.store);
  opened.push(() => database.close());
  if (typeof config.database === 'string') opened.push(await lookForDamage(database, config.database, log));
  const directory = createClientDirectory({ store, monotonicNow, counts: counts.clients });
  const decisionCache = createDecisionCache({
    directory: voucherDirectory(config.decisionListen),
    isEnabled: !peers,
    now,
    monotonicNow,
    log,
  });
  // keys without a checksum are looked for only when there is one: asked again with every change until then
  let hasImportedKeys = await store.hasImportedKeys();
  const lookForImportedKeys = inBatches(async () => {
    hasImportedKeys ||= await store.hasImportedKeys().catch(() => false);
    return () => hasImportedKeys;
  });
  const onChange = (id: number) => {
    // what is decided from now on is decided on the new state; what nginx has kept from before goes with its voucher
    directory.forget(id);
    decisionCache.withdraw(id);
    if (!hasImportedKeys) void lookForImportedKeys(id);
  };
  let confirmedAt = monotonicNow();
  // nobody is told before this gateway is known
  let tellFollowed = (): void => undefined;
  const feed = await followChanges({
    database,
    monotonicNow,
    onChange,
    onReset: () => {
      directory.forgetAll();
      decisionCache.withdrawAll();
    },
    onConfirmed: (at) => {
      confirmedAt = at;
      directory.confirm(at);
      decisionCache.followClock();
    },
    onFollowed: () => {
      tellFollowed();
    },
    onLost: (cause) => {
      decisionCache.suspend();
      log.error({ err: cause }, `the database does not answer; ${withoutFeed}`);
    },
    onRecovered: () => {
      decisionCache.resume();
      log.info('the database answers again');
    },
  });
  opened.push(() => feed.stop());
  const gatewayStore = createGatewayStore(database);
  const self = { id: randomUUID(), name: `${hostname()}/${process.pid}` };
  const membership = await joinGateways({
    ...self,
    store: gatewayStore,
    revision: feed.revision,
    onFault: (error) => {
      log.warn({ err: error }, 'which changes have been followed here cannot be told to whoever waits for it');
    },
  });
  tellFollowed = membership.follow;
  opened.push(membership.leave);

  const denials = createDenials();
  const reportDenial = createDenialReporter({ log, denials, now });
  const issuers = createIssuers({
    monotonicNow,
    onFailure: (discovery, message) => {
      log.error({ discovery }, `issuer: ${message}`);
    },
    onLoaded: (discovery, issuer, keys) => {
      if (keys > 0) log.info({ discovery, issuer, keys }, 'the keys of the issuer are here');
      else log.warn({ discovery, issuer }, 'the issuer has no key that can be used, so none of its tokens is accepted');
    },
    onKeysChanged: decisionCache.withdrawTokens,
    times: { staleLimit: config.staleKeysLifetime },
    fetchDocument: tracing?.fetches(fetchDocument),
  });
  const metrics = createMetrics(counts, {
    feedLag: () => monotonicNow() - confirmedAt,
    isNotified: feed.isNotified,
    issuers: issuers.statuses,
  });
  const gatewayMetrics = createGatewayMetrics({
    bootstrapKeys: () => countBootstrapKeys(store, now()),
    certificateDaysLeft:
      config.frontDoor &&
      createFrontDoorCertificate({
        ...config.frontDoor,
        now,
        monotonicNow,
        onFault: (error) => {
          log.warn({ err: error }, 'APIGW_FRONT_DOOR: the certificate that clients are given cannot be read');
        },
      }),
    version: readVersion(),
  });
  const readMetrics = async () => {
    const others = peers ? await peers.ask({ about: 'metrics' }) : [];
    return others ? write([await aggregate(metrics, others), gatewayMetrics]) : null;
  };

  peers?.join((question) => {
    if (question.about === 'metrics') return metrics.getMetricsAsJSON();
    if (question.about === 'denial') return denials.find(question.requestId);
    onChange(question.id);
    return null;
  });
  /** Before the change is acknowledged, no worker may grant by what was true before it. */
  const forgetEverywhere = async (id: number): Promise<void> => {
    onChange(id);
    // it is stored, but whether every worker knows of it is not certain: that is not acknowledged
    if (peers && !(await peers.ask({ about: 'client', id })))
      throw new StoreUnavailable('the other workers have not been heard of');
  };
  const findDenial: FindDenial = async (requestId) => {
    const known = denials.find(requestId);
    if (known || !peers) return known;
    const answers = (await peers.ask({ about: 'denial', requestId })) ?? [];
    return (answers as (Denial | null)[]).find((answer) => answer !== null) ?? undefined;
  };
  const usage = createUsage({
    store,
    onFault: (error) => {
      log.warn({ err: error }, 'times of last use could not be stored; they will be with the next ones');
    },
  });
  opened.push(usage.close);
  if (config.auditRetention !== null) {
    const stopPruning = keepRetention({
      store,
      retention: config.auditRetention,
      now,
      onPruned: (events) => {
        log.info({ events }, 'audit events were older than they are kept, and are removed');
      },
      onFault: (error) => {
        log.warn({ err: error }, 'audit events could not be removed; they will be with the next ones');
      },
    });
    opened.push(stopPruning);
  }
  const domain = {
    store,
    now,
    onChange: async (id: number) => {
      if (peers) await forgetEverywhere(id);
      else onChange(id);
      await lookForImportedKeys(id);
    },
  };
  const clients = createApiClients({ ...domain, flushUses: usage.flush });
  const recordFirstUse = createFirstUseRecorder(store, log);
  const compilePolicy = createPolicyCompiler({
    allowInsecureHttp: config.allowInsecureHttp,
    onCompiled: ({ openIdConnectEnabled, tokens, problems }) => {
      for (const problem of problems) log.error(`default.conf: ${problem}`);
      if (!openIdConnectEnabled || !tokens) return;
      if (!tokens.audiences)
        log.warn('default.conf: $oidc_audience is any: tokens that are meant for others are accepted');
      if (!tokens.issuer.verifyCertificate)
        log.warn("default.conf: $oidc_ssl_verify is off: the issuer's certificate is not verified");
      issuers.find(tokens.issuer).warmUp();
    },
  });
  const verifyToken = createTokenVerifier({ findKeys: issuers.find, now, counts: counts.tokens });
  const authenticator = (onUsed: (at: number, client: ClientRecord, key: KeyRecord | undefined) => void) =>
    createAuthenticator({
      findClient: tracing?.lookups(directory.find) ?? directory.find,
      findClientByApiClientId: tracing?.lookups(directory.findByApiClientId) ?? directory.findByApiClientId,
      verifyToken: tracing?.verifications(verifyToken) ?? verifyToken,
      hasImportedKeys: () => hasImportedKeys,
      now,
      onUsed,
    });
  const authenticate = authenticator((at, client, key) => {
    usage.note(at, client, key);
    if (key) recordFirstUse(at, key);
  });
  const limited = limitDecisions(authenticate, createRateLimiter(monotonicNow), (error) => {
    log.error({ err: error }, 'a limit could not be evaluated, and nobody was limited by it');
  });
  const counted = countDecisions(limited, counts.decisions);
  const answer = createDecisionHandler({
    authenticate: tracing?.decisions(counted) ?? counted,
    compilePolicy,
    log,
    reportDenial,
    logGrantedEvery: config.logGrantedEvery,
    cacheUntil: decisionCache.cacheUntil,
  });
  const describeIssuers = ({ problems }: Policy): object | undefined => {
    const statuses = issuers.statuses();
    if (problems.length === 0 && statuses.length === 0) return undefined;
    return { ...(problems.length > 0 && { problems }), issuers: statuses };
  };
  const describeFeed = () => {
    const lag = monotonicNow() - confirmedAt;
    return lag <= followedWithin ? undefined : `not followed for ${Math.round(lag / 1_000)} s: ${withoutFeed}`;
  };
  const readinessChecks = {
    store: async () => {
      await store.list(firstClient).catch(() => {
        throw new Error('the database does not answer; the log says why');
      });
    },
  };
  const listeners: Listener[] = [];
  opened.push(async () => {
    await Promise.all(listeners.map((listener) => listener.close()));
  });
  // before the listeners, which finish what is under way: nothing of that is kept
  opened.push(() => {
    decisionCache.close();
    return Promise.resolve();
  });
  const open = async (address: ListenAddress, server: ClosableServer) => {
    const listener = await listen(address, server, peers !== undefined);
    listeners.push(listener);
    return listener.address;
  };
  const decisionServer = createDecisionServer(tracing?.answers(answer) ?? answer, counts.server);
  const decisionAddress = await open(config.decisionListen, decisionServer);
  // half of the program, for which no decision waits; a start fails when it cannot be loaded
  const [{ createManagementApp }] = await Promise.all([import('./http/management-app.ts'), loadClient()]);
  const management = createManagementApp({
    authenticate,
    isBehindNginx: config.managementListen.kind === 'unix',
    compilePolicy: config.managementListen.kind === 'unix' ? compilePolicy : withoutIssuers(compilePolicy),
    api: {
      clients,
      keys: createApiKeys(domain),
      declarations: createDeclarations(domain),
      gateways: createGateways(gatewayStore, self.id),
      store,
      examine: authenticator(() => undefined),
      findDenial,
      now,
    },
    readinessChecks,
    describeIssuers,
    describeFeed,
    readMetrics,
    reportDenial,
    traceCall: tracing?.calls,
    countCall: counts.management.count,
    log,
  });

  const handleManagement = management.callback();
  const managementAddress = await open(
    config.managementListen,
    createHttpServer((request, response) => {
      void handleManagement(request, response);
    }),
  );
  return { clients, store, decisionAddress, managementAddress };
}

/** Milliseconds within which every gateway knows of a change. */
const followedWithin = 1_000;
const withoutFeed = 'API clients are remembered for 5 s at most';

/** Beside the socket, where nginx looks for it; over TCP nginx may be on another machine. */
function voucherDirectory(address: ListenAddress): string | undefined {
  return address.kind === 'unix' ? join(dirname(address.path), 'decision-cache') : undefined;
}

/**
 * Whoever reaches a TCP port could name an issuer of his own, and with it be any client. A Unix socket is reached by
 * nginx alone, so only there the policy's issuers count.
 */
function withoutIssuers(compilePolicy: CompilePolicy): CompilePolicy {
  return (source) => compilePolicy({ ...source, open_id_connect_enabled: 'off' });
}

/** Undefined when the database cannot say. */
async function countBootstrapKeys(store: ClientStore, now: number): Promise<number | undefined> {
  const keys = await store.liveBootstrapKeys(now).catch(() => undefined);
  return keys?.filter(({ revokedAt }) => revokedAt === null).length;
}

/** A bootstrap key that was never used goes when the next one is made, so its first use is kept; once, off the path. */
function createFirstUseRecorder(store: ClientStore, log: Logger): (at: number, key: KeyRecord) => void {
  const recorded = new Set<number>();
  return (at, { id, isUnusedBootstrap }) => {
    if (!isUnusedBootstrap || recorded.has(id)) return;
    recorded.add(id);
    store.markKeyUsed(id, at).catch((error: unknown) => {
      recorded.delete(id);
      log.warn({ err: error }, 'the first use of a bootstrap key could not be stored');
    });
  };
}

/** Bytes of a file that is read within a fraction of a second. */
const smallFile = 64 * 1024 * 1024;

/**
 * A start with a damaged file is refused. A large file is looked at while the gateway decides already.
 *
 * @returns resolves when that has come to an end
 * @throws {Error}
 */
async function lookForDamage(database: Database, file: string, log: Logger): Promise<() => Promise<void>> {
  const looking = expectUndamaged(database, file);
  if (statSync(file).size <= smallFile) await looking;
  const end = looking.catch((error: unknown) => {
    log.error({ err: error }, 'the database is damaged');
  });
  return () => end;
}
