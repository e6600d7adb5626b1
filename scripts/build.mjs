// `npm run build`: dist, with the gateway, the command line and `npm run up`. What they import is in them, packages too: a
// start reads a few files in place of six hundred, and takes two thirds of the processor time (docs/adr/0014-bundled-packages.md).
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const outdir = join(root, 'dist');

const main = join(outdir, 'main.js');
const builtBefore = existsSync(main) ? statSync(main).mtimeMs : 0;
await build({
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
  logLevel: 'warning',
});
// what runs now may load a file of the build before this one later; those of still earlier ones go
const chunks = join(outdir, 'chunks');
for (const name of readdirSync(chunks)) {
  const file = join(chunks, name);
  if (statSync(file).mtimeMs < builtBefore - 60_000) rmSync(file);
}
