import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { readLocalSettings } from '../../src/local/settings.ts';
import { startStack, type Stack } from '../../src/local/stack.ts';
import { startApplication, type Application } from './application.ts';
import { FrontDoor } from './front-door.ts';
import './plain-assertions.ts';

export const root = join(import.meta.dirname, '../..');

export interface TestStackOptions {
  /** Edits the shipped default.conf as an operator would. */
  readonly edit?: (defaultConf: string) => string;
  /** The same for limits.conf. */
  readonly editLimits?: (limitsConf: string) => string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stateDir?: string;
}

/** As an operator exempts every address: for what asks thousands of times, and is not about limits. */
export const withoutLimits = (limitsConf: string): string => limitsConf.replace('default 1;', 'default 0;');

/** The product as `npm run up` starts it, in front of a test application. */
export interface TestStack extends FrontDoor {
  readonly stack: Stack;
  readonly application: Application;
  readonly stateDir: string;
  readonly adminKey: string;
  /** The gateway's process, and its workers when it has some. */
  readonly gatewayPids: () => number[];
  readonly output: () => string;
  readonly accessLog: () => Record<string, unknown>[];
  /** Stops everything and fails when any log has a credential that is not on the bootstrap line. */
  readonly stop: () => Promise<void>;
}

export async function startTestStack({
  edit,
  editLimits,
  env = {},
  stateDir = makeTempDir(),
}: TestStackOptions = {}): Promise<TestStack> {
  const application = await startApplication();
  const [httpPort, httpsPort] = await freePorts(2);
  const configDir = makeTempDir();
  const shipped = readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8');
  const edited = edit ? edit(shipped) : shipped;
  if (edit) assert.notEqual(edited, shipped, 'the edit of default.conf changes nothing');
  const { conf, env: formEnv } = inForm(edited);
  if (conf !== shipped) {
    mkdirSync(join(configDir, 'nginx/conf.d'), { recursive: true });
    writeFileSync(join(configDir, 'nginx/conf.d/default.conf'), conf);
  }
  if (editLimits) {
    const limits = readFileSync(join(root, 'nginx/conf.d/limits.conf'), 'utf8');
    assert.notEqual(editLimits(limits), limits, 'the edit of limits.conf changes nothing');
    mkdirSync(join(configDir, 'nginx/conf.d'), { recursive: true });
    writeFileSync(join(configDir, 'nginx/conf.d/limits.conf'), editLimits(limits));
  }
  const settings = readLocalSettings(
    {
      API_KEY_CREATE: 'true',
      APIGW_STATE_DIR: stateDir,
      APIGW_CONFIG_DIR: configDir,
      APIGW_HTTP_PORT: String(httpPort),
      APIGW_HTTPS_PORT: String(httpsPort),
      APIGW_APP_UPSTREAM: `127.0.0.1:${application.port}`,
      ...(process.env['APIGW_NGINX'] && { APIGW_NGINX: process.env['APIGW_NGINX'] }),
      ...formEnv,
      ...env,
    },
    root,
    process.getuid?.() === 0,
  );
  let printed = '';
  const output = new PassThrough();
  output.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const stack = await startStack({ root, settings, env: { ...process.env, ...env }, output }).catch(
    async (error: unknown) => {
      await application.close();
      process.stderr.write(printed);
      throw error;
    },
  );
  const adminKey = /^NEWLY GENERATED API KEY: (.*)$/m.exec(printed)?.[1] ?? '';

  return Object.assign(new FrontDoor(httpsPort, httpPort), {
    stack,
    application,
    stateDir,
    adminKey,
    gatewayPids: () => {
      const pid = String(stack.gateway.pid ?? 0);
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
      return [pid, ...children.filter((child) => child !== '')].map(Number);
    },
    output: () => printed,
    accessLog: () => readAccessLog(stack.logDir),
    stop: async () => {
      await stack.stop();
      await application.close();
      expectNoCredential(printed, 'the output');
      for (const file of readdirSync(stack.logDir)) {
        expectNoCredential(readFileSync(join(stack.logDir, file), 'utf8'), file);
      }
      rmSync(stateDir, { recursive: true, force: true });
      rmSync(configDir, { recursive: true, force: true });
    },
  });
}

/** What scripts/test-forms.mjs wants: how the product runs where a test does not say it. */
export const form = process.env['TEST_FORM'];

function inForm(conf: string): { conf: string; env: Record<string, string> } {
  switch (form) {
    case undefined:
      return { conf, env: {} };
    case 'workers':
      return { conf, env: { APIGW_WORKERS: '2' } };
    case 'decision-cache': {
      const asks = /^( *include snippets\/gateway\.conf;).*\n(?! *include snippets\/decision-cache\.conf;)/gm;
      return { conf: conf.replace(asks, '$&  include snippets/decision-cache.conf;\n'), env: {} };
    }
    default:
      throw new Error(`there is no form ${form}`);
  }
}

function readAccessLog(logDir: string): Record<string, unknown>[] {
  const lines = readFileSync(join(logDir, 'access.log'), 'utf8')
    .split('\n')
    .filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Every secret is 64 letters and digits; nothing else in a log looks like that. */
export function expectNoCredential(log: string, name: string): void {
  const withoutBootstrap = log.replace(/^NEWLY GENERATED API KEY: .*$/gm, '');
  const found = /(?=[0-9]*[A-Za-z])[A-Za-z0-9]{63,}/.exec(withoutBootstrap);
  assert.equal(found?.[0], undefined, `${name} holds a credential`);
}

/** A directory that is gone when the tests of this process are over. */
export function makeTempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'apigw-test-'));
  process.on('exit', () => {
    rmSync(dir, { recursive: true, force: true });
  });
  return dir;
}
process.setMaxListeners(0);

/** Ports that were free a moment ago, all different. */
export async function freePorts(count: 2): Promise<[number, number]>;
export async function freePorts(count: number): Promise<number[]>;
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, resolve));
      return server;
    }),
  );
  return Promise.all(
    servers.map(async (server) => {
      const { port } = server.address() as { port: number };
      await new Promise((resolve) => server.close(resolve));
      return port;
    }),
  );
}

/** Waits until the condition holds; fails with its name after the patience, in milliseconds. */
export async function until(name: string, holds: () => boolean | Promise<boolean>, patience = 10_000): Promise<void> {
  const [startedAt, deadline] = [Date.now(), Date.now() + patience];
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `${name}: not within ${patience} ms`);
    // what comes late is looked for less often: a look may be a request, and takes the time of what is waited for
    const waited = Date.now() - startedAt;
    await new Promise((resolve) => setTimeout(resolve, Math.min(Math.max(10, waited / 20), 60)));
  }
}
