// `npm run soak`: prepares what is missing, then runs the product under mixed load and looks for growth. Options:
// --minutes 30, and --leak, which plants one and must make it fail.
import { spawnSync } from 'node:child_process';
import process from 'node:process';
import { root, setUp } from './setup.mjs';

setUp({ forTests: true });
const args = ['--import', 'tsx', 'test/soak/main.ts', ...process.argv.slice(2)];
process.exitCode = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
