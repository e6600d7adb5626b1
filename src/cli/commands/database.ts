import { chmodSync, createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import type { Actor } from '../../clients/api-client.ts';
import { parseDatabaseUrl, type Config } from '../../config.ts';
import { nameOfDatabase, parsePostgresUrl } from '../../database-address.ts';
import { askListener, configure, expectLocal, outputOf, readText } from '../connection.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import { operatorName } from '../operator-name.ts';
import { createOutput } from '../output.ts';
import { startProgress, type Progress } from '../progress.ts';

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
      const { openOperatorApi } = await import('../../operator.ts');
      const api = await openOperatorApi(config, operatorName(), () => Promise.resolve(undefined));
      try {
        line(await api.clients.bootstrap(config.bootstrapKeyLifetime, operator()));
      } finally {
        await api.close();
      }
    });

  addMigrateStore(program);

  program
    .command('backup')
    .description('write a copy of the database, as it is now, to standard output; the gateway may run')
    .action(async (_: unknown, command: Command) => {
      expectLocal(command);
      if (process.stdout.isTTY)
        throw new CliError('A backup is no text. Send it to a file: apigw backup > apigw-backup.db', exitCodes.usage);
      const databaseFile = expectFile(configure(), 'pg_dump --format=custom "$DATABASE_URL" > apigw.dump');
      const { backUp, recordDone } = await import('../../store/backup.ts');
      await withTemporary(databaseFile, async (file) => {
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
      const config = configure();
      const databaseFile = expectFile(
        config,
        'pg_restore --clean --if-exists --single-transaction --dbname "$DATABASE_URL" apigw.dump',
      );
      await withTemporary(databaseFile, async (file) => {
        if (
          await askListener(config.managementListen, '/livez').then(
            () => true,
            () => false,
          )
        )
          throw new CliError('The gateway is running. Stop it, then restore.', exitCodes.conflict);
        await pipeline(process.stdin, createWriteStream(file, { mode: 0o600 }));
        const { restore } = await import('../../store/backup.ts');
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

interface MigrateArguments {
  readonly from: string;
  readonly to: string;
  readonly dryRun?: boolean;
}

function addMigrateStore(program: Command): void {
  program
    .command('migrate-store')
    .description('copy everything from a SQLite database into an empty PostgreSQL database, in one transaction')
    .requiredOption(
      '--from <url>',
      'sqlite: and the path of the file; a gateway may go on deciding with it, and take no change',
    )
    .requiredOption(
      '--to <url>',
      'postgres://user@host/database, or the path of a file that has it (a password shows in the list of processes)',
    )
    .option('--dry-run', 'copy and compare, and leave nothing behind')
    .action(async ({ from, to, dryRun = false }: MigrateArguments, command: Command) => {
      expectLocal(command);
      const source = parseDatabaseUrl(from);
      const url = to.startsWith('/') ? readText(to).trim() : to;
      const target = parseDatabaseUrl(url);
      if (typeof source !== 'string')
        throw new CliError('--from must be sqlite: and the path of a file.', exitCodes.usage);
      if (target === undefined || typeof target === 'string') {
        const why = parsePostgresUrl(url);
        throw new CliError(
          `--to must be postgres://user@host/database${typeof why === 'string' ? `: ${why}` : ''}.`,
          exitCodes.usage,
        );
      }
      const { migrateStore } = await import('../../store/migrate-store.ts');
      let progress: Progress | undefined;
      const migrated = await migrateStore(source, target, {
        dryRun,
        onCounted: (rows) => (progress = startProgress('copying', rows)),
        onCopied: (rows) => progress?.advance(rows),
      })
        .catch((error: unknown) => {
          throw new CliError(`Nothing has been copied. ${(error as Error).message}`, exitCodes.failed, error);
        })
        .finally(() => progress?.stop());
      await outputOf(command).rows(migrated, [
        { title: 'TABLE', value: ({ table }) => table },
        { title: 'ROWS', value: ({ rows }) => String(rows) },
        { title: 'SHA-256', value: ({ digest }) => digest },
      ]);
      note(
        dryRun
          ? 'This was a dry run: nothing is there yet.'
          : `Everything is in ${nameOfDatabase(target)}. Stop the gateway, give it this DATABASE_URL, and start it. What is changed in the SQLite database from now on is not in it.`,
      );
    });
}

/** @throws {CliError} for PostgreSQL, naming its own command */
function expectFile({ database }: Config, command: string): string {
  if (typeof database === 'string') return database;
  throw new CliError(
    `The database is PostgreSQL, which has tools of its own for that: ${command} (docs/operations.md).`,
    exitCodes.usage,
  );
}
const operator = (): Actor => ({ clientId: null, requestId: null, name: operatorName() });

/** Gives a file name beside the database, where there is room for a copy, and removes the file afterwards. */
async function withTemporary(databaseFile: string, work: (file: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(dirname(databaseFile), '.copy-'));
  chmodSync(folder, 0o700);
  const removeFolder = () => {
    rmSync(folder, { recursive: true, force: true });
  };
  // a reader of the backup may be gone before its end
  process.once('exit', removeFolder);
  try {
    await work(join(folder, 'apigw.db'));
  } finally {
    removeFolder();
  }
}
