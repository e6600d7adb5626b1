import assert from 'node:assert/strict';
import { randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { makeCertificate } from '../support/certificate.ts';
import { run } from '../support/compose.ts';
import { buildKustomization, ofKind, type Deployment } from '../support/manifests.ts';
import { docker, Pod, type Namespace } from '../support/pod.ts';
import { root, until } from '../support/stack.ts';

const postgres = process.env['POSTGRES_IMAGE'] ?? 'postgres:17-bookworm';

/** The pods of each form that a cluster would start, two of the kind that each Deployment has, by its name. */
for (const form of ['sidecar', 'shared'] as const) {
  suite(`the pods of kubernetes/${form}, in a container engine`, { skip: process.env['WITHOUT_POSTGRES'] }, () => {
    const network = `apigw-test-${randomBytes(4).toString('hex')}`;
    const database = `${network}-db`;
    const application = `${network}-app`;
    const manifests = buildKustomization(`kubernetes/${form}`);
    const deployments = ofKind<Deployment>(manifests, 'Deployment');
    let pods: { name: string; pod: Pod }[] = [];
    const fronts = () => pods.filter(({ name }) => name !== 'apigw-gateway').map(({ pod }) => pod);
    const gateways = () => pods.filter(({ name }) => name !== 'apigw-proxy').map(({ pod }) => pod);
    let namespace: Namespace;
    let certificate: X509Certificate;
    let key = '';

    const start = async (name: string) => {
      const { spec } = deployments.find((deployment) => deployment.name === name)?.spec.template ?? {};
      assert.ok(spec);
      const pod = await Pod.start(name, spec, namespace);
      pods.push({ name, pod });
      return pod;
    };
    const areReady = () =>
      until(
        'every pod is ready',
        async () => (await Promise.all(pods.map(({ pod }) => pod.passes('readinessProbe')))).every(Boolean),
        60_000,
      );

    before(async () => {
      for (const [name, folder] of [
        ['apigw-gateway', 'gateway'],
        ['apigw-proxy', 'proxy'],
      ] as const)
        await docker('build', '-q', '-t', name, '-f', `docker/${folder}/Dockerfile`, '.');
      await docker('network', 'create', network);
      const password = randomBytes(16).toString('hex');
      const variables = { POSTGRES_USER: 'apigw', POSTGRES_DB: 'apigw', POSTGRES_PASSWORD: password };
      const env = Object.entries(variables).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
      const inside = (name: string, alias: string) =>
        `-d --no-healthcheck --name ${name} --network ${network} --network-alias ${alias}`.split(' ');
      await docker('run', ...inside(database, 'db'), ...env, postgres);
      const settings = manifests.find(({ kind }) => kind === 'ConfigMap') as unknown as {
        data: Record<string, string>;
      };
      const [alias = ''] = settings.data['APIGW_APP_UPSTREAM']?.split(':') ?? [];
      await docker('run', ...inside(application, alias), 'apigw-gateway', 'apigw', 'demo-app');
      const pair = makeCertificate('pods.example');
      certificate = new X509Certificate(pair.certificate);
      const shipped = readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8');
      const edited = shipped.replace('  # add_header Strict', '  add_header X-Mine yes always;\n  # add_header Strict');
      assert.notEqual(edited, shipped);
      namespace = {
        network,
        configMaps: { 'apigw-proxy': settings.data, 'apigw-nginx': { 'default.conf': edited } },
        secrets: {
          'apigw-database': { url: `postgres://apigw:${password}@db/apigw?sslmode=disable` },
          'apigw-tls': { 'tls.crt': pair.certificate, 'tls.key': pair.key },
        },
      };
      for (const { name, spec } of deployments) for (let count = 0; count < spec.replicas; count++) await start(name);
      await areReady();
      key = await (gateways()[0] as Pod).exec('gateway', 'apigw', 'bootstrap');
    });
    after(async () => {
      for (const { pod } of pods) await pod.remove();
      await run('docker', ['rm', '-f', '-v', database, application]);
      await run('docker', ['network', 'rm', network]);
    });

    test('decide behind every front door, with the certificate and the default.conf of the namespace', async () => {
      for (const front of fronts()) {
        assert.equal((await front.ask('/')).status, 401);
        const { status, json, headers } = await front.ask('/', { key });
        assert.deepEqual([status, headers['x-mine'], json['client_name']], [200, 'yes', 'bootstrap']);
        assert.equal((await front.presented()).fingerprint256, certificate.fingerprint256);
      }
    });

    test('what one acknowledges after ?wait, all refuse', async () => {
      const [first, second] = fronts() as [Pod, Pod];
      const created = await first.manage('POST', key, '', { json: { name: 'short-lived' } });
      const token = created.json['token'] as string;
      await until('both know it', async () => (await second.ask('/', { key: token })).status === 200);
      assert.equal((await first.manage('DELETE', key, `/${String(created.json['id'])}?wait=3s`)).status, 204);
      for (const front of [first, second]) assert.equal((await front.ask('/', { key: token })).status, 401);
    });

    test('a database that is away takes pods out and restarts none', async () => {
      const restarts = () => Promise.all(pods.map(({ pod }) => pod.restarts()));
      const before = await restarts();
      await docker('stop', database);
      await until('no pod is ready', async () =>
        (await Promise.all(pods.map(({ pod }) => pod.passes('readinessProbe')))).every((ready) => !ready),
      );
      for (const { pod } of pods) assert.ok(await pod.passes('livenessProbe'));
      await docker('start', database);
      await areReady();
      assert.deepEqual(await restarts(), before);
    });

    test('a pod of each kind is replaced: it ends by itself, and answers every request that comes until then', async () => {
      for (const { name } of deployments) {
        const { pod } = pods.find((one) => one.name === name) ?? {};
        assert.ok(pod);
        await start(name);
        await areReady();
        const front = name === 'apigw-gateway' ? fronts()[0] : pod;
        assert.ok(front);
        const asked: Promise<string>[] = [];
        const load = setInterval(() => asked.push(statusOf(front, key)), 50);
        const codes = await pod.end().finally(() => {
          clearInterval(load);
        });
        const statuses = await Promise.all(asked);
        pods = pods.filter((one) => one.pod !== pod);
        assert.deepEqual(new Set(Object.values(codes)), new Set([0]));
        // a proxy that is gone refuses connections; nobody is sent there any more
        const gone = front === pod ? statuses.indexOf('') : -1;
        const [before, since] = gone < 0 ? [statuses, []] : [statuses.slice(0, gone), statuses.slice(gone)];
        assert.ok(before.length > 20, String(before.length));
        assert.deepEqual(new Set(before), new Set(['200']));
        assert.ok(since.every((status) => status === ''));
        await pod.remove();
      }
    });
  });
}

/** The status, with the reason where there is one; empty without an answer. */
function statusOf(front: Pod, key: string): Promise<string> {
  return front.ask('/', { key }).then(
    ({ status, json: { reason = '' } }) => `${status} ${String(reason)}`.trim(),
    () => '',
  );
}
