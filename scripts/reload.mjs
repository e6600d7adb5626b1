// `npm run reload`: has the running `npm run up` read its configuration again, and says what came of it.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { die, root } from './setup.mjs';

const stateDir = resolve(root, process.env['APIGW_STATE_DIR'] || '.apigw');
const result = join(stateDir, 'run', 'reloaded');

try {
  rmSync(result, { force: true });
  process.kill(Number(readFileSync(join(stateDir, 'up.pid'), 'utf8')), 'SIGUSR2');
} catch {
  die(
    `nothing runs with the state directory ${stateDir}. Start it with npm run up, or name another in APIGW_STATE_DIR.`,
  );
}
const deadline = Date.now() + 30_000;
while (!existsSync(result)) {
  if (Date.now() > deadline) die('npm run up does not answer; it says more on its own terminal.');
  await delay(50);
}
const said = readFileSync(result, 'utf8');
if (said !== 'the configuration is in use') die(said);
process.stdout.write(`apigw: ${said}\n`);
