// `npm run test:forms`: the tests through nginx once more in the two forms that are not the default, with two workers and
// with the decision cache of nginx in every server. Whatever the form, the answers are the same.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { root } from './setup.mjs';

const folders = [
  'test/nginx',
  'test/management',
  'test/oidc',
  'test/faults/gateway.test.ts',
  'test/faults/revocation.test.ts',
];
for (const form of ['workers', 'decision-cache']) {
  process.stdout.write(`apigw: tests in the form "${form}"\n`);
  const { status } = spawnSync(process.execPath, [join(root, 'scripts/test.mjs'), ...folders], {
    stdio: 'inherit',
    env: { ...process.env, TEST_FORM: form },
  });
  if (status !== 0) process.exitCode = 1;
}
