import { writeFileSync } from 'node:fs';
import { Option, type Command } from 'commander';
import { LineCounter, parse, stringify, YAMLParseError } from 'yaml';
import type { Api } from '../api.ts';
import { readText, withApi } from '../connection.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import type { Declaration, Note } from '../import/declaration.ts';
import { importFormats, readImport, type ImportFormat } from '../import/read-import.ts';
import type { Output } from '../output.ts';
import { startProgress } from '../progress.ts';
import { confirm } from './confirm.ts';
import type { ShownKey } from './keys.ts';
import { clientsPath } from './resolve-client.ts';

interface Change {
  readonly action: 'create' | 'update' | 'delete';
  readonly api_client_id: string;
  readonly id: number | null;
  readonly fields: readonly { readonly name: string; readonly from: unknown; readonly to: unknown }[];
  readonly keys_added: readonly string[];
  readonly keys_removed: readonly string[];
}

interface Applied {
  readonly dry_run: boolean;
  readonly revision: number;
  readonly created: number;
  readonly updated: number;
  readonly deleted: number;
  readonly unchanged: number;
  readonly changes: readonly Change[];
}

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

const applyPath = '/v1/management/apply';
/** Clients that the API takes in one document. */
const chunkSize = 10_000;
/** YAML aliases that are followed: there is no use for many, and each may repeat what is large. */
const maxAliases = 100;

export function addDeclarations(program: Command): void {
  program
    .command('export')
    .description('all API clients as YAML, for apply: keys as digests, no secret')
    .action((_: unknown, command: Command) =>
      withApi(command, async (api, output) => {
        const document = await api.call<Declaration>('GET', '/v1/management/export');
        if (output.format === 'json') output.json(document);
        else process.stdout.write(stringify(document, { lineWidth: 0 }));
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
          const document = readDocument(options.file);
          const query = { prune: options.prune, force: options.force };
          const plan = await api.call<Applied>('POST', applyPath, {
            query: { ...query, dry_run: true },
            body: document,
          });
          if (output.format !== 'json' || options.dryRun) showPlan(plan, output);
          if (options.dryRun || (plan.changes.length === 0 && output.format !== 'json')) return;
          if (plan.changes.length > 0) await confirm('Do this?', options.yes);
          // what was shown, or nothing
          const revised = { ...query, revision: plan.revision };
          const applied = await api.call<Applied>('POST', applyPath, { query: revised, body: document });
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
    .option('--keys-to <file>', 'make a key for each client that comes without one, and write them to this new file')
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
  const { document, notes } = readImport(from, readText(file), { file });
  showNotes(notes, output);
  const chunks = chunksOf(document);
  for (const body of chunks) {
    const plan = await api.call<Applied>('POST', applyPath, { query: { dry_run: true }, body });
    showPlan(plan, output);
    if (!update) expectNewClients(plan);
  }
  if (!yes) {
    output.note('Nothing was done; with --yes it is.');
    return;
  }
  // first the file: keys that could be written nowhere would be lost
  if (keysTo !== undefined) createKeyFile(keysTo);
  const progress = startProgress('clients', document.clients.length);
  const made: Change[] = [];
  for (const body of chunks) {
    const { changes } = await api.call<Applied>('POST', applyPath, { body });
    made.push(...changes.filter(({ action }) => action === 'create'));
    progress.advance(body.clients.length);
  }
  progress.stop();
  if (keysTo !== undefined) await makeKeys(api, output, keysTo, made);
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

function chunksOf({ clients }: Declaration): Declaration[] {
  const count = Math.ceil(clients.length / chunkSize);
  return Array.from({ length: count }, (_, index) => ({
    version: 1,
    clients: clients.slice(index * chunkSize, (index + 1) * chunkSize),
  }));
}

function createKeyFile(file: string): void {
  try {
    writeFileSync(file, 'api_client_id,id,key\n', { mode: 0o600, flag: 'wx' });
  } catch (error) {
    throw new CliError(
      `${file} cannot be made: ${(error as Error).message}. Nothing was done.`,
      exitCodes.usage,
      error,
    );
  }
}

/** One after the other, each written as soon as it is known. */
async function makeKeys(api: Api, output: Output, file: string, made: readonly Change[]): Promise<void> {
  const without = made.filter((change) => change.keys_added.length === 0);
  const progress = startProgress('keys', without.length);
  for (const { id, api_client_id: name } of without) {
    const { token = '' } = await api.call<ShownKey>('POST', `${clientsPath}/${String(id)}/keys`);
    writeFileSync(file, `${toCsv(name)},${String(id)},${token}\n`, { flag: 'a' });
    progress.advance();
  }
  progress.stop();
  output.note(`${without.length} keys are in ${file}, which you alone can read. Hand them out, then delete it.`);
}

function toCsv(text: string): string {
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** @throws {CliError} naming the line */
function readDocument(file: string): unknown {
  const text = readText(file);
  const lineCounter = new LineCounter();
  try {
    // without the lines themselves, which may have a secret in them, or what a terminal obeys
    return parse(text, { maxAliasCount: maxAliases, uniqueKeys: true, prettyErrors: false, lineCounter }) as unknown;
  } catch (error) {
    const place = error instanceof YAMLParseError ? `, line ${lineCounter.linePos(error.pos[0]).line}` : '';
    const message = (error as Error).message.replace(/\p{C}/gu, '?').slice(0, 200);
    throw new CliError(`${file} is no YAML${place}: ${message}`, exitCodes.usage, error);
  }
}

const signs = { create: ['green', '+'], update: ['yellow', '~'], delete: ['red', '-'] } as const;

function showPlan(plan: Applied, output: Output): void {
  if (output.format === 'json') {
    output.json(plan);
    return;
  }
  for (const { action, api_client_id: name, id, fields, ...keys } of plan.changes) {
    const [colour, sign] = signs[action];
    output.line(output.paint(colour, `${sign} ${name}${id === null ? '' : ` (${id})`}`));
    for (const { name: field, from, to } of action === 'delete' ? [] : fields)
      output.line(`    ${field}: ${action === 'create' ? '' : `${JSON.stringify(from)} -> `}${JSON.stringify(to)}`);
    for (const hint of keys.keys_added) output.line(output.paint('green', `    + key ${hint}`));
    for (const hint of keys.keys_removed) output.line(output.paint('red', `    - key ${hint}`));
  }
  output.line(`plan: ${summaryOf(plan)}`);
}

function summaryOf({ created, updated, deleted, unchanged }: Applied): string {
  return `${created} to create, ${updated} to update, ${deleted} to delete, ${unchanged} as they are`;
}
