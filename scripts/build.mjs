// `npm run build`: dist, with the gateway, the command line and `npm run up`. What they import is in them, packages too: a
// start reads a few files in place of six hundred, and takes two thirds of the processor time (docs/adr/0014-bundled-packages.md).
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');

/** What packages have in them that is never used here, and that each start would read. */
const unusedParts = {
  name: 'unused parts of packages',
  /** @param {import('esbuild').PluginBuild} compilation */
  setup(compilation) {
    // zod's messages in fifty languages, and knex for other databases
    const others = 'better-sqlite3|cockroachdb|mssql|mysql2?|mariadb|oracle|oracledb|pgnative|redshift';
    compilation.onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: 'export {};' }));
    compilation.onLoad({ filter: new RegExp(`/knex/lib/dialects/(?:${others})/index\\.js$`) }, () => ({
      contents: '',
    }));
  },
};
const outdir = join(root, 'dist');

const main = join(outdir, 'main.js');
const builtBefore = existsSync(main) ? statSync(main).mtimeMs : 0;
const { outputFiles } = await build({
  write: false,
  absWorkingDir: root,
  entryPoints: ['src/main.ts', 'src/cli/main.ts', 'src/local/up.ts'],
  outbase: 'src',
  outdir,
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  // what is loaded later, or not at all, stays apart
  splitting: true,
  // a compiled driver, and drivers of knex that are not used
  external: [
    'sqlite3',
    'better-sqlite3',
    'mariadb',
    'mysql',
    'mysql2',
    'oracledb',
    'tedious',
    'pg-native',
    'pg-query-stream',
  ],
  platform: 'node',
  format: 'esm',
  target: 'node20',
  // what Node holds of the text in memory is less; names stay, for stack traces
  minifyWhitespace: true,
  lineLimit: 120,
  sourcemap: 'linked',
  sourcesContent: false,
  // packages in CommonJS ask for Node's own modules with it
  banner: {
    js: "import { createRequire as createRequireOfModule } from 'node:module';\nconst require = createRequireOfModule(import.meta.url);",
  },
  plugins: [unusedParts],
  logLevel: 'warning',
});
const chunks = join(outdir, 'chunks');
mkdirSync(chunks, { recursive: true });
// Each at once, so that what runs now never loads half a file, and what is started last: a build that comes to no end, on a
// full disk say, leaves what is started as it was, and npm run up builds anew.
for (const { path, contents } of outputFiles.sort((one, other) => rank(one.path) - rank(other.path))) {
  mkdirSync(dirname(path), { recursive: true });
  // what a build leaves of it goes with the old chunks
  const written = join(chunks, `${basename(path)}.${process.pid}`);
  writeFileSync(written, contents, { mode: isProgram(contents) ? 0o777 : 0o666 });
  renameSync(written, path);
}
// what runs now may load a file of the build before this one later; those of still earlier ones go
for (const name of readdirSync(chunks)) {
  const file = join(chunks, name);
  if (statSync(file).mtimeMs < builtBefore - 60_000) rmSync(file);
}

/**
 * What is imported before what imports it, and main.js, by whose time a build is known, after all.
 *
 * @param {string} path
 */
function rank(path) {
  if (path === main) return 2;
  return dirname(path) === chunks || path.endsWith('.map') ? 0 : 1;
}

/**
 * Whether it begins with "#!".
 *
 * @param {Uint8Array} contents
 */
function isProgram([first, second]) {
  return first === 0x23 && second === 0x21;
}
