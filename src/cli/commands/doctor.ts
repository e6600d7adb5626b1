import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { Option, type Command } from 'commander';
import type { Config } from '../../config.ts';
import type { DatabaseAddress } from '../../database-address.ts';
import { parseApiKey } from '../../auth/api-key.ts';
import {
  askListener,
  configure,
  expectLocal,
  outputOf,
  problemsOf,
  readAuthorities,
  readKeyIfAny,
  toAuthorization,
  type GlobalOptions,
} from '../connection.ts';
import { CliError, exitCodes, type ExitCode } from '../exit-codes.ts';
import type { Output } from '../output.ts';
import { startProgress, type Progress } from '../progress.ts';
import { showChecks, type Check } from './checks.ts';

interface Options {
  readonly http?: string;
  readonly path?: readonly string[];
  readonly public?: readonly string[];
  readonly echo?: readonly string[];
  readonly only?: readonly string[];
  readonly all?: boolean;
}

/** Of /readyz, as far as it is read here. */
interface Readiness {
  readonly status: string;
  readonly open_id_connect?: { readonly issuers?: readonly IssuerStatus[] };
}

interface IssuerStatus {
  readonly discovery: string;
  readonly reachable: boolean;
  readonly keys: number;
  /** Seconds; null while there are no keys. */
  readonly age: number | null;
  readonly last_error: string | null;
}

/** Bytes that the database's disk should have left. */
const leastSpace = 256 * 1024 * 1024;
export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description(
      'looks for what is wrong: with this gateway, or, given a URL, with a front door as anybody sees it from outside',
    )
    .argument('[url]', 'https://host or https://host:port; nothing is changed there')
    .option('--http <url>', 'its plain HTTP side (port 80 of the host, when the URL names no port)')
    .addOption(list('--path <path>', 'of the application, and protected: tried like /; may be repeated'))
    .addOption(list('--public <path>', 'of the application, and meant to be open (with a slash at its end: all below)'))
    .addOption(list('--echo <path>', 'where the application answers with the headers it received; with a key'))
    .addOption(list('--only <check>', 'of the table; may be repeated'))
    .option('--all', 'a row for each attempt')
    .action(async (url: string | undefined, options: Options, command: Command) => {
      const output = outputOf(command);
      if (url !== undefined) {
        process.exitCode = await examineFromOutside(url, options, command, output);
        return;
      }
      expectLocal(command);
      const checks = await examineGateway();
      await showChecks(checks, output);
      if (checks.some(({ result }) => result === 'wrong')) process.exitCode = exitCodes.failed;
    });
}

function list(flags: string, about: string): Option {
  return new Option(flags, about).argParser((value, before: string[] | undefined) => [...(before ?? []), value]);
}

async function examineFromOutside(
  text: string,
  { http, path = [], public: open = [], echo = [], only = [], all = false }: Options,
  command: Command,
  output: Output,
): Promise<ExitCode> {
  const { examineFrontDoor, isUnreachable } = await import('../front-door/examine.ts');
  const { summaryOf, toRow, toRows } = await import('../front-door/rows.ts');
  const options = command.optsWithGlobals<GlobalOptions>();
  const key = readKeyIfAny(options);
  const ca = readAuthorities(options);
  for (const one of [...path, ...open, ...echo])
    if (!/^\/[!-~]*$/.test(one))
      throw new CliError(`The path is ${JSON.stringify(one)}; allowed: what begins with /.`, exitCodes.usage);
  let progress: Progress | undefined;
  const findings = await examineFrontDoor({
    url: toUrl(text, 'https:'),
    http: http === undefined ? undefined : toUrl(http, 'http:'),
    paths: { protected: path, open },
    echoes: echo,
    only,
    credential:
      key === undefined
        ? undefined
        : { authorization: toAuthorization(key), clientId: parseApiKey(key.replace(/^apk +/i, ''))?.clientId },
    ca,
    isInsecure: options.insecure === true,
    onCounted: (steps) => (progress = startProgress('attempts', steps)),
    onDone: () => progress?.advance(),
  }).finally(() => progress?.stop());
  if (output.format === 'json') output.json(findings);
  else {
    await showChecks(all ? findings.map(toRow) : toRows(findings), output);
    output.note(summaryOf(findings));
  }
  if (findings.some(({ result }) => result === 'wrong')) return exitCodes.failed;
  return findings.some(isUnreachable) ? exitCodes.unavailable : exitCodes.done;
}

