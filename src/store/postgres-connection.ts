import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import type { PostgresAddress } from '../database-address.ts';
import { certificatesIn } from '../pem.ts';

// Everything that depends on the PostgreSQL driver is in this file.

export type Connection = pg.Client;

/** The connection is of no use any more, or there is none. */
export class ConnectionBroken extends Error {
  override readonly name = 'ConnectionBroken';
  readonly code = 'CONNECTION_BROKEN';
}

/** Milliseconds. nginx gives up on a decision after 4 s. */
export const times = {
  /** For one address, until it can be asked. */
  connect: 2_000,
  /** What the server may take for a statement, and what a connection may be silent while one is under way. */
  statement: 2_500,
  silence: 3_000,
  /** For the end of the change of another gateway. */
  lock: 2_000,
  /** What a gateway that has stopped in the middle of a change may hold up all others. */
  idleInTransaction: 5_000,
};

interface Candidate {
  readonly host: string;
  readonly port: number;
  /** As the address has it, for messages and for the certificate. */
  readonly name: string;
}

export interface ConnectOptions {
  /** No limits, for what may take long. */
  readonly isPatient?: boolean;
}

/** What this program can count on. */
interface Session {
  readonly is_standby: boolean;
  readonly encoding: string;
}

const bool = 16;
const int8 = 20;

type Parser = (text: string) => unknown;
const parserOf = pg.types.getTypeParser as (oid: number, format?: string) => Parser;

/** Of this program's connections alone: numbers as SQLite has them. */
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid: number, format?: string): Parser => {
    if (oid === bool) return (text) => Number(text === 't');
    return oid === int8 ? toSafeInteger : parserOf(oid, format);
  },
};

function toSafeInteger(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value;
  throw Object.assign(new Error(`the database has the number ${text}, which is beyond 2^53`), { code: 'NUMBER_RANGE' });
}

/**
 * Connects to the primary: the first of all hosts, and of all addresses that their names have now, that is one.
 *
 * @throws {ConnectionBroken} saying of each what is wrong
 */
export async function connect(address: PostgresAddress, options: ConnectOptions = {}): Promise<Connection> {
  const faults: string[] = [];
  for (const { host, port } of address.hosts) {
    const found = await addressesOf(host, port).catch((error: unknown) => error as Error);
    if (found instanceof Error) faults.push(found.message);
    else {
      for (const candidate of found) {
        try {
          return await connectTo(candidate, address, options);
        } catch (error) {
          faults.push(`${candidate.name}: ${inWords(error as NodeJS.ErrnoException, address)}`);
        }
      }
    }
  }
  throw new ConnectionBroken([...new Set(faults)].join('; '));
}

/** What OpenSSL says of a certificate that no authority it knows has signed. */
const isOfNoAuthority = /SELF_SIGNED|UNABLE_TO_(?:GET_ISSUER|VERIFY)|CERT_SIGNATURE_FAILURE/;

function inWords({ code = '', message }: NodeJS.ErrnoException, { caFile, password }: PostgresAddress): string {
  if (isOfNoAuthority.test(code))
    return caFile === undefined
      ? `no authority that Node trusts has signed its certificate, and sslrootcert names no other (${message})`
      : `its certificate is not signed by an authority in ${caFile}, which sslrootcert names (${message})`;
  if (password === undefined && message.includes('password must be a'))
    return 'it asks for a password, and there is none: set DATABASE_PASSWORD_FILE or DATABASE_PASSWORD';
  return message || code;
}

async function addressesOf(host: string, port: number): Promise<Candidate[]> {
  const name = `${host}:${port}`;
  if (host.startsWith('/') || isIP(host) !== 0) return [{ host, port, name }];
  const found = await lookup(host, { all: true });
  return found.map((one) => ({ host: one.address, port, name }));
}

async function connectTo(candidate: Candidate, address: PostgresAddress, options: ConnectOptions): Promise<Connection> {
  const ssl = candidate.host.startsWith('/') ? undefined : tlsOptions(candidate, address);
  const client = await open(candidate, address, ssl).catch((error: unknown) => {
    // as libpq: with whoever has no TLS, without
    if (ssl && address.tls === 'prefer' && /does not support SSL/.test((error as Error).message))
      return open(candidate, address, undefined);
    throw error;
  });
  try {
    await begin(client, options);
    return client;
  } catch (error) {
    void client.end().catch(() => undefined);
    throw error;
  }
}

