import type { Command } from 'commander';
import { withApi, readText, toAuthorization, trustFor, type GlobalOptions } from '../connection.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import type { Api } from '../api.ts';
import type { Output } from '../output.ts';
import { policyHeadersOf } from '../server-settings.ts';
import type { ShownKey } from './keys.ts';
import type { ShownClient } from './resolve-client.ts';
import { probe } from '../probe.ts';
import { redact } from '../../redact.ts';

interface Explained {
  readonly reason: string | null;
  readonly meaning?: string;
  readonly detail?: string | null;
  readonly expected: string | null;
  readonly seen: string | null;
  readonly remedy: string | null;
  readonly client?: ShownClient | null;
  readonly key?: ShownKey | null;
  readonly token?: Readonly<Record<string, string>> | null;
}

interface Options {
  readonly address?: string;
  readonly conf?: string;
  readonly host?: string;
  readonly header?: string[];
  readonly credential?: string;
}

const requestId = /^[0-9a-f]{32}$|^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function addExplain(program: Command): void {
  program
    .command('explain')
    .description(
      'why a request was refused, a request would be, or a credential is: what was expected and seen, what to do',
    )
    .argument('<subject>', 'a request id; a URL, which is asked for; or a file with a credential, - for standard input')
    .option('--address <address>', 'of a credential: as if it came from there')
    .option('--conf <file>', 'of a credential, without --server: decide by the settings of this default.conf')
    .option('--host <name>', 'of a credential, with --conf: by the settings of this server')
    .option('--credential <file>', 'of a URL: send the API key or token in this file, - for standard input')
    .option('--header <header...>', 'of a URL: send this header; others on this machine can see it')
    .action(async (subject: string, options: Options, command: Command) => {
      if (/^https?:\/\//.test(subject)) {
        await explainRequest(subject, options, command);
        return;
      }
      if (redact(subject) !== subject)
        throw new CliError(
          'A credential on the command line can be read by every user of this machine, and stays in the history of the shell. Put it into a file: apigw explain <file>, or apigw explain - < file',
          exitCodes.usage,
        );
      await withApi(command, async (api, output) => {
        if (requestId.test(subject)) await explainDecision(api, subject, output);
        else await explainCredential(api, readAuthorization(subject), options, output);
      });
    });
}

async function explainDecision(api: Api, id: string, output: Output): Promise<void> {
  await show(await api.call<Explained>('GET', `/v1/management/decisions/${id}`), output);
}

function readAuthorization(file: string): string {
  const credential = readText(file).trim();
  if (credential === '') throw new CliError('There is no credential in it.', exitCodes.usage);
  return toAuthorization(credential);
}

async function explainCredential(api: Api, token: string, options: Options, output: Output): Promise<void> {
  const headers = options.conf === undefined ? {} : policyHeadersOf(readText(options.conf), options.host);
  const body = { token, address: options.address };
  const found = await api.call<Explained & { active: boolean }>('POST', '/v1/management/introspect', { body, headers });
  await show(found, output);
  if (!found.active) process.exitCode = exitCodes.failed;
}

/** Sends the request, and looks up what the gateway remembers of it. */
async function explainRequest(url: string, { header = [], credential }: Options, command: Command): Promise<void> {
  const authorization = credential === undefined ? {} : { Authorization: readAuthorization(credential) };
  const sent = { ...toHeaders(header), ...authorization };
  const isSecret = Object.keys(sent).some((name) => /^(?:authorization|proxy-authorization|cookie)$/i.test(name));
  const trust = isSecret ? { trust: trustFor(new URL(url), command.optsWithGlobals<GlobalOptions>()) } : {};
  const { status, headers, body } = await probe(url, { headers: sent, ...trust });
  const [id] = [headers['x-request-id']].flat();
  const problem = /^application\/problem\+json/.test(headers['content-type'] ?? '') ? body : '';
  await withApi(command, async (api, output) => {
    output.note(`${url} answers ${status}${id === undefined ? '' : `, request ${id}`}`);
    if (problem === '') {
      const by = id === undefined ? 'something that is not this gateway' : 'the application';
      output.line(`The answer is from ${by}: this gateway has refused nothing.`);
      return;
    }
    process.exitCode = exitCodes.failed;
    const shown = JSON.parse(problem) as Explained;
    const known = await api.call<Explained>('GET', `/v1/management/decisions/${id ?? ''}`).catch(() => undefined);
    await show(known ?? shown, output);
  });
}

function toHeaders(lines: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    lines.map((line) => {
      const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+): *(.*)$/.exec(line) ?? [];
      if (name === undefined || value === undefined)
        throw new CliError(`--header ${JSON.stringify(line)} is none; allowed: 'Name: value'.`, exitCodes.usage);
      return [name, value];
    }),
  );
}

async function show(explained: Explained, output: Output): Promise<void> {
  await output.fields(output.format === 'json' ? explained : inWords(explained));
}

/** Of the client and the key what tells which they are; the rest: clients show. */
function inWords({ client, key, token, ...explained }: Explained): object {
  return {
    ...explained,
    client: client && `${client.id}, ${client.api_client_id}, ${JSON.stringify(client.name)}`,
    key: key && `${key.id}, ...${key.hint}, ${key.state}`,
    token: token && Object.entries(token).map(([name, value]) => `${name}=${value}`),
  };
}
