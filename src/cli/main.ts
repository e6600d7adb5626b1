#!/usr/bin/env node
import { Command, CommanderError, Option } from 'commander';
import { StoreUnavailable } from '../clients/client-store.ts';
import { ConfigError } from '../config.ts';
import { readVersion } from '../version.ts';
import { CliError, exitCodes, type ExitCode } from './exit-codes.ts';
import { ImportError } from './import/import-error.ts';

/** Of a command that is asked for every few seconds, and needs nothing of the others. Container engines know 0 and 1. */
async function health(_: unknown, command: Command): Promise<void> {
  const { askListener, configure } = await import('./connection.ts');
  // not by the environment, which may be that of a container whose health this is
  if (command.optsWithGlobals<{ server?: string }>().server !== undefined)
    throw new CliError('health works on this machine only. Elsewhere: curl https://host/readyz', exitCodes.usage);
  const { status, body } = await askListener(configure().managementListen, '/readyz').catch((error: unknown) => {
    throw new CliError((error as Error).message, exitCodes.failed, error);
  });
  say(body.trim());
  if (status !== 200) process.exitCode = exitCodes.failed;
}

async function demoApp(): Promise<void> {
  const { createHttpServer, listen } = await import('../http/listener.ts');
  const { demoApp: answer } = await import('../local/demo-app.ts');
  const app = await listen({ kind: 'tcp', host: '0.0.0.0', port: 8_000 }, createHttpServer(answer));
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => void app.close().then(() => process.exit(0)));
  }
  say(`the demonstration application listens on ${app.address}`);
}

/** Loaded when one of them is asked for: together they are most of the program, and of its start. */
const commandModules: readonly { names: readonly string[]; load: () => Promise<(program: Command) => void> }[] = [
  { names: ['clients'], load: async () => (await import('./commands/clients.ts')).addClients },
  { names: ['keys'], load: async () => (await import('./commands/keys.ts')).addKeys },
  { names: ['audit'], load: async () => (await import('./commands/audit.ts')).addAudit },
  { names: ['explain'], load: async () => (await import('./commands/explain.ts')).addExplain },
  {
    names: ['export', 'apply', 'import'],
    load: async () => (await import('./commands/declarations.ts')).addDeclarations,
  },
  {
    names: ['bootstrap', 'bootstrap-key', 'migrate-store', 'backup', 'restore'],
    load: async () => (await import('./commands/database.ts')).addDatabase,
  },
  { names: ['check-config'], load: async () => (await import('./commands/check-config.ts')).addCheckConfig },
  { names: ['doctor'], load: async () => (await import('./commands/doctor.ts')).addDoctor },
  { names: [], load: async () => (await import('./commands/completion.ts')).addCompletion },
];

async function createProgram(): Promise<Command> {
  const program = new Command('apigw')
    .description(
      'The command line of the gateway. It works on the local database, which it finds as the gateway does, or with --server over the management API.',
    )
    .version(readVersion())
    .addOption(new Option('--output <format>', 'of results').choices(['table', 'json']).default('table'))
    .option('--server <url>', 'https://host of a gateway, in place of the local database (APIGW_SERVER)')
    .option(
      '--key-file <file>',
      "with --server: file with an administrator's key (APIGW_KEY_FILE, or the key in APIGW_KEY)",
    )
    .option('--ca-file <file>', 'with --server: certificates of authorities to trust (APIGW_CA_FILE)')
    .option('--insecure', 'with --server: whatever its certificate')
    .showHelpAfterError('(apigw --help)')
    .showSuggestionAfterError()
    .exitOverride();
  program.command('health').description('whether the gateway here can decide, and why not').action(health);
  program.command('demo-app').description('the demonstration application, on port 8000').action(demoApp);
  // its options are parsed again, with what the command adds to them
  const [asked = ''] = program.parseOptions(process.argv.slice(2)).operands;
  if (program.commands.some((command) => command.name() === asked)) return program;
  const wanted = commandModules.filter(({ names }) => names.includes(asked));
  // all for help, for completion, and for a name that is none, since the nearest one is suggested
  for (const { load } of wanted.length > 0 ? wanted : commandModules) (await load())(program);
  return program;
}

function say(message: string): void {
  process.stderr.write(`${message}\n`);
}

function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CliError) return error.exitCode;
  if (error instanceof ConfigError) return exitCodes.settings;
  if (error instanceof ImportError) return exitCodes.usage;
  if (error instanceof StoreUnavailable) return exitCodes.unavailable;
  return exitCodes.failed;
}

// an exit, and no death by the signal, so that temporary files go
if (process.argv[2] !== 'demo-app') {
  for (const [signal, exitCode] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.once(signal, () => process.exit(exitCode));
}
// a reader that has seen enough, such as head
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.done);
  say(`apigw: Standard output cannot be written to: ${error.message}. What was done stays; a key that it had is lost.`);
  process.exit(exitCodes.failed);
});
try {
  await (await createProgram()).parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // what it has to say is said
    process.exitCode = error.exitCode === 0 ? exitCodes.done : exitCodes.usage;
  } else {
    const problems = error instanceof ConfigError ? error.problems : [(error as Error).message];
    for (const problem of problems) say(`apigw: ${problem}`);
    process.exitCode = exitCodeOf(error);
  }
}
