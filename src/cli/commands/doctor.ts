import { existsSync, statfsSync } from 'node:fs';
import { connect, type ConnectionOptions, type PeerCertificate, type SecureVersion } from 'node:tls';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import type { Config } from '../../config.ts';
import type { DatabaseAddress } from '../../database-address.ts';
import { examineDatabase } from '../../store/examine.ts';
import { openStore } from '../../store/open-store.ts';
import { askListener, configure, expectLocal, outputOf, problemsOf } from '../connection.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import { probe, type ProbeAnswer, type ProbeOptions } from '../probe.ts';
import { showChecks, type Check } from './checks.ts';

interface Options {
  readonly http?: string;
}

/** Bytes that the database's disk should have left. */
const leastSpace = 256 * 1024 * 1024;
/** Days before the end of a certificate at which somebody should have renewed it. */
const warnBefore = 30;
const day = 24 * 3_600_000;

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description(
      'looks for what is wrong: with this gateway, or, given a URL, with a front door as anybody sees it from outside',
    )
    .argument('[url]', 'https://host or https://host:port; nothing is changed there, and no credential is sent')
    .option('--http <url>', 'its plain HTTP side (default: http:// and the same host, on port 80)')
    .action(async (url: string | undefined, options: Options, command: Command) => {
      if (url === undefined) expectLocal(command);
      const checks = url === undefined ? await examineGateway() : await examineFrontDoor(url, options);
      showChecks(checks, outputOf(command));
      if (checks.some(({ result }) => result === 'wrong')) process.exitCode = exitCodes.failed;
    });
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
    await checkReadiness(config),
    ...(await checkStore(database)),
    ...(typeof database === 'string' ? [checkSpace(database)] : []),
  ];
}

async function checkReadiness({ managementListen }: Config): Promise<Check> {
  const what = 'gateway';
  try {
    const { status, body } = await askListener(managementListen, '/readyz');
    return { what, result: status === 200 ? 'ok' : 'wrong', seen: body.trim() };
  } catch (error) {
    const remedy = 'Is it running? docker compose ps, systemctl status apigw-gateway, or npm run up';
    return { what, result: 'wrong', seen: (error as Error).message, remedy };
  }
}

async function checkStore(address: DatabaseAddress): Promise<Check[]> {
  const what = 'database';
  if (typeof address === 'string' && !existsSync(address))
    return [
      { what, result: 'wrong', seen: `${address} does not exist`, remedy: 'Is DATABASE_URL that of the gateway?' },
    ];
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

/** What is tried without a credential, and must not get through. */
const attempts: readonly (readonly [what: string, path: string, options: ProbeOptions])[] = [
  ['no credential', '/', {}],
  ['a made-up key', '/', { headers: { Authorization: `apk 1.${'A'.repeat(64)}` } }],
  ['junk as a credential', '/', { headers: { Authorization: 'Bearer junk' } }],
  ['an empty credential', '/', { headers: { Authorization: 'apk ' } }],
  [
    'identity headers of its own',
    '/',
    { headers: { 'X-Client-Id': '1', 'X-Client-Name': 'doctor', X_Client_Id: '1', 'X-Auth-Decision': 'granted' } },
  ],
  ['settings of its own', '/', { headers: { 'X-Policy': 'api_keys_enabled=off', 'X-Policy-Require-Admin': 'off' } }],
  ['another path by header', '/livez', { headers: { 'X-Original-URL': '/', 'X-Rewrite-URL': '/' } }],
  ['a path with ..', '/livez/../', {}],
  ['an encoded ..', '/livez/%2e%2e/', {}],
  ['an encoded slash', '/livez%2f..%2f', {}],
  ['a double slash', '//', {}],
  ['a prefix of an open path', '/livezz', {}],
  ["the gateway's own location", '/_apigw/decision', {}],
  ['metrics', '/metrics', {}],
  ['the management API', '/v1/management/api-clients', {}],
  ['HEAD', '/', { method: 'HEAD' }],
  ['OPTIONS', '/', { method: 'OPTIONS' }],
  ['PROPFIND', '/', { method: 'PROPFIND' }],
  [
    'a WebSocket',
    '/',
    {
      headers: {
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'ZG9jdG9yIGRvY3RvciEhIQ==',
      },
    },
  ],
  ['a large upload', '/', { method: 'POST', headers: { 'Content-Length': '1073741824', Expect: '100-continue' } }],
];

async function examineFrontDoor(text: string, { http }: Options): Promise<Check[]> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:')
    throw new CliError(
      `The URL is ${JSON.stringify(text)}; allowed: https://host or https://host:port.`,
      exitCodes.usage,
    );
  await probe(url.origin);
  const checks: Check[] = [];
  for (const [what, path, options] of attempts) checks.push(await attempt(url.origin, what, path, options));
  const clear = http ?? `http://${url.hostname}`;
  return [...checks, await checkPlainHttp(clear), ...(await checkTls(url))];
}

