import { copyFileSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Bench } from '../bench.ts';
import { freePort } from '../process.ts';
import type { Target } from '../set-ups/set-up.ts';
import { certificate } from './certificate.ts';
import { startNginx } from './nginx.ts';
import { alwaysGranted, application } from './upstreams.ts';

/** nginx's workers, the same for every front: as many as stage.sh gives to ours. */
export const frontWorkers = Math.min(8, availableParallelism());

export interface FrontOptions {
  readonly name: string;
  readonly isAsking: boolean;
  readonly hasTls?: boolean;
  /** Whether connections to the upstreams are kept. */
  readonly isKeepingAlive?: boolean;
}

/** The configuration that somebody who knows nginx would write by hand, with an access log like ours. */
export function conventionalFront(bench: Bench, options: FrontOptions): Promise<Omit<Target, 'credentials'>> {
  const { name, isAsking, hasTls = false } = options;
  return bench.shared(`front ${name}`, async () => {
    const { socket: appSocket, pid: appPid } = await application(bench);
    const granted = isAsking ? await alwaysGranted(bench) : undefined;
    if (hasTls) await layOutTls(bench, name);
    const port = await freePort();
    const { pid } = await startNginx(bench, {
      name,
      workers: frontWorkers,
      listensOn: port,
      http: writeFront(options, port, appSocket, granted?.socket),
    });
    return {
      url: `${hasTls ? 'https' : 'http'}://127.0.0.1:${port}/`,
      processes: { front: [pid], gateway: granted ? [granted.pid] : [], application: [appPid] },
      logs: [join(bench.folder(name), 'access.log')],
      refusesStrangers: false,
    };
  });
}

/** The shipped TLS settings, which name the files beside them. */
async function layOutTls(bench: Bench, name: string): Promise<void> {
  const from = await certificate(bench);
  const folder = join(bench.folder(name), 'ssl');
  mkdirSync(folder);
  copyFileSync(join(bench.root, 'nginx/ssl/ssl.conf'), join(folder, 'ssl.conf'));
  for (const file of ['nginx.crt', 'nginx.key']) copyFileSync(join(from, file), join(folder, file));
}

function writeFront(
  { hasTls = false, isKeepingAlive = true }: FrontOptions,
  port: number,
  appSocket: string,
  grantedSocket: string | undefined,
): string {
  const keepAlive = isKeepingAlive ? 'keepalive 64;' : '';
  const keepAliveHeaders = isKeepingAlive ? 'proxy_http_version 1.1;\n      proxy_set_header Connection "";' : '';
  const asking = `
    auth_request /decision;
    auth_request_set $id     $upstream_http_x_client_id;
    auth_request_set $name   $upstream_http_x_client_name;
    auth_request_set $method $upstream_http_x_auth_method;
    location = /decision {
      internal;
      auth_request off;
      access_log off;
      proxy_pass http://gateway/decision;
      proxy_pass_request_headers off;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Authorization $http_authorization;
      ${keepAliveHeaders}
    }`;
  const notAsking = `
    set $id "";
    set $name "";
    set $method "";`;
  return `  server_tokens off;
  sendfile on;
  tcp_nopush on;
  log_format json escape=json
    '{"time":"$time_iso8601","request_id":"$request_id","remote_addr":"$remote_addr","method":"$request_method",'
    '"host":"$host","path":"$uri","protocol":"$server_protocol","status":$status,"bytes":$body_bytes_sent,'
    '"duration":$request_time,"upstream_status":"$upstream_status","client_id":"$id",'
    '"client_name":"$name","auth_method":"$method","auth_reason":""}';
  access_log access.log json;
  ${hasTls ? 'include ssl/ssl.conf;' : ''}
  upstream application {
    server unix:${appSocket};
    ${keepAlive}
  }
  ${grantedSocket === undefined ? '' : `upstream gateway {\n    server unix:${grantedSocket};\n    ${keepAlive}\n  }`}
  server {
    listen 127.0.0.1:${port}${hasTls ? ' ssl' : ''};
    ${grantedSocket === undefined ? notAsking : asking}
    location / {
      proxy_pass http://application;
      ${keepAliveHeaders}
      proxy_set_header Host $host;
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Client-Id $id;
      proxy_set_header X-Client-Name $name;
      proxy_set_header X-Auth-Method $method;
      proxy_set_header Authorization "";
    }
  }`;
}
