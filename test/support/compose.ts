import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { FrontDoor } from './front-door.ts';
import { freePorts, makeTempDir, root } from './stack.ts';

const runFile = promisify(execFile);

export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  try {
    const options = { env: { ...process.env, ...env }, cwd: root, maxBuffer: 64 * 1024 * 1024 };
    const { stdout, stderr } = await runFile(command, args, options);
    return { code: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}

/** The ways to call compose that this machine has, the current one first. */
export const composeCommands: readonly (readonly string[])[] = [['docker', 'compose'], ['docker-compose']].filter(
  ([command = '', ...args]) => spawnSync(command, [...args, 'version']).status === 0,
);

/** docker-compose.yaml with an edit, as a project of its own on free ports. */
export class ComposeProject extends FrontDoor {
  readonly dir: string;
  readonly file: string;
  readonly name: string;
  readonly command: readonly string[];
  private overlay: readonly string[] = [];

  private constructor(command: readonly string[], httpsPort: number, httpPort: number) {
    super(httpsPort, httpPort);
    this.command = command;
    this.dir = makeTempDir();
    this.name = `apigwtest${randomBytes(4).toString('hex')}`;
    this.file = join(this.dir, 'docker-compose.yaml');
    this.edit({});
  }

  static async make(command: readonly string[]): Promise<ComposeProject> {
    const [httpsPort, httpPort] = await freePorts(2);
    return new ComposeProject(command, httpsPort, httpPort);
  }

  /** Writes the shipped file with these edits of an operator, and no others from before. */
  edit({
    createKey = false,
    mounts = [],
    withoutApp = false,
  }: {
    createKey?: boolean;
    mounts?: readonly string[];
    withoutApp?: boolean;
  }): void {
    let text = readFileSync(join(root, 'docker-compose.yaml'), 'utf8');
    const replace = (from: string | RegExp, to: string) => {
      assert.notEqual(text.search(from), -1, String(from));
      text = text.replace(from, to);
    };
    if (createKey) replace('API_KEY_CREATE: "false"', 'API_KEY_CREATE: "true"');
    if (mounts.length > 0) replace(/^ +# - \.\/config.*$/m, mounts.map((mount) => `      - ${mount}`).join('\n'));
    if (withoutApp) replace(/^ {2}app:[^]*?(?=^networks:)/m, '');
    writeFileSync(this.file, text);
  }

  /** docker-compose.ha.yaml over it, with its password in this file. */
  addSecondGateway(passwordFile: string): void {
    const overlay = readFileSync(join(root, 'docker-compose.ha.yaml'), 'utf8');
    const shipped = './secrets/database-password';
    assert.ok(overlay.includes(`file: ${shipped}`));
    const file = join(this.dir, 'docker-compose.ha.yaml');
    writeFileSync(file, overlay.replace(`file: ${shipped}`, `file: ${passwordFile}`));
    this.overlay = ['-f', file];
  }

  compose(...args: readonly string[]): Promise<Run> {
    const [command = '', ...words] = this.command;
    const files = ['-f', this.file, ...this.overlay];
    return run(command, [...words, '-p', this.name, ...files, '--project-directory', root, ...args], {
      APIGW_HTTPS_PORT: String(this.httpsPort),
      APIGW_HTTP_PORT: String(this.httpPort),
    });
  }

  /** The same, and it must succeed. */
  async must(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.compose(...args);
    assert.equal(code, 0, `compose ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  async idOf(service: string): Promise<string> {
    return (await this.must('ps', '-q', service)).trim();
  }

  async logs(service: string): Promise<string> {
    const { stdout, stderr } = await run('docker', ['logs', await this.idOf(service)]);
    return stdout + stderr;
  }

  async inspect(service: string): Promise<Record<string, unknown>> {
    const { stdout } = await run('docker', ['inspect', await this.idOf(service)]);
    return (JSON.parse(stdout) as Record<string, unknown>[])[0] ?? {};
  }

  async remove(): Promise<void> {
    await this.compose('down', '-v', '--timeout', '3');
    rmSync(this.dir, { recursive: true, force: true });
  }
}
