import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePorts, makeTempDir, until } from './stack.ts';

/** A real PostgreSQL server of this test process alone, on a port and a Unix socket of its own. */
export interface Postgres {
  readonly port: number;
  /** Folder of the data and of the socket. */
  readonly dir: string;
  /** The URL of a database, as `DATABASE_URL` has it. */
  readonly url: (database: string, parameters?: string) => string;
  /** A new, empty database. */
  readonly createDatabase: (options?: string) => Promise<string>;
  /** As a user who may do everything. */
  readonly sql: <Row extends object = Record<string, unknown>>(
    database: string,
    text: string,
    values?: unknown[],
  ) => Promise<Row[]>;
  readonly start: () => Promise<void>;
  /** 'fast' ends what is under way; 'immediate' is a crash. */
  readonly stop: (how?: 'fast' | 'immediate') => Promise<void>;
  readonly pid: () => number;
}

export interface PostgresOptions {
  /** Lines of postgresql.conf. */
  readonly conf?: readonly string[];
  readonly hba?: readonly string[];
  /** Of this one it is a standby, which follows it by streaming; `conf` of the other counts too. */
  readonly standbyOf?: Postgres;
  /** Of the machine, 127.0.0.1 to 127.255.255.254, and a port that is free there. */
  readonly address?: string;
  readonly port?: number;
  /** Files that the server may read, such as its key. */
  readonly files?: Readonly<Record<string, string>>;
}

const runFile = promisify(execFile);

// at the end of all tests of this process
const stops: (() => Promise<void>)[] = [];
after(() => Promise.all(stops.map((stop) => stop())));

/** The server refuses to be root's. */
export const asOwner = process.getuid?.() === 0 ? idOf(['postgres', 'nobody']) : {};

function idOf(names: readonly string[]): { uid?: number; gid?: number } {
  for (const name of names) {
    try {
      const id = (option: string) => Number(execFileSync('id', [option, name], { encoding: 'utf8', stdio: 'pipe' }));
      return { uid: id('-u'), gid: id('-g') };
    } catch {
      // the next one
    }
  }
  throw new Error('root needs another user for PostgreSQL');
}

/** The path of one of the server's programs, which Debian leaves out of the PATH. */
export function postgresProgram(name: string): string {
  const versions = existsSync('/usr/lib/postgresql') ? readdirSync('/usr/lib/postgresql').sort() : [];
  const path = join('/usr/lib/postgresql', versions.at(-1) ?? '', 'bin', name);
  return existsSync(path) ? path : name;
}

export async function startPostgres({
  conf = [],
  hba = [],
  files = {},
  standbyOf,
  address = '127.0.0.1',
  port: wantedPort,
}: PostgresOptions = {}): Promise<Postgres> {
  const dir = makeTempDir();
  chmodSync(dir, 0o755);
  const data = join(dir, 'data');
  if (asOwner.uid !== undefined) chownSync(dir, asOwner.uid, asOwner.gid ?? 0);
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C.UTF-8' };
  const run = (program: string, args: readonly string[]) =>
    runFile(postgresProgram(program), [...args, '-D', data, '-U', 'apigw', '-N'], { ...asOwner, env, cwd: dir });
  // another order of letters than that of bytes, as servers usually have
  const language = ['--locale-provider=icu', '--icu-locale=en-US', '--encoding=UTF8'];
  if (standbyOf)
    await run('pg_basebackup', ['-h', standbyOf.dir, '-p', String(standbyOf.port), '-R', '-X', 'stream', '-c', 'fast']);
  else await run('initdb', ['-A', 'trust', ...language]);
  const port = wantedPort ?? ((await freePorts(1)) as [number])[0];
  const add = (name: string, text: string, mode = 0o600) => {
    writeFileSync(join(data, name), text, { mode });
    if (asOwner.uid !== undefined) chownSync(join(data, name), asOwner.uid, asOwner.gid ?? 0);
  };
  for (const [name, text] of Object.entries(files)) add(name, text);
  const lines = [
    `listen_addresses = '${address}'`,
    `port = ${port}`,
    `unix_socket_directories = '${dir}'`,
    'fsync = off',
    'max_connections = 100',
    'shared_buffers = 16MB',
    'max_wal_size = 128MB',
    'logging_collector = off',
    ...conf,
  ];
  add('postgresql.conf', `${lines.join('\n')}\n`);
  add('pg_hba.conf', `${[...hba, 'local all,replication all trust', 'host all all 127.0.0.0/8 trust'].join('\n')}\n`);

  let server: ChildProcess | undefined;
  let output = '';
  let count = 0;

  async function connect(database: string): Promise<pg.Client> {
    const client = new pg.Client({ host: dir, port, user: 'apigw', database });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  async function sql<Row extends object>(database: string, text: string, values: unknown[] = []): Promise<Row[]> {
    const client = await connect(database);
    try {
      return (await client.query<Row>(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  const stop = async (how: 'fast' | 'immediate' = 'fast') => {
    const running = server;
    server = undefined;
    if (running?.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill(how === 'fast' ? 'SIGINT' : 'SIGQUIT');
    await ended;
  };
  const start = async () => {
    const started = spawn(postgresProgram('postgres'), ['-D', data], { ...asOwner, env, cwd: dir });
    server = started;
    for (const stream of [started.stdout, started.stderr])
      stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-20_000)));
    await until(
      'PostgreSQL answers',
      async () => {
        if (started.exitCode !== null) throw new Error(`PostgreSQL ended: ${output}`);
        return connect('postgres').then(
          (client) => client.end().then(() => true),
          () => false,
        );
      },
      20_000,
    );
  };
  process.on('exit', () => server?.kill('SIGQUIT'));
  stops.push(() => stop('immediate'));
  await start();

  return {
    port,
    dir,
    url: (database, parameters = '') => `postgres://apigw@${address}:${port}/${database}${parameters}`,
    async createDatabase(options = '') {
      const name = `test_${++count}`;
      await sql('postgres', `create database ${name} ${options}`);
      return name;
    },
    sql,
    start,
    stop,
    pid: () => server?.pid ?? 0,
  };
}

let shared: Promise<Postgres> | undefined;

/** One server for all tests of this process that need no other. */
export function sharedPostgres(): Promise<Postgres> {
  return (shared ??= startPostgres());
}
