// `npm test`: prepares what is missing, then runs every test, with the distribution's nginx and, where it can be had,
// with the current stable one as well. Arguments name test files or folders to run alone.
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { root, setUp } from './setup.mjs';

setUp({ forTests: true });
// esbuild is there from now on
const { compileTests } = await import('./compile-tests.mjs');

const wanted = process.argv.slice(2);
const files = (wanted.length > 0 ? wanted : foldersOfTests())
  .flatMap((path) => (statSync(join(root, path)).isDirectory() ? testFilesBelow(path) : [path]))
  .sort();

const { status } = spawnSync(
  process.execPath,
  // a test has processes of its own beside it, so more than one for each of two cores are too many
  [
    '--enable-source-maps',
    '--test',
    '--test-concurrency',
    '2',
    '--test-reporter',
    'spec',
    '--test-timeout',
    '420000',
    ...(await compileTests(files)),
  ],
  { cwd: root, stdio: 'inherit' },
);
process.exitCode = status ?? 1;

/** Without those that need a container engine: npm run test:compose. */
function foldersOfTests() {
  return readdirSync(join(root, 'test'))
    .filter((folder) => folder !== 'compose')
    .map((folder) => join('test', folder));
}

/** @param {string} folder */
function testFilesBelow(folder) {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => join(folder, file));
}
