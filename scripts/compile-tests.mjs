// Compiles TypeScript for a run with plain Node: tsx takes half a second of each of a hundred processes.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { root } from './setup.mjs';

const to = join(root, 'dist', 'tests');

/**
 * Each file with all that it imports, but for packages, becomes one.
 *
 * @param {readonly string[]} files paths from the root
 * @returns {Promise<string[]>} paths of what they have become, from the root, in the same order
 */
export async function compileTests(files) {
  await build({
    absWorkingDir: root,
    entryPoints: [...files],
    outdir: to,
    outbase: root,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: 'inline',
    inject: [join(root, 'test/support/plain-assertions.ts')],
    plugins: [placesOfSources],
    logLevel: 'warning',
  });
  return files.map((file) => relative(root, join(to, file.replace(/\.ts$/, '.mjs'))));
}

/** A module finds the files beside it, wherever it has been compiled to. */
const placesOfSources = {
  name: 'places of sources',
  /** @param {import('esbuild').PluginBuild} compilation */
  setup(compilation) {
    compilation.onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const contents = readFileSync(path, 'utf8')
        .replaceAll('import.meta.dirname', JSON.stringify(dirname(path)))
        .replaceAll('import.meta.filename', JSON.stringify(path))
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href));
      return { contents, loader: 'ts' };
    });
  },
};
