import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { request } from 'node:http';
import type { RequestOptions } from 'node:https';
import type { Command } from 'commander';
import type { Denial } from '../auth/denials.ts';
import { ConfigError, readConfig, type Config, type ListenAddress } from '../config.ts';
import { localSettings } from '../local/settings.ts';
import { certificatesIn } from '../pem.ts';
import { Problem } from '../problem.ts';
import { redact } from '../redact.ts';
import { createApi, type Api, type Target } from './api.ts';
import { CliError, exitCodes } from './exit-codes.ts';
import { operatorName } from './operator-name.ts';
import { createOutput, type Format, type Output } from './output.ts';

/** Options of every command. */
export interface GlobalOptions {
  readonly output: Format;
  readonly server?: string;
  readonly keyFile?: string;
  readonly caFile?: string;
  /** True with --insecure. */
  readonly insecure?: boolean;
}

/** The command line's own variables, of which the gateway knows nothing; docs/settings.md is made from this table. */
export const cliSettings = {
  APIGW_SERVER: { option: '--server', about: 'https://host or https://host:port; without it the local database.' },
  APIGW_KEY_FILE: { option: '--key-file', about: "File with an administrator's key." },
  APIGW_KEY: { about: 'The key itself, when there is no such file.' },
  APIGW_CA_FILE: { option: '--ca-file', about: 'PEM file of the authority of a private certificate.' },
} satisfies Record<string, { option?: string; about: string }>;

// eslint-disable-next-line no-restricted-properties -- an entry point
const env = process.env;

/** @throws {ConfigError} */
export function configure(): Config {
  return readConfig(env, [...Object.keys(cliSettings), ...Object.keys(localSettings)]);
}

export function outputOf(command: Command): Output {
  return createOutput(command.optsWithGlobals<GlobalOptions>().output);
}

/**
 * Runs the work against the API of a server (`--server`), or against the local database.
 *
 * @param mayBegin whether a database that does not exist is made: by what puts something into it
 * @throws {CliError}
 * @throws {ConfigError}
 */
export async function withApi(
  command: Command,
  work: (api: Api, output: Output) => Promise<void>,
  mayBegin = false,
): Promise<void> {
  const options = command.optsWithGlobals<GlobalOptions>();
  const output = createOutput(options.output);
  const server = options.server ?? env['APIGW_SERVER'];
  if (server) {
    await work(createApi(toTarget(server, options)), output);
    return;
  }
  const config = configure();
  const { database } = config;
  if (!mayBegin && typeof database === 'string' && !existsSync(database))
    throw new CliError(
      `There is no database ${database}. Is DATABASE_URL that of the gateway? A new one begins with: apigw bootstrap`,
      exitCodes.unavailable,
    );
  // most of what the gateway is made of, which no other way needs
  const { openOperatorApi } = await import('../operator.ts');
  const local = await openOperatorApi(config, operatorName(), (requestId) =>
    askGateway(config.managementListen, requestId),
  );
  try {
    const name = 'the local database';
    // what may be asked about credentials is decided by the settings of a server; here keys are accepted
    const headers = { 'X-Policy-Api-Keys-Enabled': 'on' };
    await work(createApi({ name, isTls: false, options: { socketPath: local.socketPath }, headers }), output);
  } finally {
    await local.close();
  }
}

/** @throws {CliError} for a command that knows this machine alone, when another one is named */
export function expectLocal(command: Command): void {
  if ((command.optsWithGlobals<GlobalOptions>().server ?? env['APIGW_SERVER']) === undefined) return;
  throw new CliError(
    `${command.name()} works on this machine only, not with --server or APIGW_SERVER.`,
    exitCodes.usage,
  );
}

/** What a server must be to be sent a credential. @throws {CliError} */
export function trustFor(url: URL, options: GlobalOptions): Pick<RequestOptions, 'ca' | 'rejectUnauthorized'> {
  const isLoopback = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname);
  if (url.protocol === 'http:' && !isLoopback)
    throw new CliError('A key is not sent over plain HTTP to another machine. Use https://.', exitCodes.usage);
  const ca = readAuthorities(options);
  return { ...(ca && { ca: [...ca] }), rejectUnauthorized: options.insecure !== true };
}

