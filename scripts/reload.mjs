// `npm run reload`: has the running `npm run up` read its configuration again, and says what came of it.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { die, root } from './setup.mjs';

const stateDir = resolve(root, process.env['APIGW_STATE_DIR'] || '.apigw');
const result = join(stateDir, 'run', 'reloaded');

const pid = runningPid();
expectStrictness(pid);
rmSync(result, { force: true });
process.kill(pid, 'SIGUSR2');
const deadline = Date.now() + 30_000;
while (!existsSync(result)) {
  if (Date.now() > deadline) die('npm run up does not answer; it says more on its own terminal.');
  await delay(50);
}
/** @type {unknown} */
const parsed = JSON.parse(readFileSync(result, 'utf8'));
const { isInUse, said } = /** @type {{ isInUse: boolean, said: string }} */ (parsed);
if (!isInUse) die(said);
process.stdout.write(`${said}\n`);

/** The process that has the state directory; the number of one that was killed may belong to another by now. */
function runningPid() {
  try {
    const pid = Number(readFileSync(join(stateDir, 'up.pid'), 'utf8'));
    if (pid > 1 && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('up.mjs')) return pid;
  } catch {
    // there is no such file, or no such process
  }
  return die(
    `nothing runs with the state directory ${stateDir}. Start it with npm run up, or name another in APIGW_STATE_DIR.`,
  );
}

/**
 * What is asked for here cannot reach the process that reads the configuration, and must not seem to have done.
 *
 * @param {number} pid
 */
function expectStrictness(pid) {
  const asked = process.env['APIGW_STRICT'];
  if (!asked) return;
  const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  const started =
    environment.find((line) => line.startsWith('APIGW_STRICT='))?.slice('APIGW_STRICT='.length) || 'false';
  if (asked === started) return;
  die(
    `APIGW_STRICT=${asked} counts from the start of npm run up, which runs with ${started}; nothing was reloaded. Start it again with the other value, or look first: npm run -s apigw -- check-config --strict`,
  );
}
