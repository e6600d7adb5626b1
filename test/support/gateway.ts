import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { join } from 'node:path';
import { after } from 'node:test';
import { gatewayCommand } from '../../src/local/stack.ts';
import { makeTempDir, root, until } from './stack.ts';

type Call = (
  method: string,
  path: string,
  key: string,
  body?: unknown,
) => Promise<{ status: number; json: Record<string, unknown> }>;

/** The gateway's process by itself, without nginx: for what happens to the process and its database. */
export interface GatewayProcess {
  readonly child: ChildProcess;
  readonly dir: string;
  readonly output: () => string;
  readonly firstKey: () => string;
  /** A request for the API clients, or below them, to the management listener, as nginx would send it. */
  readonly manage: Call;
  /** The same below /v1/management. */
  readonly call: Call;
  /** A GET of any path of the management listener, without a credential. */
  readonly ask: (path: string) => Promise<{ status: number; json: Record<string, unknown> }>;
  /** The gateway's metrics, as text. */
  readonly metrics: () => Promise<string>;
  /** The status that nginx would get for a key. */
  readonly decide: (key: string) => Promise<number>;
  readonly ended: Promise<[number | null, NodeJS.Signals | null]>;
}

// a test that fails must not leave its processes behind
const spawned = new Set<ChildProcess>();
after(() => {
  for (const child of spawned) child.kill('SIGKILL');
});

/** With `log`, an open file, that has what the process prints, and `output` has nothing. */
export function spawnGateway(
  dir = makeTempDir(),
  env: Record<string, string> = {},
  name = 'gateway',
  log?: number,
): GatewayProcess {
  const pathOf = (listener: string, otherwise: string) =>
    /^unix:(.*)/.exec(env[`APIGW_${listener}_LISTEN`] ?? '')?.[1] ?? join(dir, otherwise);
  const decision = pathOf('DECISION', `${name}-d.sock`);
  const management = pathOf('MANAGEMENT', `${name}-m.sock`);
  const [node, ...args] = gatewayCommand(root);
  const child = spawn(node, args, {
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: `sqlite:${join(dir, 'apigw.db')}`,
      APIGW_DECISION_LISTEN: `unix:${decision}`,
      APIGW_MANAGEMENT_LISTEN: `unix:${management}`,
      ...env,
    },
    stdio: ['ignore', log ?? 'pipe', log ?? 'pipe'],
  });
  spawned.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => (output += chunk.toString()));

  const ask = (socketPath: string, method: string, path: string, key: string, body?: unknown) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const headers = {
        'X-Policy-Api-Keys-Enabled': 'on',
        Authorization: `apk ${key}`,
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
      };
      const call = request({ socketPath, method, path, agent: false, headers }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('error', reject);
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, text });
        });
      });
      call.on('error', reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });

  const call: Call = async (method, path, key, body) => {
    const { status, text } = await ask(management, method, `/v1/management${path}`, key, body);
    return { status, json: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown> };
  };

  return {
    child,
    dir,
    output: () => output,
    firstKey: () => /^NEWLY GENERATED API KEY: (.*)$/m.exec(output)?.[1] ?? '',
    ended: once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>,
    call,
    manage: (method, path, key, body) => call(method, `/api-clients${path}`, key, body),
    async ask(path) {
      const { status, text } = await ask(management, 'GET', path, '');
      return { status, json: JSON.parse(text) as Record<string, unknown> };
    },
    metrics: async () => (await ask(management, 'GET', '/metrics', '')).text,
    async decide(key) {
      return (await ask(decision, 'GET', '/decision', key)).status;
    },
  };
}

export async function startGateway(dir?: string, env?: Record<string, string>, name?: string): Promise<GatewayProcess> {
  const gateway = spawnGateway(dir, env, name);
  await until(
    'the gateway is ready',
    () => {
      if (gateway.child.exitCode !== null) throw new Error(`the gateway ended: ${gateway.output()}`);
      return gateway.output().includes('"msg":"ready"');
    },
    30_000,
  );
  return gateway;
}

export async function stopGateway({ child, ended }: GatewayProcess, signal: NodeJS.Signals = 'SIGTERM') {
  child.kill(signal);
  return ended;
}

/**
 * Waits until every gateway has read of all changes: each, the one that has made it too, forgets the client of a change
 * then, and remembers it from the next question on.
 *
 * @returns the revision that they have followed
 */
export async function changesFollowed({ call }: Pick<GatewayProcess, 'call'>, key: string): Promise<number> {
  let revision = 0;
  await until('all changes have been followed', async () => {
    const { json } = await call('GET', '/gateways', key);
    revision = json['revision'] as number;
    return (json['gateways'] as { applied_revision: number }[]).every((one) => one.applied_revision === revision);
  });
  return revision;
}
