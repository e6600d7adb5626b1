// `npm run bench`: prepares what is missing, then measures the product against nginx alone and others; bench/main.ts has
// the options, of which --list names what is measured.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { root, setUp } from './setup.mjs';

setUp();

const bench = spawn(process.execPath, ['--import', 'tsx', 'bench/main.ts', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
// it stops what it has started, and we wait for that; a Ctrl-C has reached it already
process.on('SIGINT', () => undefined);
for (const signal of /** @type {const} */ (['SIGTERM', 'SIGHUP'])) process.on(signal, () => bench.kill(signal));
await once(bench, 'exit');
process.exitCode = bench.exitCode ?? 1;
