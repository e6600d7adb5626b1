import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { parse as parseCsv } from 'csv-parse/sync';
import type { Api } from '../api.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import type { Declaration } from '../import/declaration.ts';
import type { Output } from '../output.ts';
import { startProgress } from '../progress.ts';
import type { ShownKey } from './keys.ts';
import type { Change } from './plan.ts';
import { clientsPath } from './resolve-client.ts';

/** The file that new keys are written to, the only place where they are shown. */
export interface KeyFile {
  readonly file: string;
  /** Whether an import that broke off has begun it. */
  readonly isContinued: boolean;
  /** Clients whose keys are in it. */
  readonly holders: ReadonlySet<string>;
  readonly append: (apiClientId: string, id: number, key: string) => void;
  readonly close: () => void;
}

const header = 'api_client_id,id,key';
/** The end of a file that a crash has cut off is none. */
const wholeKey = /^[1-9][0-9]*\.[A-Za-z0-9]{64}$/;

/**
 * Makes the file, or opens one that an import has made before.
 *
 * @throws {CliError}
 */
export function openKeyFile(file: string): KeyFile {
  try {
    const isContinued = existsSync(file);
    const before = isContinued ? readFileSync(file, 'utf8') : '';
    const holders = isContinued ? holdersIn(before) : new Set<string>();
    const handle = openSync(file, isContinued ? 'a' : 'ax', 0o600);
    const write = (text: string) => {
      writeSync(handle, text);
      fsyncSync(handle);
    };
    if (!before.endsWith('\n')) write(isContinued ? '\n' : `${header}\n`);
    return {
      file,
      isContinued,
      holders,
      append: (name, id, key) => {
        write(`${toCsv(name)},${id},${key}\n`);
      },
      close: () => {
        closeSync(handle);
      },
    };
  } catch (error) {
    const { message } = error as Error;
    throw new CliError(`${file} cannot be written to: ${message}. Nothing was done.`, exitCodes.usage, error);
  }
}

function holdersIn(text: string): Set<string> {
  if (!text.startsWith(`${header}\n`)) throw new Error(`it is there, and is no file of keys that an import has begun`);
  const rows: string[][] = parseCsv(text, { relax_column_count: true, relax_quotes: true, skip_empty_lines: true });
  return new Set(rows.flatMap(([name = '', , key = '']) => (wholeKey.test(key) ? [name] : [])));
}

function toCsv(text: string): string {
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

interface Client {
  readonly id: number;
  readonly api_client_id: string;
  readonly has_api_key: boolean;
}

/**
 * A key for each client that was made without one, one after the other, each written as soon as it is known. Where the
 * file is continued, also for those that the import before has made and not come to.
 */
export async function makeKeys(
  api: Api,
  output: Output,
  keyFile: KeyFile,
  { clients }: Declaration,
  made: readonly Change[],
): Promise<void> {
  const keyless = new Set(clients.flatMap(({ api_client_id: name, keys = [] }) => (keys.length === 0 ? [name] : [])));
  const wanted = new Set(made.map(({ api_client_id: name }) => name).filter((name) => keyless.has(name)));
  const found: Client[] = [];
  for await (const page of api.pages<Client>(clientsPath)) {
    const isOurs = ({ api_client_id: name }: Client) => (keyFile.isContinued ? keyless : wanted).has(name);
    found.push(...page.filter((client) => isOurs(client) && !keyFile.holders.has(client.api_client_id)));
  }
  const without = found.filter((client) => !client.has_api_key);
  const progress = startProgress('keys', without.length);
  for (const { id, api_client_id: name } of without) {
    const { token = '' } = await api.call<ShownKey>('POST', `${clientsPath}/${id}/keys`);
    keyFile.append(name, id, token);
    progress.advance();
  }
  progress.stop();
  for (const { id, api_client_id: name } of found.filter((client) => client.has_api_key))
    output.note(`${name} has a key that is not in ${keyFile.file}; another one: apigw clients rotate ${id}`);
  output.note(
    `${without.length} keys are in ${keyFile.file}, which you alone can read. Hand them out, then delete it.`,
  );
}