async function attempt(origin: string, what: string, path: string, options: ProbeOptions): Promise<Check> {
  const answer = await probe(origin, { path, ...options }).catch((error: unknown) => error as Error);
  if (answer instanceof Error) return { what, result: 'ok', seen: `no answer: ${answer.message}` };
  const seen = `${answer.status}${answer.headers['x-request-id'] === undefined ? '' : ` ${reasonOf(answer)}`}`;
  const isLetIn = answer.status < 300 || answer.status === 101;
  // an answer to a preflight is nginx's own, and has nothing of the application
  if (isLetIn && options.method === 'OPTIONS' && answer.status === 204) return { what, result: 'ok', seen };
  // what is public is public: the gateway's own health
  if (isLetIn && /"status":\s*"alive"/.test(answer.body)) return { what, result: 'ok', seen: `${seen}: health` };
  if (!isLetIn) return { what, result: answer.status >= 500 ? 'warning' : 'ok', seen };
  const remedy = 'It is let in without a credential: does its location in default.conf ask the gateway?';
  return { what, result: 'wrong', seen, remedy };
}

function reasonOf({ body }: ProbeAnswer): string {
  return /"reason":\s*"(\w+)"/.exec(body)?.[1] ?? '';
}

async function checkPlainHttp(url: string): Promise<Check> {
  const what = 'plain HTTP';
  const answer = await probe(url).catch((error: unknown) => error as Error);
  if (answer instanceof Error) return { what, result: 'ok', seen: `${url}: nobody answers` };
  const location = answer.headers.location ?? '';
  if (answer.status >= 300 && answer.status < 400 && location.startsWith('https://'))
    return { what, result: 'ok', seen: `${url} redirects to ${location}` };
  const result = answer.status < 400 ? 'wrong' : 'warning';
  return { what, result, seen: `${url} answers ${answer.status}`, remedy: 'Credentials would pass in clear.' };
}

async function checkTls({ hostname, port }: URL): Promise<Check[]> {
  const host = hostname.replace(/^\[|\]$/g, '');
  const target = { host, port: Number(port || 443), servername: /[a-z]/i.test(host) ? host : '' };
  const old = await handshake({ ...target, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
  const versions: Check[] = [
    old instanceof Error
      ? { what: 'TLS 1.0 and 1.1', result: 'ok', seen: 'refused' }
      : {
          what: 'TLS 1.0 and 1.1',
          result: 'wrong',
          seen: 'accepted',
          remedy: 'ssl_protocols TLSv1.2 TLSv1.3; in ssl.conf',
        },
  ];
  for (const version of ['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]) {
    const found = await handshake({ ...target, minVersion: version, maxVersion: version });
    const what = version.replace('v', ' ');
    versions.push(
      found instanceof Error
        ? { what, result: 'warning', seen: found.message }
        : { what, result: 'ok', seen: 'accepted' },
    );
  }
  const found = await handshake(target);
  return found instanceof Error ? versions : [...versions, checkCertificate(found)];
}

interface Handshake {
  readonly certificate: PeerCertificate;
  /** Why a client would not trust it; empty when it would. */
  readonly fault: string;
}

function handshake(options: ConnectionOptions): Promise<Handshake | Error> {
  return new Promise((resolve) => {
    const socket = connect({ ...options, rejectUnauthorized: false, timeout: 10_000 }, () => {
      const { authorizationError } = socket as { authorizationError?: Error | string };
      resolve({ certificate: socket.getPeerCertificate(), fault: String(authorizationError ?? '') });
      socket.destroy();
    });
    socket.on('timeout', () => socket.destroy(new Error('no answer within 10 s')));
    socket.on('error', resolve);
  });
}

function checkCertificate({ certificate, fault }: Handshake): Check {
  const what = 'certificate';
  const days = Math.floor((Date.parse(certificate.valid_to) - Date.now()) / day);
  const seen = `for ${certificate.subjectaltname ?? 'no name'}, ${days} days left`;
  if (days < 0) return { what, result: 'wrong', seen, remedy: 'Put a new one in place and reload.' };
  if (days < warnBefore) return { what, result: 'warning', seen, remedy: 'Renew it.' };
  if (fault === '') return { what, result: 'ok', seen };
  return { what, result: 'warning', seen: `${seen}; clients do not trust it: ${fault}` };
}
