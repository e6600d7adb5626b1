import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { accepts, startServer, type Server } from '../process.ts';

export interface NginxOptions {
  readonly name: string;
  readonly workers: number;
  /** What stands in the http block. */
  readonly http: string;
  /** A port or the path of a socket that it listens on. */
  readonly listensOn: number | string;
}

/** An nginx of the benchmark's own; its folder is `bench.folder(name)`. */
export function startNginx(bench: Bench, { name, workers, http, listensOn }: NginxOptions): Promise<Server> {
  const folder = bench.folder(name);
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  writeFileSync(
    join(folder, 'nginx.conf'),
    `worker_processes ${workers};
pid nginx.pid;
error_log error.log warn;
events {
  worker_connections 4096;
}
http {
${temp.map((use) => `  ${use}_temp_path temp_${use};`).join('\n')}
${http}
}
`,
  );
  return runNginx(bench, name, folder, 'nginx.conf', listensOn);
}

export function runNginx(
  bench: Bench,
  name: string,
  prefix: string,
  file: string,
  listensOn: number | string,
): Promise<Server> {
  return startServer(bench, {
    name,
    command: ['nginx', '-p', prefix, '-e', 'stderr', '-c', file, '-g', 'daemon off;'],
    isReady: () => accepts(listensOn),
  });
}
