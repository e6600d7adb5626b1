// `npm run test:compose`: builds the images and runs the stack in a container engine. Says so, and passes, where none can
// be had; with REQUIRE_ENGINE=true that is a failure. Base images as in the Dockerfiles, or by NODE_IMAGE and NGINX_IMAGE.
import { spawn, spawnSync } from 'node:child_process';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { die, root, setUp } from './setup.mjs';

/**
 * @param {string} command
 * @param {readonly string[]} args
 */
const succeeds = (command, args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;
const answers = () => succeeds('docker', ['info']);

/** @param {string} image */
const isToBeHad = (image) =>
  succeeds('docker', ['image', 'inspect', image]) || succeeds('docker', ['pull', '--quiet', image]);

/** @returns {Promise<string | undefined>} why the tests cannot be run */
async function findObstacle() {
  if (!answers() && !(await startEngine())) return 'no container engine answers, and none can be started';
  const hasCompose = succeeds('docker', ['compose', 'version']) || succeeds('docker-compose', ['version']);
  if (!hasCompose) return 'there is neither docker compose nor docker-compose';
  const images = [
    process.env['NODE_IMAGE'] ?? 'node:24-bookworm-slim',
    process.env['NGINX_IMAGE'] ?? 'nginx:1.30-bookworm',
  ];
  const missing = images.find((image) => !isToBeHad(image));
  return missing && `the image ${missing} is not there and cannot be pulled`;
}

/** Where the engine is installed and there is no service manager that would start it. */
async function startEngine() {
  if (process.getuid?.() !== 0 || !succeeds('sh', ['-c', 'command -v dockerd'])) return false;
  const engine = spawn('dockerd', { detached: true, stdio: 'ignore' });
  engine.unref();
  process.on('exit', () => engine.kill());
  for (let second = 0; second < 30; second++) {
    if (answers()) return true;
    await delay(1_000);
  }
  return false;
}

const obstacle = await findObstacle();
if (obstacle !== undefined) {
  if (process.env['REQUIRE_ENGINE'] === 'true') die(`${obstacle}.`);
  process.stdout.write(`apigw: the tests with containers are NOT run: ${obstacle}.\n`);
} else {
  const postgres = process.env['POSTGRES_IMAGE'] ?? 'postgres:17-bookworm';
  const hasPostgres = isToBeHad(postgres);
  if (!hasPostgres && process.env['REQUIRE_ENGINE'] === 'true') die(`the image ${postgres} cannot be pulled.`);
  setUp({ forTests: true });
  const { status } = spawnSync(
    process.execPath,
    [
      '--import',
      'tsx',
      '--test',
      '--test-reporter',
      'spec',
      '--test-timeout',
      '600000',
      '--test-concurrency=1',
      'test/compose/compose.test.ts',
      'test/compose/systemd.test.ts',
      'test/compose/kubernetes.test.ts',
    ],
    {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        // says why what needs it is left out
        ...(!hasPostgres && { WITHOUT_POSTGRES: `the image ${postgres} is not there and cannot be pulled` }),
      },
    },
  );
  process.exitCode = status ?? 1;
}
