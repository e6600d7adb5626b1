import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { parse } from 'yaml';
import { settings } from '../../src/config.ts';
import { root } from '../support/stack.ts';

type Service = Readonly<Record<string, unknown>> & {
  readonly environment: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly networks?: readonly string[];
};
interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean } | null>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, unknown>>;
}

const read = (file: string) => readFileSync(join(root, file), 'utf8');
const base = parse(read('docker-compose.yaml'), { merge: true }) as Compose;
const overlay = parse(read('docker-compose.ha.yaml'), { merge: true }) as Compose;

function serviceOf({ services }: Compose, name: string): Service {
  const service = services[name];
  assert.ok(service, name);
  return service;
}

// what an engine makes of it: test/compose
suite('docker-compose.ha.yaml', () => {
  test('has a second gateway like the first, but for its sockets, and without the file of SQLite', () => {
    const { environment, volumes, secrets, depends_on, ...first } = {
      ...serviceOf(base, 'gateway'),
      ...serviceOf(overlay, 'gateway'),
    } as Service & { secrets: unknown; depends_on: unknown };
    const second = serviceOf(overlay, 'gateway-b');
    assert.deepEqual(second, {
      ...first,
      environment,
      secrets,
      depends_on,
      volumes: ['sockets-b:/run/apigw'],
      networks: ['outside', 'database'],
    });
    assert.deepEqual(volumes, ['database:/var/lib/apigw', 'sockets:/run/apigw']);
    for (const name of Object.keys(environment)) assert.ok(name.replace(/_FILE$/, '') in settings, name);
  });

  test('shows the proxy the sockets of both', () => {
    const mounts = [base, overlay].flatMap((file) => serviceOf(file, 'proxy').volumes ?? []);
    const folders = mounts.filter((mount) => mount.startsWith('sockets')).map((mount) => mount.split(':')[1]);
    assert.equal(serviceOf(overlay, 'proxy').environment['APIGW_SOCKET_DIR'], folders.join(' '));
  });

  test('has its database where gateways alone reach it, with a password that is in no file of ours', () => {
    const postgres = serviceOf(overlay, 'postgres');
    assert.equal('ports' in postgres || 'expose' in postgres, false);
    assert.deepEqual(postgres.networks, ['database']);
    assert.equal(overlay.networks['database']?.internal, true);
    const neighbours = Object.entries(overlay.services).filter(([, { networks = [] }]) =>
      networks.includes('database'),
    );
    assert.deepEqual(neighbours.map(([name]) => name).sort(), ['gateway', 'gateway-b', 'postgres']);
    assert.deepEqual(overlay.secrets, { 'database-password': { file: './secrets/database-password' } });
    assert.match(read('.gitignore'), /^\/secrets\/$/m);
    assert.equal(postgres.environment['POSTGRES_PASSWORD_FILE'], '/run/secrets/database-password');
    assert.doesNotMatch(read('docker-compose.ha.yaml'), /PASSWORD:|:\/\/[^@/\s]*:[^@/\s]*@|trust/);
  });

  test('names each volume, network and secret that it uses', () => {
    for (const [name, { volumes = [], networks = [] }] of Object.entries(overlay.services)) {
      for (const volume of volumes)
        assert.ok((volume.split(':')[0] ?? '') in { ...base.volumes, ...overlay.volumes }, name);
      for (const network of networks) assert.ok(network in { ...base.networks, ...overlay.networks }, name);
    }
  });
});
