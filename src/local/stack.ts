import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { request as httpRequest, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { createHttpServer, listen } from '../http/listener.ts';
import { chooseCacheDir, removeCacheDir } from './cache-dir.ts';
import { startChild, type Child } from './child.ts';
import { demoApp } from './demo-app.ts';
import type { LocalSettings } from './settings.ts';
import type { Environment } from '../config.ts';
import { claimStateDir } from './state-dir.ts';

export interface StackOptions {
  /** The repository: the shipped nginx files and the built gateway are read from here. */
  readonly root: string;
  readonly settings: LocalSettings;
  /** The environment, of which child processes get what is not a setting of ours. */
  readonly env: Environment;
  /** Receives what the processes print. */
  readonly output: Writable;
}

/**
 * How the gateway is started everywhere: young objects take 6 MB at most, where Node would let them take 48, and old ones
 * are collected when they have grown by a fifth, where Node may wait until they are four times as much.
 */
export function gatewayCommand(root: string): [command: string, ...args: string[]] {
  return [process.execPath, '--max-semi-space-size=2', '--heap-growing-percent=20', join(root, 'dist/main.js')];
}

/** Gateway, application and nginx, running on this machine. */
export interface Stack {
  readonly gateway: Child;
  readonly nginx: Child;
  readonly runDir: string;
  readonly logDir: string;
  /** Of nginx's decision cache; there only when a server has one. */
  readonly cacheDir: string;
  /**
   * Has nginx read its configuration again. What is under way goes on as it began.
   *
   * @returns what there is to say about it
   * @throws {Error} whose message says what is wrong with the configuration; the old one then stays in use
   */
  readonly reload: () => Promise<string>;
  readonly stop: () => Promise<void>;
}

const runFile = promisify(execFile);

/**
 * Starts everything in order and resolves when the front door answers. When a step fails, what was started is stopped.
 *
 * @throws {Error} whose message names what is wrong
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const started: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    for (const step of started.splice(0).reverse()) await step();
  };
  try {
    return { ...(await start(options, started)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(
  { root, settings, env, output }: StackOptions,
  started: (() => Promise<void> | void)[],
): Promise<Omit<Stack, 'stop'>> {
  const { stateDir, configDir, httpPort, httpsPort } = settings;
  if (configDir !== undefined && !statSync(configDir, { throwIfNoEntry: false })?.isDirectory())
    throw new Error(`APIGW_CONFIG_DIR: ${configDir} does not exist, or is no directory.`);
  await expectFreePort('APIGW_HTTP_PORT', httpPort);
  await expectFreePort('APIGW_HTTPS_PORT', httpsPort);
  const state = claimStateDir(stateDir, settings.runParent);
  started.push(state.release);
  const { runDir } = state;
  const logDir = join(stateDir, 'logs');
  const prefix = join(runDir, 'nginx');
  const cacheDir = settings.cacheDir ?? chooseCacheDir(prefix, runDir, stateDir);
  started.push(() => {
    removeCacheDir(cacheDir);
  });

  const baseEnv = withoutSettings(env);
  const nginxEnv = {
    ...baseEnv,
    ...settings.stagingEnv,
    APIGW_PREFIX: prefix,
    APIGW_TLS_DIR: join(stateDir, 'tls'),
    APIGW_SOCKET_DIR: runDir,
    APIGW_LOG_DIR: logDir,
    APIGW_CACHE_DIR: cacheDir,
    APIGW_APP_UPSTREAM: settings.appUpstream ?? `unix:${join(runDir, 'app.sock')}`,
    APIGW_HTTP_PORT: String(httpPort),
    APIGW_HTTPS_PORT: String(httpsPort),
    APIGW_NGINX: settings.nginx,
    ...(configDir !== undefined && { APIGW_CONFIG_DIR: configDir }),
  };
  const script = (name: string) => runScript(join(root, 'nginx', name), nginxEnv);
  output.write(await script('stage.sh'));
  output.write(
    await script('check.sh').catch((error: unknown) => {
      throw new Error(`nginx refuses the configuration:\n${(error as Error).message}`, { cause: error });
    }),
  );

  if (settings.appUpstream === undefined) {
    const app = await listen({ kind: 'unix', path: join(runDir, 'app.sock') }, createHttpServer(demoApp));
    started.push(app.close);
  }

  const gatewayEnv = {
    ...baseEnv,
    APIGW_FRONT_DOOR: `127.0.0.1:${httpsPort}`,
    ...settings.gatewayEnv,
    APIGW_DECISION_LISTEN: `unix:${join(runDir, 'decision.sock')}`,
    APIGW_MANAGEMENT_LISTEN: `unix:${join(runDir, 'management.sock')}`,
  };
  const gateway = startChild({
    name: 'the gateway',
    command: gatewayCommand(root),
    env: gatewayEnv,
    // a gateway that had to be started again was not asked for another key
    restartEnv: { ...gatewayEnv, API_KEY_CREATE: 'false' },
    output,
    stopWith: [['SIGTERM', 10_000]],
  });
  started.push(gateway.stop);
  const management = { socketPath: join(runDir, 'management.sock'), path: '/readyz' };
  await untilReady(gateway, 'the gateway', () => answers(management, httpRequest), 30_000);
  gateway.keepRunning();

  const nginx = startChild({
    name: 'nginx',
    command: [settings.nginx, '-p', prefix, '-e', 'logs/error.log', '-c', 'current/nginx.conf', '-g', 'daemon off;'],
    env: baseEnv,
    output,
    // QUIT finishes what is under way; connections that stay open, such as a WebSocket, are then cut
    stopWith: [
      ['SIGQUIT', 2_000],
      ['SIGTERM', 2_000],
    ],
  });
  started.push(nginx.stop);
  await untilReady(
    nginx,
    `nginx on port ${httpsPort} (does default.conf include runtime/listen-https.conf?)`,
    () => accepts(httpsPort),
    10_000,
  );
  nginx.keepRunning();
  // whatever it says: the gateway has then seen the policy of the first server, and logs what is wrong with it
  const readyz = { host: '127.0.0.1', port: httpsPort, path: '/readyz', rejectUnauthorized: false };
  await answers(readyz, httpsRequest);
  return { gateway, nginx, runDir, logDir, cacheDir, reload: () => script('reload.sh') };
}

/** Each process gets our settings by name, and only those that are its own. */
function withoutSettings(env: Environment): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => !/^(?:APIGW_|API_KEY_|OIDC_|DATABASE_(?:URL|PASSWORD))/.test(name)),
  );
}

