import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { createPolicyCompiler } from '../../auth/policy.ts';
import type { Config } from '../../config.ts';
import { nameOfDatabase, type DatabaseAddress } from '../../database-address.ts';
import { readPolicy } from '../../http/request-headers.ts';
import { configure, expectLocal, outputOf, problemsOf } from '../connection.ts';
import { exitCodes } from '../exit-codes.ts';
import { policyHeadersOf } from '../server-settings.ts';
import { checkDump, checkNginx, shippedFiles } from './check-nginx.ts';
import type { Check } from './checks.ts';
import { showChecks } from './checks.ts';

interface Options {
  readonly conf?: string;
  readonly dump?: string;
  readonly strict?: boolean;
}

export function addCheckConfig(program: Command): void {
  program
    .command('check-config')
    .description(
      'what a start would say: the environment, the database, default.conf, and nginx where it is; changes nothing',
    )
    .option('--conf <file>', 'this default.conf (default: that of APIGW_CONFIG_DIR, or the shipped one)')
    .option('--dump <file>', 'only what nginx -T has printed, from this file; - for standard input')
    .option('--strict', 'a warning about the nginx configuration is wrong, as with APIGW_STRICT=true')
    .action(async (options: Options, command: Command) => {
      expectLocal(command);
      const output = outputOf(command);
      const checks =
        options.dump === undefined
          ? [checkEnvironment(), await checkDatabase(), checkPolicy(options), await checkNginx(options)].flat()
          : await checkDump(options.dump, options.strict);
      await showChecks(checks, output);
      if (checks.some(({ result }) => result === 'wrong')) process.exitCode = exitCodes.failed;
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
    const { inspectDatabase } = await import('../../store/backup.ts');
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
  return configureIfValid()?.database;
}

/** Undefined when the environment is wrong, which is said already. */
function configureIfValid(): Config | undefined {
  try {
    return configure();
  } catch {
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
    const policy = createPolicyCompiler({ allowInsecureHttp: configureIfValid()?.allowInsecureHttp ?? true })(
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
