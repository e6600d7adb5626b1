import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, type Environment } from '../config.ts';
import { packageRoot as root } from '../package-root.ts';
import { readLocalSettings, type LocalSettings } from './settings.ts';
import { startStack, type Stack } from './stack.ts';

/**
 * Runs the product on this machine until it is told to stop (SIGINT, SIGTERM, SIGHUP).
 *
 * @returns the exit code
 */
export async function up(env: Environment): Promise<number> {
  // the terminal may be gone, or the disk that takes our output full: the gate stays up
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const stopSignal = nextStopSignal(env);
  try {
    const settings = readLocalSettings(env, root, process.getuid?.() === 0);
    const starting = startStack({ root, settings, env, output: process.stdout });
    process.on('SIGUSR2', () => void starting.then(reload, () => undefined));
    const stack = await starting;
    welcome(settings, stack.logDir);
    await stopSignal;
    say('stopping');
    await stack.stop();
    say('stopped');
    return 0;
  } catch (error) {
    const problems = error instanceof ConfigError ? error.problems : [(error as Error).message];
    for (const problem of problems) process.stderr.write(`apigw: ${problem}\n`);
    return 1;
  }
}

/** Resolves when we are told to stop, or when npm, which would tell us, has been killed. */
function nextStopSignal(env: Environment): Promise<void> {
  const parent = process.ppid;
  return new Promise((resolve) => {
    const stop = () => {
      resolve();
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
    if (env['npm_lifecycle_event'] === undefined) return;
    setInterval(() => {
      if (process.ppid !== parent) stop();
    }, 500).unref();
  });
}

/** Leaves what came of it in a file of its own, for `npm run reload`. */
async function reload(stack: Stack): Promise<void> {
  const result = await stack.reload().then(
    (said) => ({ isInUse: true, said: said.trim() }),
    (error: unknown) => ({ isInUse: false, said: (error as Error).message }),
  );
  say(result.said);
  const file = join(stack.runDir, 'reloaded');
  writeFileSync(`${file}.new`, JSON.stringify(result));
  renameSync(`${file}.new`, file);
}

function welcome({ httpsPort, appUpstream, gatewayEnv }: LocalSettings, logDir: string): void {
  const url = `https://localhost${httpsPort === 443 ? '' : `:${httpsPort}`}/`;
  const isKeyCreated = gatewayEnv['API_KEY_CREATE']?.toLowerCase() === 'true';
  say(`${url} is up, in front of ${appUpstream ?? 'the demonstration application'}`);
  say(`nginx logs to ${logDir}`);
  if (isKeyCreated) {
    say('try it, with the key that is printed above:');
    say(`  curl -k --header 'Authorization: apk <key>' ${url}`);
  } else {
    say('try it; without a key the answer is 401:');
    say(`  curl -k ${url}`);
    say('a first key: stop, then start with API_KEY_CREATE=true npm run up');
  }
  say('Ctrl-C stops everything');
}

function say(message: string): void {
  process.stdout.write(`apigw: ${message}\n`);
}
