import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { startNginx } from './nginx.ts';

/** A server behind the front, on a Unix socket. */
export interface Upstream {
  readonly socket: string;
  readonly pid: number;
}

/** Connections between the processes of the benchmark are never closed for their number of requests. */
const keepAlive = `  access_log off;
  keepalive_requests 1000000000;`;

/** The application that every set-up proxies to. */
export function application(bench: Bench): Promise<Upstream> {
  return bench.shared('application', async () => {
    const socket = join(bench.folder('application'), 'app.sock');
    const { pid } = await startNginx(bench, {
      name: 'application',
      workers: 1,
      listensOn: socket,
      http: `${keepAlive}
  server {
    listen unix:${socket};
    location / {
      return 200 "ok";
    }
  }`,
    });
    return { socket, pid };
  });
}

/** Answers every question as our gateway does when it grants: what no gateway can be faster than. */
export function alwaysGranted(bench: Bench): Promise<Upstream> {
  return bench.shared('granted', async () => {
    // the name that stage.sh gives to the gateway's socket
    const socket = join(bench.folder('granted'), 'decision.sock');
    const { pid } = await startNginx(bench, {
      name: 'granted',
      workers: 1,
      listensOn: socket,
      http: `${keepAlive}
  server_tokens off;
  server {
    listen unix:${socket};
    location / {
      add_header X-Auth-Decision granted;
      add_header X-Client-Id     bench-1;
      add_header X-Client-Name   bench-1;
      add_header X-Auth-Method   api_key;
      add_header Cache-Control   no-store;
      return 204;
    }
  }`,
    });
    return { socket, pid };
  });
}
