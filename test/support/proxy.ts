import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { startChild } from '../../src/local/child.ts';
import { startApplication, type Application } from './application.ts';
import { FrontDoor } from './front-door.ts';
import { freePorts, makeTempDir, root, until } from './stack.ts';

/** The shipped nginx in front of gateways that the test starts and stops by itself. */
export interface Proxy extends FrontDoor {
  readonly application: Application;
  readonly stop: () => Promise<void>;
}

/** With what an operator writes into APIGW_SOCKET_DIR, or with other settings of the proxy in its place. */
export async function startProxy(gateways: string | Readonly<Record<string, string>>): Promise<Proxy> {
  const application = await startApplication();
  const [httpPort, httpsPort] = await freePorts(2);
  const prefix = makeTempDir();
  const nginx = process.env['APIGW_NGINX'] ?? 'nginx';
  const env = {
    PATH: process.env['PATH'],
    APIGW_PREFIX: prefix,
    APIGW_NGINX: nginx,
    ...(typeof gateways === 'string' ? { APIGW_SOCKET_DIR: gateways } : gateways),
    APIGW_APP_UPSTREAM: `127.0.0.1:${application.port}`,
    APIGW_HTTP_PORT: String(httpPort),
    APIGW_HTTPS_PORT: String(httpsPort),
    // the gateways of a test are of its own user
    ...(process.getuid?.() === 0 && { APIGW_WORKER_USER: 'root' }),
  };
  for (const script of ['stage.sh', 'check.sh']) execFileSync('sh', [join(root, 'nginx', script)], { env });
  const child = startChild({
    name: 'nginx',
    command: [nginx, '-p', prefix, '-e', 'logs/error.log', '-c', 'current/nginx.conf', '-g', 'daemon off;'],
    env: { PATH: process.env['PATH'] },
    output: new PassThrough().resume(),
    stopWith: [['SIGTERM', 2_000]],
  });
  const door = new FrontDoor(httpsPort, httpPort);
  const answers = () => door.ask('/').then(Boolean, () => false);
  await until('nginx answers', () => Promise.race([child.failed, answers()]));
  return Object.assign(door, {
    application,
    stop: async () => {
      await child.stop();
      await application.close();
    },
  });
}
