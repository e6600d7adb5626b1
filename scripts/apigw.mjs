// `npm run -s apigw -- <command>`: the command line, on what `npm run up` has in its state directory.
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { root, setUp } from './setup.mjs';

setUp();
const stateDir = resolve(root, process.env['APIGW_STATE_DIR'] || '.apigw');
const run = join(stateDir, 'run');
const env = { ...process.env };
// as `npm run up` has it
if (env['APIGW_CONFIG_DIR']) env['APIGW_CONFIG_DIR'] = resolve(root, env['APIGW_CONFIG_DIR']);
if (!env['DATABASE_URL'] && !env['DATABASE_URL_FILE']) env['DATABASE_URL'] = `sqlite:${join(stateDir, 'apigw.db')}`;
// a socket's path must be short, and the link leads to a short one
if (!env['APIGW_MANAGEMENT_LISTEN'] && existsSync(run))
  env['APIGW_MANAGEMENT_LISTEN'] = `unix:${join(realpathSync(run), 'management.sock')}`;
const { status } = spawnSync(process.execPath, [join(root, 'dist/cli/main.js'), ...process.argv.slice(2)], {
  env,
  // npm runs this in the clone; files are where its caller is
  cwd: process.env['INIT_CWD'] ?? process.cwd(),
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