async function open(
  { host, port }: Candidate,
  { user, password, database, applicationName }: PostgresAddress,
  ssl: ConnectionOptions | undefined,
): Promise<Connection> {
  const client = new pg.Client({
    host,
    port,
    user,
    // a function, so that nothing is looked for where libpq would look
    password: password ?? (() => Promise.resolve('')),
    database,
    ssl: ssl ?? false,
    application_name: applicationName,
    connectionTimeoutMillis: times.connect,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types,
  });
  // without a listener it would end the process; whoever uses the connection learns of it from his statement
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

async function begin(client: Connection, { isPatient = false }: ConnectOptions): Promise<void> {
  const limit = (milliseconds: number) => (isPatient ? '0' : `${milliseconds}ms`);
  const { rows } = await withDeadline(
    client,
    client.query<Session>(
      `select pg_is_in_recovery() as is_standby, current_setting('server_encoding') as encoding,
        set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
        set_config('idle_in_transaction_session_timeout', $3, false)`,
      [limit(times.statement), limit(times.lock), limit(times.idleInTransaction)],
    ),
    times.connect,
  );
  const [session] = rows;
  if (session?.is_standby) throw new Error('it is a standby, which can only be read and may be behind');
  if (session?.encoding !== 'UTF8')
    throw new Error(
      `the encoding of the database is ${session?.encoding ?? 'unknown'}, and must be UTF8: create database ... encoding 'UTF8' template template0`,
    );
}

/** The promise of a statement; a connection that is silent for so long is broken, and all that waits for it fails. */
export async function withDeadline<T>(client: Connection, statement: Promise<T>, milliseconds: number): Promise<T> {
  const timer = setTimeout(() => {
    client.connection.stream.destroy(new ConnectionBroken(`no answer within ${milliseconds / 1_000} s`));
  }, milliseconds);
  try {
    return await statement;
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the connection cannot be used any more, by what a statement has failed with. */
export function isBroken(error: unknown): boolean {
  const { code = '' } = error as { code?: string };
  // no word of the server (EPIPE has five letters too), or: connection, shutdown, what only a standby says
  return !/^[0-9A-DF-Z][0-9A-Z]{4}$/.test(code) || /^(?:08|57P0|25006)/.test(code);
}

function tlsOptions({ host, name }: Candidate, { tls, ...files }: PostgresAddress): ConnectionOptions | undefined {
  if (tls === 'disable') return undefined;
  const ca = files.caFile === undefined ? undefined : readAuthorities(files.caFile);
  const isVerified = tls.startsWith('verify') || (tls === 'require' && ca !== undefined);
  const serverName = name.replace(/:\d+$/, '');
  return {
    rejectUnauthorized: isVerified,
    ...(ca !== undefined && { ca }),
    // pg leaves it alone when the host is an address, which here it always is
    ...(isIP(serverName) === 0 && { servername: serverName }),
    ...(isVerified && tls !== 'verify-full' && { checkServerIdentity: () => undefined }),
    ...(files.certificateFile !== undefined && { cert: readPem('sslcert', files.certificateFile) }),
    ...(files.keyFile !== undefined && { key: readPem('sslkey', files.keyFile) }),
    host,
  };
}

function readAuthorities(file: string): string {
  const ca = readPem('sslrootcert', file);
  if (certificatesIn(ca) === undefined)
    throw new Error(`sslrootcert: ${file} has no certificate in PEM form, or one that cannot be read`);
  return ca;
}

function readPem(parameter: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`${parameter}: ${(error as Error).message}`, { cause: error });
  }
}

/** One connection, opened when it is needed and again when it broke. Statements take turns. */
export interface SteadyConnection {
  readonly query: <Row>(statement: Statement) => Promise<Row[]>;
  readonly close: () => Promise<void>;
}

export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** Prepared once for each connection, where that holds. It must be one that can be asked twice. */
  readonly isPrepared?: boolean;
}

/** Prepared statements by their names. One name is one text, whoever else has prepared something on a pooler's connection. */
const nameOf = (text: string): string => `apigw_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`;
/** There is none of that name, or there is one already. */
const isNotPrepared = (error: unknown): boolean => ['26000', '42P05'].includes((error as { code?: string }).code ?? '');

/** Milliseconds until a server that was not to be had is tried again. */
const firstPause = 100;
const longestPause = 1_000;

/** @param prepare what is done with each new connection, first */
export function createSteadyConnection(
  address: PostgresAddress,
  prepare: (client: Connection) => Promise<void> = () => Promise.resolve(),
): SteadyConnection {
  let current: Connection | undefined;
  let turn: Promise<unknown> = Promise.resolve();
  let pause = firstPause;
  let retryAt = 0;
  let lastFault: unknown;
  let isClosed = false;
  const names = new Map<string, string>();
  /** Not where a pooler gives every transaction another connection of the server. */
  let canPrepare = true;

  async function open(): Promise<Connection> {
    if (isClosed) throw new ConnectionBroken('the connection is closed');
    // whoever comes meanwhile need not wait for the same
    if (performance.now() < retryAt) throw lastFault;
    try {
      const client = await connect(address);
      canPrepare = true;
      client.once('end', () => {
        if (current === client) current = undefined;
      });
      await prepare(client).catch((error: unknown) => {
        void client.end().catch(() => undefined);
        throw error;
      });
      pause = firstPause;
      return client;
    } catch (error) {
      lastFault = error;
      retryAt = performance.now() + pause;
      pause = Math.min(2 * pause, longestPause);
      throw error;
    }
  }

  function prepared(text: string): { name: string } {
    let name = names.get(text);
    if (name === undefined) {
      name = nameOf(text);
      names.set(text, name);
    }
    return { name };
  }

  async function run<Row>(wanted: Statement): Promise<Row[]> {
    const { text, values = [], isPrepared = false } = wanted;
    const client = (current ??= await open());
    try {
      const statement = client.query({ text, values: [...values], ...(isPrepared && canPrepare && prepared(text)) });
      return (await withDeadline(client, statement, times.silence)).rows as Row[];
    } catch (error) {
      if (isPrepared && canPrepare && isNotPrepared(error)) {
        canPrepare = false;
        return run(wanted);
      }
      if (isBroken(error)) {
        current = undefined;
        void client.end().catch(() => undefined);
      }
      throw error;
    }
  }

  return {
    query<Row>(statement: Statement) {
      const result = turn.then(() => run<Row>(statement));
      turn = result.catch(() => undefined);
      return result;
    },
    async close() {
      isClosed = true;
      await turn;
      await current?.end().catch(() => undefined);
    },
  };
}
