import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import pg from 'pg';
import { asOwner, type Postgres } from './postgres.ts';
import { freePorts, makeTempDir, until } from './stack.ts';

/** A real PgBouncer before a server of ours. */
export interface Pooler {
  readonly url: (database: string) => string;
  /** Makes it open so many connections to the server, which it then gives in turn. */
  readonly open: (database: string, connections: number) => Promise<void>;
}

const running = new Set<ChildProcess>();
after(() => {
  for (const child of running) child.kill('SIGKILL');
});

/** In transaction mode, and as hard on its users as it can be: a session ends with each transaction. */
export const forgetful = ['server_reset_query_always = 1'];

/** In transaction mode, in which each transaction is on another connection of the server. */
export async function startPooler(server: Postgres, settings: readonly string[] = []): Promise<Pooler> {
  const dir = makeTempDir();
  chmodSync(dir, 0o755);
  const [port = 0] = await freePorts(1);
  const ini = join(dir, 'pgbouncer.ini');
  const lines = [
    '[databases]',
    `* = host=127.0.0.1 port=${server.port} user=apigw`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    'pool_mode = transaction',
    'server_round_robin = 1',
    ...settings,
  ];
  writeFileSync(ini, `${lines.join('\n')}\n`);
  const child = spawn('pgbouncer', [ini], { ...asOwner, cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-20_000)));
  const connect = async (database: string) => {
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'apigw', database });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };
  await until('PgBouncer answers', async () => {
    if (child.exitCode !== null) throw new Error(`PgBouncer ended: ${output}`);
    return connect('postgres').then(
      (client) => client.end().then(() => true),
      () => false,
    );
  });
  return {
    url: (database) => `postgres://apigw@127.0.0.1:${port}/${database}`,
    async open(database, connections) {
      const clients = await Promise.all(Array.from({ length: connections }, () => connect(database)));
      await Promise.all(clients.map((client) => client.query('begin')));
      await Promise.all(clients.map((client) => client.end()));
    },
  };
}
