import { Option, type Command } from 'commander';
import type { Api } from '../api.ts';
import { readText, withApi } from '../connection.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import type { Declaration, Note } from '../import/declaration.ts';
import { importFormats, type ImportFormat } from '../import/formats.ts';
import type { Output } from '../output.ts';
import { confirm } from './confirm.ts';
import { carryOut, makePlan, showPlan, type Applied } from './plan.ts';

interface Options {
  readonly file: string;
  readonly prune?: true;
  readonly force?: true;
  readonly dryRun?: true;
  readonly yes?: true;
  readonly from: ImportFormat;
  readonly keysTo?: string;
  readonly update?: true;
}

export function addDeclarations(program: Command): void {
  program
    .command('export')
    .description('all API clients as YAML, for apply: keys as digests, no secret')
    .action((_: unknown, command: Command) =>
      withApi(command, async (api, output) => {
        const document = await api.call<Declaration>('GET', '/v1/management/export');
        if (output.format === 'json') output.json(document);
        else process.stdout.write((await import('yaml')).default.stringify(document, { lineWidth: 0 }));
      }),
    );

  program
    .command('apply')
    .description('make API clients what a file says: shows the plan, then asks')
    .requiredOption('-f, --file <file>', 'YAML or JSON, as export writes it; - for standard input')
    .option('--prune', 'remove clients that are not in it, and keys that are not, of clients whose keys are')
    .option('--dry-run', 'show the plan and do nothing')
    .option('--force', 'even if no administrator is left')
    .option('--yes', 'do not ask')
    .action((options: Options, command: Command) =>
      withApi(
        command,
        async (api, output) => {
          const { parseStructured } = await import('../import/place.ts');
          const document = parseStructured(readText(options.file), options.file).value;
          const query = { prune: options.prune, force: options.force };
          const plan = await makePlan(api, document, query);
          const isNothing = plan.changes.changes.length === 0;
          if (output.format !== 'json' || options.dryRun) showPlan(plan.changes, output);
          if (options.dryRun || (isNothing && output.format !== 'json')) return;
          if (!isNothing) await confirm('Do this?', options.yes);
          const applied = await carryOut(api, plan, query);
          if (output.format === 'json') output.json(applied);
          else output.note(`done: ${applied.created} created, ${applied.updated} updated, ${applied.deleted} deleted`);
        },
        true,
      ),
    );

  program
    .command('import')
    .description('API clients of another gateway: shows the plan, and does it with --yes')
    .argument('<file>', 'as that gateway, or its tools, write it; - for standard input')
    .addOption(new Option('--from <format>', 'what it is').choices(importFormats).makeOptionMandatory())
    .option(
      '--keys-to <file>',
      'make a key for each client that comes without one, and write them to this file; one that is there is continued',
    )
    .option('--update', 'also make clients that exist what the file says, all of it')
    .option('--yes', 'do it')
    .action((file: string, options: Options, command: Command) =>
      withApi(command, (api, output) => importClients(api, output, file, options), true),
    );
}

async function importClients(
  api: Api,
  output: Output,
  file: string,
  { from, yes, keysTo, update }: Options,
): Promise<void> {
  const { readImport } = await import('../import/read-import.ts');
  const { document, notes } = readImport(from, readText(file), { file });
  showNotes(notes, output);
  const plan = await makePlan(api, document, {});
  showPlan(plan.changes, output);
  if (!update) expectNewClients(plan.changes);
  if (!yes) {
    output.note('Nothing was done; with --yes it is.');
    return;
  }
  const { makeKeys, openKeyFile } = await import('./key-file.ts');
  // first the file: keys that could be written nowhere would be lost
  const keyFile = keysTo === undefined ? undefined : openKeyFile(keysTo);
  const { changes } = await carryOut(api, plan, {});
  const made = changes.filter(({ action }) => action === 'create');
  if (keyFile) await makeKeys(api, output, keyFile, document, made);
  keyFile?.close();
  output.note(`done: ${made.length} API clients created`);
}

/** What a file of another gateway leaves out, such as the networks of a client, would be taken from one that is there. */
function expectNewClients({ changes }: Applied): void {
  const [first, ...others] = changes.filter(({ action }) => action !== 'create');
  if (!first) return;
  const more = others.length === 0 ? '' : ` and ${others.length} more`;
  throw new CliError(
    `The API client ${JSON.stringify(first.api_client_id)}${more} exists already. Nothing was done; --update changes it as the plan says.`,
    exitCodes.conflict,
  );
}

/** What is said of many clients is said once. */
function showNotes(notes: readonly Note[], output: Output): void {
  const places = new Map<string, string[]>();
  for (const { where, what } of notes) {
    const others = places.get(what);
    if (others) others.push(where);
    else places.set(what, [where]);
  }
  for (const [what, [first = '', ...others]] of places)
    output.note(`${first}${others.length === 0 ? '' : ` and ${others.length} more`}: ${what}`);
}
