#!/usr/bin/env node
import { chmodSync, createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { ConfigError, readConfig, type Config, type ListenAddress } from '../config.ts';

// The commands import what they need by themselves: health is asked every few seconds.

/** Milliseconds. */
const healthPatience = 3_000;

const program = new Command('apigw')
  .description('The command line of the gateway. It reads the same environment as the gateway.')
  .showHelpAfterError();

program
  .command('health')
  .description('exit with 0 when the gateway can decide, else with 1 and the reason')
  .action(async () => {
    const { status, body } = await askReadiness(configure().managementListen);
    say(body.trim());
    if (status !== 200) process.exitCode = 1;
  });

program
  .command('bootstrap-key')
  .description("make an administrator's key that expires, and print it to this terminal")
  .action(async () => {
    const { createApiClients } = await import('../clients/api-clients.ts');
    const { openStore } = await import('../store/open-store.ts');
    const { databaseFile, bootstrapKeyLifetime } = configure();
    const { database, store } = await openStore(databaseFile);
    try {
      const clients = createApiClients({
        store,
        now: Date.now,
        onChange: () => undefined,
        flushUses: () => Promise.resolve(),
      });
      process.stdout.write(`${await clients.bootstrap(bootstrapKeyLifetime)}\n`);
    } finally {
      await database.close();
    }
  });

program
  .command('backup')
  .description('write a copy of the database, as it is now, to standard output; the gateway may run')
  .action(async () => {
    if (process.stdout.isTTY) throw new Error('A backup is no text. Send it to a file: apigw backup > apigw-backup.db');
    const { backUp } = await import('../store/backup.ts');
    await withTemporary(configure(), async (file, { databaseFile }) => {
      await backUp(databaseFile, file);
      await pipeline(createReadStream(file), process.stdout);
    });
  });

program
  .command('restore')
  .description('put the copy on standard input in place of the database; the gateway must not run')
  .action(async () => {
    const { restore } = await import('../store/backup.ts');
    await withTemporary(configure(), async (file, { databaseFile, managementListen }) => {
      if (await isAnswered(managementListen)) throw new Error('The gateway is running. Stop it, then restore.');
      await pipeline(process.stdin, createWriteStream(file, { mode: 0o600 }));
      const { clients, kept } = await restore(file, databaseFile, new Date()).catch((error: unknown) => {
        throw new Error(`This backup is not restored. ${(error as Error).message} Nothing has been changed.`, {
          cause: error,
        });
      });
      const before = kept === undefined ? '' : `; the one from before is ${kept}`;
      say(`restored a database with ${clients} API clients${before}`);
    });
  });

program
  .command('demo-app')
  .description('the demonstration application, on port 8000')
  .action(async () => {
    const { createHttpServer, listen } = await import('../http/listener.ts');
    const { demoApp } = await import('../local/demo-app.ts');
    const app = await listen({ kind: 'tcp', host: '0.0.0.0', port: 8_000 }, createHttpServer(demoApp));
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => void app.close().then(() => process.exit(0)));
    }
    say(`the demonstration application listens on ${app.address}`);
  });

function configure(): Config {
  // eslint-disable-next-line no-restricted-properties -- an entry point
  return readConfig(process.env);
}

function say(message: string): void {
  process.stderr.write(`${message}\n`);
}

/** Gives a file name beside the database, where there is room for a copy, and removes the file afterwards. */
async function withTemporary(config: Config, work: (file: string, config: Config) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(dirname(config.databaseFile), '.copy-'));
  chmodSync(folder, 0o700);
  try {
    await work(join(folder, 'apigw.db'), config);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function askReadiness(address: ListenAddress): Promise<{ status: number; body: string }> {
  const target = address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port };
  return new Promise((resolve, reject) => {
    const call = request({ ...target, path: '/readyz', agent: false, timeout: healthPatience }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('error', reject);
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body });
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${healthPatience / 1000} s`)));
    call.on('error', (error) => {
      reject(new Error(`The gateway does not answer: ${error.message}`, { cause: error }));
    });
    call.end();
  });
}

async function isAnswered(address: ListenAddress): Promise<boolean> {
  return askReadiness(address).then(
    () => true,
    () => false,
  );
}

try {
  await program.parseAsync();
} catch (error) {
  const problems = error instanceof ConfigError ? error.problems : [(error as Error).message];
  for (const problem of problems) say(`apigw: ${problem}`);
  process.exitCode = 1;
}
