import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { root } from '../support/stack.ts';

// The suites that depend on nginx once more, with the current stable nginx in place of the distribution's.
const current = fetchNginx();
if (current !== undefined) {
  process.env['APIGW_NGINX'] = current;
  const suites = {
    configuration: () => import('./configuration.test.ts'),
    flow: () => import('./flow.test.ts'),
    identity: () => import('./identity.test.ts'),
    streams: () => import('./streams.test.ts'),
    'bad requests': () => import('./bad-requests.test.ts'),
    'fail closed': () => import('./fail-closed.test.ts'),
    'access tokens': () => import('../oidc/provider.test.ts'),
  };
  suite('on the current stable nginx', { concurrency: 2 }, () => {
    for (const [name, load] of Object.entries(suites))
      suite(name, { concurrency: false }, async () => {
        await load();
      });
  });
}

function fetchNginx(): string | undefined {
  try {
    const cache = join(root, 'node_modules/.cache/nginx');
    return execFileSync(join(root, 'scripts/fetch-nginx.sh'), [cache], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }).trim();
  } catch (error) {
    test('the current stable nginx', { skip: (error as { stderr: string }).stderr.trim() }, () => undefined);
    return undefined;
  }
}