/** @throws {CliError} */
function toUrl(text: string, protocol: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === protocol && url.pathname === '/' && url.search === '' && url.username === '') return url;
  throw new CliError(
    `The URL is ${JSON.stringify(text)}; allowed: ${protocol}//host or ${protocol}//host:port.`,
    exitCodes.usage,
  );
}

async function examineGateway(): Promise<Check[]> {
  let config: Config;
  try {
    config = configure();
  } catch (error) {
    return problemsOf(error).map((seen) => ({ what: 'environment', result: 'wrong', seen }));
  }
  const { database } = config;
  return [
    ...(await checkReadiness(config)),
    ...(await checkStore(database)),
    ...(typeof database === 'string' ? [checkSpace(database)] : []),
  ];
}

async function checkReadiness({ managementListen }: Config): Promise<Check[]> {
  const what = 'gateway';
  try {
    const { status, body } = await askListener(managementListen, '/readyz');
    const { open_id_connect: openIdConnect, ...readiness } = JSON.parse(body) as Readiness;
    return [
      { what, result: status === 200 ? 'ok' : 'wrong', seen: JSON.stringify(readiness) },
      ...(openIdConnect?.issuers ?? []).map(checkIssuer),
    ];
  } catch (error) {
    const remedy = 'Is it running? docker compose ps, systemctl status apigw-gateway, or npm run up';
    return [{ what, result: 'wrong', seen: (error as Error).message, remedy }];
  }
}

/** One that cannot be asked is a warning while its keys are there: tokens that are signed with them are accepted. */
function checkIssuer({ discovery, reachable, keys, age, last_error: fault }: IssuerStatus): Check {
  const known = age === null ? 'there are no keys' : `${keys} keys, ${age} s old`;
  if (reachable) return { what: 'issuer', result: 'ok', seen: `${discovery}: ${known}` };
  const seen = `${fault ?? `${discovery} has not been asked yet`} ${known}`;
  return { what: 'issuer', result: keys > 0 ? 'warning' : 'wrong', seen, remedy: 'docs/operations.md#issuer-down' };
}

async function checkStore(address: DatabaseAddress): Promise<Check[]> {
  const what = 'database';
  if (typeof address === 'string' && !existsSync(address))
    return [
      { what, result: 'wrong', seen: `${address} does not exist`, remedy: 'Is DATABASE_URL that of the gateway?' },
    ];
  const { examineDatabase } = await import('../../store/examine.ts');
  const { openStore } = await import('../../store/open-store.ts');
  try {
    const { database, store } = await openStore(address);
    try {
      const { isSound, seen, remedy } = await examineDatabase(address, database);
      const sound: Check = { what, result: isSound ? 'ok' : 'wrong', seen, ...(!isSound && { remedy }) };
      const bootstrap = await store.liveBootstrapKeys(Date.now());
      const keys: Check =
        bootstrap.length === 0
          ? { what: 'bootstrap key', result: 'ok', seen: 'none is alive' }
          : {
              what: 'bootstrap key',
              result: 'warning',
              seen: `alive, of the API client ${bootstrap.map(({ clientId }) => clientId).join(', ')}`,
              remedy: 'Make an administrator of your own, then: apigw clients delete <id>',
            };
      return [sound, keys];
    } finally {
      await database.close();
    }
  } catch (error) {
    return [{ what, result: 'wrong', seen: (error as Error).message }];
  }
}

function checkSpace(databaseFile: string): Check {
  const what = 'disk';
  try {
    const { bavail, bsize } = statfsSync(dirname(databaseFile));
    const seen = `${Math.floor((bavail * bsize) / 1024 / 1024)} MB are left beside the database`;
    return { what, result: bavail * bsize < leastSpace ? 'warning' : 'ok', seen };
  } catch (error) {
    return { what, result: 'wrong', seen: (error as Error).message };
  }
}
