import { InvalidArgumentError, Option, type Command } from 'commander';
import { withApi } from '../connection.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import type { Column, Output } from '../output.ts';
import { confirm } from './confirm.ts';
import { addRotate, keyColumns, showToken, type ShownKey } from './keys.ts';
import { clientsPath, resolveClient, type ShownClient } from './resolve-client.ts';
import { parseExpiry, parsePast } from './times.ts';
import { addWait, notePending } from './wait.ts';

const columns: readonly Column<ShownClient>[] = [
  { title: 'ID', value: ({ id }) => id },
  { title: 'API_CLIENT_ID', value: (client) => client.api_client_id },
  { title: 'NAME', value: ({ name }) => name },
  { title: 'ADMIN', value: (client) => client.is_admin },
  { title: 'STATE', value: stateOf },
  { title: 'KEY', value: (client) => client.has_api_key },
  { title: 'LAST USED', value: (client) => client.last_used_at },
];

function stateOf({ enabled, expires_at: expiresAt }: ShownClient): string {
  if (expiresAt !== null && Date.parse(expiresAt) <= Date.now()) return 'expired';
  return enabled ? 'enabled' : 'disabled';
}

interface ListOptions {
  readonly name?: string;
  readonly tag?: string;
  readonly state?: string;
  readonly admin?: true;
  readonly unusedSince?: string;
  readonly replacedKeyUsed?: true;
  readonly sort?: string;
  readonly limit?: number;
}

interface ChangeOptions {
  readonly name?: string;
  readonly apiClientId?: string;
  readonly description?: string;
  readonly tag?: string[];
  readonly scope?: string[];
  readonly cidr?: string[];
  readonly admin?: boolean;
  readonly enable?: true;
  readonly disable?: true;
  readonly expires?: string | null;
  readonly rateLimit?: string;
  readonly burst?: number;
  readonly quota?: string;
  readonly key?: boolean;
  readonly force?: true;
  readonly wait?: string;
  readonly yes?: true;
}

export function addClients(program: Command): void {
  const clients = program.command('clients').description('API clients: who may call');

  clients
    .command('list')
    .description('all of them, or those that all filters fit')
    .option('--name <text>', 'a part of the name')
    .option('--tag <tag>', 'that have this tag')
    .addOption(new Option('--state <state>', 'by state').choices(['enabled', 'disabled', 'expired']))
    .option('--admin', 'administrators alone')
    .option('--unused-since <time>', 'not used since a time, or for a span such as 90d', parsePast)
    .option('--replaced-key-used', 'that still use a key which was rotated')
    .option('--sort <order>', 'id, name, created_at or last_used_at; -name the other way round')
    .option('--limit <number>', 'the first so many', parseNumber)
    .action((options: ListOptions, command: Command) =>
      withApi(command, async (api, output) => {
        const query = {
          name: options.name,
          tag: options.tag,
          state: options.state,
          is_admin: options.admin,
          unused_since: options.unusedSince,
          replaced_key_used: options.replacedKeyUsed,
          sort: options.sort,
        };
        const found: ShownClient[] = [];
        for await (const page of api.pages<ShownClient>(clientsPath, query)) {
          found.push(...page);
          if (options.limit !== undefined && found.length >= options.limit) break;
        }
        await output.rows(found.slice(0, options.limit), columns);
      }),
    );

  clients
    .command('show')
    .description('one of them, with its keys')
    .argument('<client>', 'id, api_client_id or name')
    .action((text: string, _: unknown, command: Command) =>
      withApi(command, async (api, output) => {
        const client = await resolveClient(api, text);
        const keys = await api.call<ShownKey[]>('GET', `${clientsPath}/${client.id}/keys`);
        if (output.format === 'json') {
          output.json({ ...client, keys });
          return;
        }
        await showClient(client, output);
        output.line('');
        await output.rows(keys, keyColumns);
      }),
    );

  const create = clients
    .command('create')
    .description('register one; its key is printed here and never again')
    .option('--no-key', 'make no API key: for a client that has access tokens');
  addSettable(create).action((options: ChangeOptions, command: Command) =>
    withApi(
      command,
      async (api, output) => {
        const body = { ...toBody(options), generate_api_key: options.key };
        showToken(await api.call<ShownClient>('POST', clientsPath, { body }), output);
      },
      true,
    ),
  );

  const update = clients
    .command('update')
    .description('change what is named, and nothing else')
    .argument('<client>', 'id, api_client_id or name');
  addWait(addSettable(update))
    .option('--no-admin', 'no administrator any more')
    .option('--enable', 'accept its credentials again')
    .addOption(new Option('--disable', 'refuse its credentials, and keep them').conflicts('enable'))
    .option('--force', 'even if no administrator is left')
    .action((text: string, options: ChangeOptions, command: Command) =>
      withApi(command, async (api, output) => {
        const body = toBody(options);
        if (Object.values(body).every((value) => value === undefined))
          throw new CliError('Nothing is to be changed: apigw clients update --help', exitCodes.usage);
        const { id } = await resolveClient(api, text);
        const query = { force: options.force, wait: options.wait };
        const client = await api.call<ShownClient>('PUT', `${clientsPath}/${id}`, { body, query });
        await showClient(client, output);
        notePending(client, output);
      }),
    );

  for (const [verb, isEnabled, about] of [
    ['enable', true, 'accept its credentials again'],
    ['disable', false, 'refuse its credentials from now on, and keep them'],
  ] as const) {
    addWait(clients.command(verb))
      .description(about)
      .argument('<client>', 'id, api_client_id or name')
      .option('--force', 'even if no administrator is left')
      .action((text: string, options: ChangeOptions, command: Command) =>
        withApi(command, async (api, output) => {
          const { id } = await resolveClient(api, text);
          const call = { body: { enabled: isEnabled }, query: { force: options.force, wait: options.wait } };
          const client = await api.call<ShownClient>('PUT', `${clientsPath}/${id}`, call);
          await showClient(client, output);
          notePending(client, output);
        }),
      );
  }

  addRotate(clients);

  addWait(clients.command('delete'))
    .description('remove one and its keys, for good')
    .argument('<client>', 'id, api_client_id or name')
    .option('--force', 'even if no administrator is left')
    .option('--yes', 'do not ask')
    .action((text: string, options: ChangeOptions, command: Command) =>
      withApi(command, async (api, output) => {
        const { id, name } = await resolveClient(api, text);
        await confirm(`Delete the API client ${id}, ${JSON.stringify(name)}, and its keys?`, options.yes);
        const query = { force: options.force, wait: options.wait };
        const answer = await api.call('DELETE', `${clientsPath}/${id}`, { query });
        output.note(`deleted the API client ${id}`);
        notePending(answer, output);
      }),
    );
}

