import type { Command } from 'commander';
import { withApi } from '../connection.ts';
import { toText, type Column, type Output } from '../output.ts';
import { confirm } from './confirm.ts';
import { clientsPath, resolveClient } from './resolve-client.ts';
import { parseExpiry, parseOverlap } from './times.ts';
import { addWait, notePending } from './wait.ts';

export interface ShownKey {
  readonly id: number;
  readonly hint: string;
  readonly state: string;
  readonly created_at: string;
  readonly last_used_at: string | null;
  readonly expires_at: string | null;
  readonly token?: string;
  readonly replaced?: readonly ShownKey[];
}

export const keyColumns: readonly Column<ShownKey>[] = [
  { title: 'KEY', value: ({ id }) => id },
  { title: 'HINT', value: ({ hint }) => (hint === '' ? '-' : `...${hint}`) },
  { title: 'STATE', value: ({ state }) => state },
  { title: 'CREATED', value: (key) => key.created_at },
  { title: 'LAST USED', value: (key) => key.last_used_at },
  { title: 'EXPIRES', value: (key) => key.expires_at },
];

interface Options {
  readonly expires?: string | null;
  readonly overlap?: string;
  readonly force?: true;
  readonly wait?: string;
  readonly yes?: true;
}

export function addKeys(program: Command): void {
  const keys = program.command('keys').description('the API keys of a client');

  keys
    .command('list')
    .description('by their hints; nobody can show a key again')
    .argument('<client>', 'id, api_client_id or name')
    .action((text: string, _: unknown, command: Command) =>
      withApi(command, async (api, output) => {
        const { id } = await resolveClient(api, text);
        await output.rows(await api.call<ShownKey[]>('GET', `${clientsPath}/${id}/keys`), keyColumns);
      }),
    );

  keys
    .command('create')
    .description('one more key; it is printed here and never again')
    .argument('<client>', 'id, api_client_id or name')
    .option('--expires <time>', 'never, a span from now on such as 90d, or a time', parseExpiry)
    .action((text: string, options: Options, command: Command) =>
      withApi(command, async (api, output) => {
        const { id } = await resolveClient(api, text);
        const body = { expires_at: options.expires };
        showToken(await api.call<ShownKey>('POST', `${clientsPath}/${id}/keys`, { body }), output);
      }),
    );

  addRotate(keys);

  addWait(keys.command('delete'))
    .description('refuse a key from now on')
    .argument('<client>', 'id, api_client_id or name')
    .argument('<key>', 'its id, as keys list shows it')
    .option('--force', 'even if no administrator is left')
    .option('--yes', 'do not ask')
    .action((text: string, key: string, options: Options, command: Command) =>
      withApi(command, async (api, output) => {
        const { id, name } = await resolveClient(api, text);
        await confirm(`Delete the key ${key} of the API client ${id}, ${JSON.stringify(name)}?`, options.yes);
        const query = { force: options.force, wait: options.wait };
        const answer = await api.call('DELETE', `${clientsPath}/${id}/keys/${encodeURIComponent(key)}`, { query });
        output.note(`deleted the key ${key} of the API client ${id}`);
        notePending(answer, output);
      }),
    );
}

/** The same below `clients` and `keys`. */
export function addRotate(parent: Command): void {
  addWait(parent.command('rotate'))
    .description('a key in place of all others, which go on working for a while')
    .argument('<client>', 'id, api_client_id or name')
    .option('--overlap <span>', 'how long the others work: 24h, 90m, 0 (default: 24h)', parseOverlap)
    .option('--expires <time>', 'of the new key: never, a span from now on such as 90d, or a time', parseExpiry)
    .option('--force', 'even if no administrator is left')
    .action((text: string, { overlap, expires, force, wait }: Options, command: Command) =>
      withApi(command, async (api, output) => {
        const { id } = await resolveClient(api, text);
        const body = { overlap, expires_at: expires };
        const query = { force, wait };
        const rotated = await api.call<ShownKey>('POST', `${clientsPath}/${id}/rotate`, { body, query });
        showToken(rotated, output);
        for (const { hint, expires_at: end } of output.format === 'json' ? [] : (rotated.replaced ?? []))
          output.note(`the key ...${hint} works until ${end ?? 'it is deleted'}`);
        notePending(rotated, output);
      }),
    );
}

/** In a table the token is all of standard output, so that it can be put into a variable or a file. */
export function showToken(made: { readonly id: number; readonly token?: string }, output: Output): void {
  if (output.format === 'json') {
    output.json(made);
    return;
  }
  for (const [name, value] of Object.entries(made) as [string, unknown][]) {
    if (['token', 'replaced', 'propagation', 'api_key_id', 'api_client_entity_id'].includes(name)) continue;
    const text = toText(value);
    if (text !== '-') output.note(`${name}: ${text}`);
  }
  if (made.token === undefined) return;
  output.note('the API key, shown only now:');
  output.line(made.token);
}
