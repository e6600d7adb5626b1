import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { Skip, type Bench } from '../bench.ts';
import { freePort, isInstalled, runProgram, startServer } from '../process.ts';

export interface PostgresServer {
  readonly pid: number;
  /** Of the server, such as 15.14. */
  readonly version: string;
  /** The URL of a new, empty database. */
  readonly createDatabase: (name: string) => Promise<string>;
  /** What its own housekeeping would do some time later; it may take longer than a gateway has patience. */
  readonly vacuum: (name: string) => Promise<void>;
  readonly bytesOf: (name: string) => Promise<number>;
}

/** A PostgreSQL server as it comes, which flushes every commit to the disk. */
export function postgres(bench: Bench): Promise<PostgresServer> {
  return bench.shared('PostgreSQL', () => start(bench));
}

/** @throws {Skip} */
async function start(bench: Bench): Promise<PostgresServer> {
  const bin = findPrograms(bench);
  const dir = bench.folder('postgres');
  const asUser = ownUser(dir);
  const run = (program: string, args: readonly string[]) => [...asUser, join(bin, program), ...args] as const;
  const [command = '', ...args] = run('initdb', [
    '-A',
    'trust',
    '-U',
    'apigw',
    '--encoding=UTF8',
    '-D',
    join(dir, 'data'),
  ]);
  await runProgram(bench, command, args);
  const port = await freePort();
  const connect = async (database: string) => {
    const client = new pg.Client({ host: dir, port, user: 'apigw', database });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };
  const ask = async (database: string, sql: string): Promise<unknown> => {
    const client = await connect(database);
    try {
      const { rows } = await client.query<Record<string, unknown>>(sql);
      return Object.values(rows[0] ?? {})[0];
    } finally {
      await client.end();
    }
  };
  const [program = '', ...options] = run('postgres', ['-D', join(dir, 'data'), '-p', String(port), '-k', dir]);
  const { pid } = await startServer(bench, {
    name: 'PostgreSQL',
    command: [program, ...options],
    isReady: () =>
      ask('postgres', 'select 1').then(
        () => true,
        () => false,
      ),
    stopWith: [['SIGINT', 10_000]],
  });
  return {
    pid,
    version: String(await ask('postgres', 'show server_version')).split(' ')[0] ?? '',
    async createDatabase(name) {
      await ask('postgres', `create database ${name}`);
      return `postgres://apigw@127.0.0.1:${port}/${name}`;
    },
    async vacuum(name) {
      await ask(name, 'vacuum analyze');
    },
    bytesOf: async (name) => Number(await ask(name, 'select pg_database_size(current_database())')),
  };
}

/** The folder of its programs, which Debian leaves out of the PATH. */
function findPrograms(bench: Bench): string {
  const versions = '/usr/lib/postgresql';
  const newest = (existsSync(versions) ? readdirSync(versions) : [])
    .filter((version) => existsSync(join(versions, version, 'bin/initdb')))
    .sort((one, other) => Number(one) - Number(other))
    .at(-1);
  if (newest !== undefined) return join(versions, newest, 'bin');
  if (isInstalled(bench, 'initdb')) return '';
  throw new Skip('PostgreSQL is not installed');
}

/** The server refuses to be root's; returns what runs a command as somebody else, when we are root. */
function ownUser(dir: string): readonly string[] {
  if (process.getuid?.() !== 0) return [];
  const user = 'postgres';
  const idOf = (option: string) => {
    try {
      return Number(execFileSync('id', [option, user], { encoding: 'utf8', stdio: 'pipe' }));
    } catch {
      throw new Skip(`root needs the user ${user} for PostgreSQL`);
    }
  };
  chownSync(dir, idOf('-u'), idOf('-g'));
  return ['setpriv', '--reuid', user, '--regid', user, '--clear-groups', '--'];
}