function toTarget(server: string, options: GlobalOptions): Target {
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.search !== '' || url.username !== '')
    throw new CliError(
      `The server is ${JSON.stringify(server)}; allowed: https://host or https://host:port.`,
      exitCodes.usage,
    );
  return {
    name: url.origin,
    isTls: url.protocol === 'https:',
    options: {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port,
      ...trustFor(url, options),
    },
    headers: { Authorization: toAuthorization(readKey(options)) },
  };
}

/** PEM of each authority to trust. @throws {CliError} */
export function readAuthorities({
  caFile = env['APIGW_CA_FILE'],
}: Pick<GlobalOptions, 'caFile'>): readonly string[] | undefined {
  if (!caFile) return undefined;
  const certificates = certificatesIn(readText(caFile));
  if (certificates !== undefined) return certificates;
  throw new CliError(
    `--ca-file (APIGW_CA_FILE): ${caFile} has no certificate in PEM form, or one that cannot be read.`,
    exitCodes.usage,
  );
}

/** Never from the command line, which every user of the machine can read. */
export function readKeyIfAny({ keyFile = env['APIGW_KEY_FILE'] }: GlobalOptions): string | undefined {
  const key = keyFile ? readText(keyFile) : env['APIGW_KEY'];
  const text = key?.trim() ?? '';
  return text === '' ? undefined : text;
}

function readKey(options: GlobalOptions): string {
  const key = readKeyIfAny(options);
  if (key !== undefined) return key;
  throw new CliError(
    'A server needs the key of an administrator: in the file that --key-file or APIGW_KEY_FILE names, or in APIGW_KEY.',
    exitCodes.usage,
  );
}

/** Of an API key, an access token, the value of the header, or the whole line. */
export function toAuthorization(text: string): string {
  const credential = text.replace(/^authorization: */i, '');
  if (/^[A-Za-z]+ /.test(credential)) return credential;
  return /^\d+\.[A-Za-z0-9]+$/.test(credential) ? `apk ${credential}` : `Bearer ${credential}`;
}

/** Bytes of a file that is read whole. */
const maxBytes = 64 * 1024 * 1024;

/** @throws {CliError} when it cannot be read, or is larger than anything that is read here */
export function readText(file: string): string {
  try {
    if (file === '-') return readAtMost(0, maxBytes).toString();
    const handle = openSync(file, 'r');
    try {
      return readAtMost(handle, maxBytes).toString();
    } finally {
      closeSync(handle);
    }
  } catch (error) {
    throw new CliError(redact(`${file} cannot be read: ${(error as Error).message}`), exitCodes.usage, error);
  }
}

/** A file may be a pipe or a device, and so has no size that could be asked for. */
function readAtMost(handle: number, most: number): Buffer {
  const chunks: Buffer[] = [];
  for (let size = 0; ;) {
    const chunk = Buffer.allocUnsafe(1024 * 1024);
    const count = readSync(handle, chunk);
    if (count === 0) return Buffer.concat(chunks);
    size += count;
    if (size > most) throw new Error(`it has more than ${most >> 20} MB`);
    chunks.push(chunk.subarray(0, count));
  }
}

/** A path of the management listener of the gateway that runs here, which no credential is needed for. */
export function askListener(
  address: ListenAddress,
  path: string,
  patience = 3_000,
): Promise<{ status: number; body: string }> {
  const target = address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port };
  return new Promise((resolve, reject) => {
    const call = request({ ...target, path, agent: false, timeout: patience }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (body += chunk));
      response.on('error', reject);
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body });
      });
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${patience / 1_000} s`)));
    call.on('error', (error) => {
      reject(new CliError(`The gateway does not answer: ${error.message}`, exitCodes.unavailable, error));
    });
    call.end();
  });
}

/** What the gateway that runs here remembers of a request. */
async function askGateway(address: ListenAddress, requestId: string): Promise<Denial | undefined> {
  const { status, body } = await askListener(address, `/denials/${encodeURIComponent(requestId)}`).catch(
    (error: unknown) => {
      throw new Problem(503, 'gateway_unavailable', (error as Error).message, { cause: error });
    },
  );
  return status === 200 ? (JSON.parse(body) as Denial) : undefined;
}

export function problemsOf(error: unknown): readonly string[] {
  return error instanceof ConfigError ? error.problems : [(error as Error).message];
}