/**
 * @returns what the script prints
 * @throws {Error} whose message is what the script says is wrong
 */
async function runScript(script: string, env: NodeJS.ProcessEnv): Promise<string> {
  try {
    const { stdout, stderr } = await runFile('sh', [script], { env });
    return stdout + stderr;
  } catch (error) {
    throw new Error((error as { stderr: string }).stderr.trim().replace(/^proxy: /gm, ''), { cause: error });
  }
}

async function expectFreePort(setting: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const probe = createServer();
    probe.once('error', ({ code, message }: NodeJS.ErrnoException) => {
      const why: Record<string, string> = { EADDRINUSE: 'is in use', EACCES: 'may only be used by root' };
      reject(new Error(`Port ${port} ${why[code ?? ''] ?? message}. Set ${setting} to another.`));
    });
    // all addresses of both families, as nginx will listen
    probe.listen(port, () => {
      probe.close(() => {
        resolve();
      });
    });
  });
}

/** Asks again and again until the answer is yes, or the process has ended. Patience in milliseconds. */
async function untilReady(
  { failed }: Child,
  name: string,
  isReady: () => Promise<boolean>,
  patience: number,
): Promise<void> {
  const deadline = performance.now() + patience;
  while (!(await Promise.race([failed, isReady()]))) {
    if (performance.now() > deadline) throw new Error(`${name} does not answer after ${patience / 1000} s.`);
    await delay(25);
  }
}

/** Whether somebody listens; what the operator's first server says to a request is its own affair. */
function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    for (const [event, isAccepted] of [
      ['connect', true],
      ['error', false],
    ] as const) {
      socket.once(event, () => {
        socket.destroy();
        resolve(isAccepted);
      });
    }
  });
}

function answers(target: RequestOptions, send: typeof httpRequest): Promise<boolean> {
  return new Promise((resolve) => {
    const request = send({ ...target, agent: false, timeout: 1_000 }, (response) => {
      response.resume();
      resolve((response.statusCode ?? 500) < 500);
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => {
      resolve(false);
    });
    request.end();
  });
}
