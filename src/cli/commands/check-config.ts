import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { createPolicyCompiler } from '../../auth/policy.ts';
import { nameOfDatabase, type DatabaseAddress } from '../../database-address.ts';
import { readPolicy } from '../../http/request-headers.ts';
import { inspectDatabase } from '../../store/backup.ts';
import { configure, expectLocal, outputOf, problemsOf } from '../connection.ts';
import { exitCodes } from '../exit-codes.ts';
import { policyHeadersOf } from '../server-settings.ts';
import type { Check } from './checks.ts';
import { showChecks } from './checks.ts';

interface Options {
  readonly conf?: string;
  readonly nginxFiles?: string;
}

const runFile = promisify(execFile);

/** Where the shipped nginx files are, in a clone; a container of the gateway has none. */
const shippedFiles = join(import.meta.dirname, '../../../nginx');

export function addCheckConfig(program: Command): void {
  program
    .command('check-config')
    .description(
      'what a start would say: the environment, the database, default.conf, and nginx where it is; changes nothing',
    )
    .option('--conf <file>', 'this default.conf (default: that of APIGW_CONFIG_DIR, or the shipped one)')
    .action(async (options: Options, command: Command) => {
      expectLocal(command);
      const output = outputOf(command);
      const checks = [checkEnvironment(), await checkDatabase(), checkPolicy(options), await checkNginx()];
      showChecks(checks.flat(), output);
      if (checks.flat().some(({ result }) => result === 'wrong')) process.exitCode = exitCodes.failed;
    });
}

function checkEnvironment(): Check[] {
  try {
    configure();
    return [{ what: 'environment', result: 'ok', seen: 'every setting is known and allowed' }];
  } catch (error) {
    return problemsOf(error).map((seen) => ({ what: 'environment', result: 'wrong', seen }));
  }
}

async function checkDatabase(): Promise<Check[]> {
  const database = databaseAddress();
  if (database === undefined) return [];
  const what = 'database';
  const name = nameOfDatabase(database);
  try {
    if (typeof database === 'string' && !existsSync(database)) {
      const folder = dirname(database);
      accessSync(existsSync(folder) ? folder : dirname(folder), constants.W_OK);
      return [{ what, result: 'ok', seen: `${name} does not exist and will be made` }];
    }
    const found = await inspectDatabase(database);
    if (!found) return [{ what, result: 'ok', seen: `${name} is empty, and a start makes its tables` }];
    const { version, latest } = found;
    if (version > latest) {
      const seen = `${name} has schema ${version}, and this program knows ${latest}`;
      return [
        { what, result: 'wrong', seen, remedy: 'Start the newer program again, or restore a backup from before.' },
      ];
    }
    const copy = typeof database === 'string' ? ', keeping a copy' : '. Have a backup';
    const upgrade = version < latest ? `, which a start upgrades to ${latest}${copy}` : '';
    return [{ what, result: 'ok', seen: `${name} has schema ${version}${upgrade}` }];
  } catch (error) {
    return [{ what, result: 'wrong', seen: (error as Error).message }];
  }
}

function databaseAddress(): DatabaseAddress | undefined {
  try {
    return configure().database;
  } catch {
    // said already
    return undefined;
  }
}

function checkPolicy({ conf }: Options): Check[] {
  const file = conf ?? operatorsConf() ?? join(shippedFiles, 'conf.d/default.conf');
  const what = 'default.conf';
  if (!existsSync(file)) {
    const seen = `${file} is not here`;
    return [{ what, result: conf === undefined ? 'skipped' : 'wrong', seen, remedy: 'Name it: --conf <file>' }];
  }
  try {
    const lines = Object.entries(policyHeadersOf(readFileSync(file, 'utf8'), undefined));
    const policy = createPolicyCompiler({ allowInsecureHttp: true })(
      readPolicy(lines.map(([name, value]) => `${name}:${value}`).join('\n')),
    );
    const methods = [...(policy.apiKeysEnabled ? ['API keys'] : []), ...(policy.tokens ? ['access tokens'] : [])];
    const problems = policy.problems.map((seen): Check => ({ what, result: 'wrong', seen: `${file}: ${seen}` }));
    if (problems.length > 0) return problems;
    if (methods.length > 0) return [{ what, result: 'ok', seen: `${file} accepts ${methods.join(' and ')}` }];
    const remedy = 'Set $api_keys_enabled or $open_id_connect_enabled to on.';
    return [{ what, result: 'wrong', seen: `${file} accepts nothing: nobody will be let in`, remedy }];
  } catch (error) {
    return [{ what, result: 'wrong', seen: `${file}: ${(error as Error).message}` }];
  }
}

function operatorsConf(): string | undefined {
  // eslint-disable-next-line no-restricted-properties -- of nginx's side; the gateway has no such setting
  const folder = process.env['APIGW_CONFIG_DIR'];
  const file = folder ? join(folder, 'nginx/conf.d/default.conf') : '';
  return existsSync(file) ? file : undefined;
}

/** As a start does: lays the files out, elsewhere, and has nginx and our own check read them. */
async function checkNginx(): Promise<Check[]> {
  const what = 'nginx';
  // eslint-disable-next-line no-restricted-properties -- of nginx's side
  const env = process.env;
  const nginx = env['APIGW_NGINX'] ?? 'nginx';
  const path = `${env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;
  const isThere = await runFile('sh', ['-c', 'command -v "$0"', nginx], { env: { PATH: path } }).then(
    () => true,
    () => false,
  );
  if (!existsSync(join(shippedFiles, 'stage.sh')) || !isThere) {
    const remedy = 'The container of the proxy checks at every start and reload.';
    return [{ what, result: 'skipped', seen: 'there is no nginx here', remedy }];
  }
  const prefix = mkdtempSync(join(tmpdir(), 'apigw-check-'));
  try {
    const staging = {
      PATH: path,
      APIGW_PREFIX: prefix,
      APIGW_CACHE_DIR: join(prefix, 'decisions'),
      APIGW_APP_UPSTREAM: env['APIGW_APP_UPSTREAM'] ?? '127.0.0.1:8000',
      APIGW_NGINX: nginx,
      ...(env['APIGW_CONFIG_DIR'] && { APIGW_CONFIG_DIR: env['APIGW_CONFIG_DIR'] }),
      ...(env['APIGW_HOSTNAME'] && { APIGW_HOSTNAME: env['APIGW_HOSTNAME'] }),
    };
    await runFile('sh', [join(shippedFiles, 'stage.sh')], { env: staging });
    await runFile('sh', [join(shippedFiles, 'check.sh')], { env: staging });
    return [{ what, result: 'ok', seen: 'nginx takes the configuration' }];
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    const lines = stderr.split('\n').filter((text) => text.trim() !== '' && !text.includes('test failed'));
    return lines.map((text) => ({
      what,
      result: 'wrong',
      seen: text.replace(/^proxy: |^[\d/]+ [\d:]+ \[\w+\] [\d#]+: /, ''),
    }));
  } finally {
    rmSync(prefix, { recursive: true, force: true });
  }
}
