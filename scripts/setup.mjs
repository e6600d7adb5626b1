// Everything that `npm run up` and `npm test` need before the first line of the product can run. No dependencies: on a
// fresh clone there are none. Does nothing when nothing is missing.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

export const root = join(import.meta.dirname, '..');

/** @param {string} message */
function say(message) {
  process.stdout.write(`apigw: ${message}\n`);
}

/**
 * @param {string} message
 * @returns {never}
 */
export function die(message) {
  process.stderr.write(`apigw: ${message}\n`);
  process.exit(1);
}

// Debian leaves the folders of servers out of a user's PATH
process.env['PATH'] = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin`;

const isRoot = process.getuid?.() === 0;

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 */
function run(command, args, env = process.env) {
  return spawnSync(command, args, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] }).status === 0;
}

/** Debian leaves those of PostgreSQL's server out of everybody's PATH, a folder for each version. */
function findPostgres() {
  const versions = '/usr/lib/postgresql';
  if (!existsSync(versions)) return;
  for (const version of readdirSync(versions))
    process.env['PATH'] = `${process.env['PATH'] ?? ''}:${join(versions, version, 'bin')}`;
}
findPostgres();

/** @param {string} program */
function has(program) {
  return spawnSync('sh', ['-c', 'command -v "$0"', program]).status === 0;
}

/**
 * Installs Debian packages when it can. A server among them is not started: its own service is the operator's to use.
 *
 * @param {readonly string[]} packages
 */
function aptInstall(packages) {
  if (!isRoot || !has('apt-get')) return false;
  const policy = '/usr/sbin/policy-rc.d';
  const isOurs = !existsSync(policy);
  if (isOurs) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const install = ['install', '-y', '-qq', '--no-install-recommends', ...packages];
    return run('apt-get', install, env) || (run('apt-get', ['update', '-qq'], env) && run('apt-get', install, env));
  } finally {
    if (isOurs) rmSync(policy);
  }
}

function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    die(`Node 20.19 or later is needed; this is ${process.versions.node}.`);
  if (process.platform !== 'linux') die('this runs on Linux; elsewhere use docker compose up --build.');
}

function installPackages() {
  const stamp = join(root, 'node_modules', '.apigw-installed');
  const lock = readFileSync(join(root, 'package-lock.json'));
  const wanted = createHash('sha256').update(lock).update(process.versions.modules).digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  say('installing packages (npm ci); this takes a few minutes the first time');
  // dev dependencies too: the compiler is one
  const install = () => run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']);
  const isDone = install() || (!(has('make') && has('c++')) && aptInstall(['python3', 'make', 'g++']) && install());
  if (!isDone) {
    die(
      'npm ci failed (its messages are above). When they name node-gyp: apt-get install python3 make g++, then again.',
    );
  }
  writeFileSync(stamp, wanted);
}

const testPrograms = [
  'curl',
  'shellcheck',
  'wrk',
  'h2load',
  'chromium',
  'promtool',
  'faketime',
  'gawk',
  'busybox',
  'pgbouncer',
];
/** PostgreSQL's programs alone: the package would make a database server of its own. */
function installPostgres() {
  if (has('postgres')) return;
  say('installing from the distribution: postgresql');
  const conf = '/etc/postgresql-common/createcluster.conf';
  const isInstalled = aptInstall(['postgresql-common']);
  const before = isInstalled && existsSync(conf) ? readFileSync(conf, 'utf8') : undefined;
  try {
    if (before !== undefined) writeFileSync(conf, `${before}\ncreate_main_cluster = false\n`);
    if (!isInstalled || !aptInstall(['postgresql']))
      die('postgres is missing. Install it: sudo apt-get install postgresql');
  } finally {
    if (before !== undefined) writeFileSync(conf, before);
  }
  findPostgres();
}

/** A library for tests that change the address of a name. */
function installNssWrapper() {
  const folders = readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu'));
  if (['', ...folders].some((folder) => existsSync(join('/usr/lib', folder, 'libnss_wrapper.so')))) return;
  say('installing from the distribution: libnss-wrapper');
  if (!aptInstall(['libnss-wrapper']))
    die('libnss_wrapper.so is missing. Install it: sudo apt-get install libnss-wrapper');
}

/** @type {Readonly<Record<string, string>>} */
const packageOf = { h2load: 'nghttp2-client', promtool: 'prometheus' };

/** @param {readonly string[]} programs each the name of its package too, but for those in `packageOf` */
function installPrograms(programs) {
  const missing = programs.filter((program) => !has(program)).map((program) => packageOf[program] ?? program);
  if (missing.length === 0) return;
  const names = missing.join(' ');
  say(`installing from the distribution: ${names}`);
  if (!aptInstall(missing)) die(`these programs are missing: ${names}. Install them: sudo apt-get install ${names}`);
}

function build() {
  const built = join(root, 'dist', 'main.js');
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).map((file) =>
    join('src', file),
  );
  const isCurrent =
    existsSync(built) &&
    [...sources, 'package-lock.json', 'scripts/build.mjs'].every(
      (file) => statSync(join(root, file)).mtimeMs < statSync(built).mtimeMs,
    );
  if (isCurrent) return;
  say('building');
  if (!run(process.execPath, [join(root, 'scripts', 'build.mjs')])) die('the build failed; its messages are above.');
}

export function setUp({ forTests = false } = {}) {
  requireNode();
  installPackages();
  installPrograms(['nginx', 'openssl', ...(forTests ? testPrograms : [])]);
  if (forTests) {
    installPostgres();
    installNssWrapper();
  }
  build();
}

if (import.meta.filename === process.argv[1]) setUp({ forTests: true });
