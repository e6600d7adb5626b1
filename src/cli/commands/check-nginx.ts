import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../package-root.ts';
import { CliError, exitCodes } from '../exit-codes.ts';
import type { Check } from './checks.ts';

const runFile = promisify(execFile);

/** Where the shipped nginx files are, in a clone; a container of the gateway has none. */
export const shippedFiles = join(packageRoot, 'nginx');

// eslint-disable-next-line no-restricted-properties -- of nginx's side; the gateway has no such settings
const env = process.env;
const path = `${env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;
const what = 'nginx';

export interface NginxOptions {
  /** In place of the operator's default.conf. */
  readonly conf?: string;
  /** Whether a warning of the guard counts as wrong, whatever APIGW_STRICT says. */
  readonly strict?: boolean;
}

/** As a start does: lays the files out, elsewhere, and has nginx and our own check read them. */
export async function checkNginx({ conf, strict }: NginxOptions): Promise<Check[]> {
  const nginx = env['APIGW_NGINX'] ?? 'nginx';
  const isThere = await runFile('sh', ['-c', 'command -v "$0"', nginx], { env: { PATH: path } }).then(
    () => true,
    () => false,
  );
  const script = join(shippedFiles, 'check-config.sh');
  if (!existsSync(script) || !isThere) {
    const remedy = 'In the container of the proxy: docker compose exec proxy apigw check-config';
    return [{ what, result: 'skipped', seen: 'there is no nginx here', remedy }];
  }
  if (conf !== undefined && !existsSync(conf)) return [];
  const operator = conf === undefined ? undefined : withConf(conf);
  const configDir = operator ?? env['APIGW_CONFIG_DIR'];
  const asGiven = (text: string) =>
    operator === undefined || conf === undefined
      ? text
      : text
          .replaceAll(join(operator, 'nginx/conf.d/default.conf'), conf)
          .replaceAll(operator, env['APIGW_CONFIG_DIR'] ?? operator);
  try {
    const staging = {
      PATH: path,
      APIGW_APP_UPSTREAM: env['APIGW_APP_UPSTREAM'] ?? '127.0.0.1:8000',
      APIGW_NGINX: nginx,
      APIGW_STRICT: strictness(strict),
      ...(configDir && { APIGW_CONFIG_DIR: configDir }),
      ...(env['APIGW_HOSTNAME'] && { APIGW_HOSTNAME: env['APIGW_HOSTNAME'] }),
    };
    const { stdout } = await runFile('sh', [script], { env: staging });
    const warnings = toChecks(asGiven(stdout)).filter(({ result }) => result === 'warning');
    return [{ what, result: 'ok', seen: 'nginx takes the configuration' }, ...warnings];
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    return toChecks(asGiven(stderr)).map((check) => ({ ...check, result: 'wrong' }));
  } finally {
    if (operator !== undefined) rmSync(operator, { recursive: true });
  }
}

/**
 * What `nginx -T` has printed somewhere, read by the same program as at a start.
 *
 * @param file a path; - for standard input
 * @throws {CliError}
 */
export async function checkDump(file: string, strict?: boolean): Promise<Check[]> {
  const guard = join(shippedFiles, 'conf-guard.awk');
  if (!existsSync(guard)) throw new CliError('The nginx files of a clone are not here.', exitCodes.failed);
  let dump;
  try {
    dump = readFileSync(file === '-' ? 0 : file);
  } catch (error) {
    throw new CliError((error as Error).message, exitCodes.usage, error);
  }
  const running = runFile('awk', ['-f', guard], { env: { PATH: path, LC_ALL: 'C', APIGW_STRICT: strictness(strict) } });
  running.child.stdin?.on('error', () => undefined);
  running.child.stdin?.end(dump);
  const { stdout } = await running;
  const checks = toChecks(stdout);
  return checks.length > 0 ? checks : [{ what, result: 'ok', seen: 'nothing that leads past the gateway' }];
}

function strictness(isAsked = false): string {
  return isAsked ? 'true' : (env['APIGW_STRICT'] ?? '');
}

/** One for each line: of nginx, of stage.sh, or of conf-guard.awk. */
function toChecks(printed: string): Check[] {
  return printed
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.includes('test failed'))
    .map((line) => {
      const seen = line.replace(/^proxy: |^[\d/]+ [\d:]+ \[\w+\] [\d#]+: /, '');
      const [, place = '', warning] = /^((?:[^:]*:[0-9]+: )?)WARNING: (.*)$/.exec(seen) ?? [];
      return warning === undefined
        ? { what, result: 'wrong', seen }
        : { what, result: 'warning', seen: `${place}${warning}` };
    });
}

/** An operator's directory as theirs, with another default.conf. */
function withConf(conf: string): string {
  const operator = mkdtempSync(join(tmpdir(), 'apigw-check-'));
  const confs = join(operator, 'nginx/conf.d');
  mkdirSync(confs, { recursive: true });
  const theirs = join(env['APIGW_CONFIG_DIR'] ?? operator, 'nginx');
  if (env['APIGW_CONFIG_DIR']) {
    if (existsSync(join(theirs, 'ssl'))) symlinkSync(resolve(theirs, 'ssl'), join(operator, 'nginx/ssl'));
    for (const file of existsSync(join(theirs, 'conf.d')) ? readdirSync(join(theirs, 'conf.d')) : [])
      if (file !== 'default.conf') symlinkSync(resolve(theirs, 'conf.d', file), join(confs, file));
  }
  symlinkSync(resolve(conf), join(confs, 'default.conf'));
  return operator;
}
