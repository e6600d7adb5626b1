import { chmodSync, createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import type { Actor } from '../../clients/api-client.ts';
import { backUp, recordDone, restore } from '../../store/backup.ts';
import type { Config } from '../../config.ts';
import { openOperatorApi, operatorName } from '../../operator.ts';
import { askListener, configure, expectLocal } from '../connection.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import { createOutput } from '../output.ts';

const { note, line } = createOutput('table');

/** What is done to the database of this machine, never over the management API. */
export function addDatabase(program: Command): void {
  program
    .command('bootstrap')
    .alias('bootstrap-key')
    .description(
      "make an administrator's key that expires, and print it to this terminal alone: first start, or all keys lost",
    )
    .action(async (_: unknown, command: Command) => {
      expectLocal(command);
      const config = configure();
      const api = await openOperatorApi(config, () => Promise.resolve(undefined));
      try {
        line(await api.clients.bootstrap(config.bootstrapKeyLifetime, operator()));
      } finally {
        await api.close();
      }
    });

  program
    .command('backup')
    .description('write a copy of the database, as it is now, to standard output; the gateway may run')
    .action(async (_: unknown, command: Command) => {
      expectLocal(command);
      if (process.stdout.isTTY)
        throw new CliError('A backup is no text. Send it to a file: apigw backup > apigw-backup.db', exitCodes.usage);
      await withTemporary(configure(), async (file, { databaseFile }) => {
        await backUp(databaseFile, file);
        // before it is anybody's; the copy matters more than its event
        await recordDone(databaseFile, {
          at: Date.now(),
          actor: operator(),
          action: 'database.backup',
          clientId: null,
          outcome: 'done',
        }).catch((error: unknown) => {
          note(`apigw: the audit trail has no event of this backup: ${(error as Error).message}`);
        });
        await pipeline(createReadStream(file), process.stdout);
      });
    });

  program
    .command('restore')
    .description('put the copy on standard input in place of the database; the gateway must not run')
    .action(async (_: unknown, command: Command) => {
      expectLocal(command);
      await withTemporary(configure(), async (file, { databaseFile, managementListen }) => {
        if (
          await askListener(managementListen, '/livez').then(
            () => true,
            () => false,
          )
        )
          throw new CliError('The gateway is running. Stop it, then restore.', exitCodes.conflict);
        await pipeline(process.stdin, createWriteStream(file, { mode: 0o600 }));
        const { clients, kept } = await restore(file, databaseFile, operator(), new Date()).catch((error: unknown) => {
          const { message } = error as Error;
          throw new CliError(
            `This backup is not restored. ${message} Nothing has been changed.`,
            exitCodes.failed,
            error,
          );
        });
        const before = kept === undefined ? '' : `; the one from before is ${kept}`;
        note(`restored a database with ${clients} API clients${before}`);
      });
    });
}

const operator = (): Actor => ({ clientId: null, requestId: null, name: operatorName() });

/** Gives a file name beside the database, where there is room for a copy, and removes the file afterwards. */
async function withTemporary(config: Config, work: (file: string, config: Config) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(dirname(config.databaseFile), '.copy-'));
  chmodSync(folder, 0o700);
  const removeFolder = () => {
    rmSync(folder, { recursive: true, force: true });
  };
  // a reader of the backup may be gone before its end
  process.once('exit', removeFolder);
  try {
    await work(join(folder, 'apigw.db'), config);
  } finally {
    removeFolder();
  }
}