/** @throws {InvalidArgumentError} */
export function parseNumber(text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new InvalidArgumentError('allowed: a whole number from 1 on');
  return Number(text);
}

function addSettable(command: Command): Command {
  return command
    .option('--name <text>', 'what the application receives as X-Client-Name')
    .option('--api-client-id <text>', 'what the application receives as X-Client-Id; for access tokens, the claim')
    .option('--description <text>', 'one line for people; empty for none')
    .option('--tag <tag...>', 'all of its tags; one empty for none')
    .option('--scope <scope...>', 'all of its scopes; one empty for none')
    .option('--cidr <network...>', 'where it may call from; one empty for anywhere')
    .option('--admin', 'an administrator')
    .option('--expires <time>', 'never, a span from now on such as 90d, or a time', parseExpiry)
    .option('--rate-limit <rate>', 'such as 100/s; empty for none')
    .option('--burst <number>', 'so many requests more in ten of those units', parseNumber)
    .option('--quota <rate>', 'such as 100000/d; empty for none');
}

function toBody(options: ChangeOptions): object {
  const orNull = (text: string | undefined) => (text === '' ? null : text);
  const toList = (list: string[] | undefined) => list?.filter((one) => one !== '');
  return {
    name: options.name,
    api_client_id: options.apiClientId,
    description: orNull(options.description),
    tags: toList(options.tag),
    scopes: toList(options.scope),
    allowed_cidrs: toList(options.cidr),
    is_admin: options.admin,
    enabled: options.enable ?? (options.disable && false),
    expires_at: options.expires,
    rate_limit: orNull(options.rateLimit),
    rate_limit_burst: options.burst,
    quota: orNull(options.quota),
  };
}

/** Without the two more names of the id, which are for scripts, and without what is said after it. */
async function showClient(client: ShownClient, output: Output): Promise<void> {
  const isShown = ([name]: [string, unknown]) => !['api_key_id', 'api_client_entity_id', 'propagation'].includes(name);
  await output.fields(output.format === 'json' ? client : Object.fromEntries(Object.entries(client).filter(isShown)));
}
