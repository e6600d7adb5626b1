import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { parse } from 'yaml';
import { proxySettings } from '../../scripts/settings-page.ts';
import { readConfig, settings } from '../../src/config.ts';
import {
  buildKustomization,
  faultsOf,
  ofKind,
  readManifests,
  type Container,
  type Deployment,
  type Manifest,
} from '../support/manifests.ts';
import { root } from '../support/stack.ts';

const read = (file: string) => readFileSync(join(root, file), 'utf8');
const forms = ['sidecar', 'shared'] as const;
const hasKubectl = spawnSync('kubectl', ['version', '--client']).status === 0;
const users: Record<string, [dockerfile: string, uid: number]> = {
  gateway: ['docker/gateway/Dockerfile', 1000],
  proxy: ['docker/proxy/Dockerfile', 101],
};

for (const form of forms) {
  suite(`kubernetes/${form}`, () => {
    const manifests = buildKustomization(`kubernetes/${form}`);
    const deployments = ofKind<Deployment>(manifests, 'Deployment');
    const pods = deployments.map(({ spec }) => spec.template.spec);
    const containers = pods.flatMap((pod) => pod.containers);
    const configMap = manifests.find(({ kind }) => kind === 'ConfigMap') as unknown as { data: Record<string, string> };
    const envOf = ({ env = [], envFrom = [] }: Container): Record<string, string> => ({
      ...(envFrom.length > 0 && configMap.data),
      ...Object.fromEntries(env.map(({ name, value = '' }) => [name, value])),
    });

    test('is what the API of Kubernetes takes, and a field that is misspelt is not', () => {
      assert.deepEqual(faultsOf(manifests), []);
      const misspelt = ['readOnlyRootFileSystem', 'maxUnavailabel', 'podselector'];
      const text = JSON.stringify(manifests)
        .replaceAll('"readOnlyRootFilesystem"', '"readOnlyRootFileSystem"')
        .replaceAll('"maxUnavailable"', '"maxUnavailabel"')
        .replaceAll('"podSelector"', '"podselector"');
      const said = faultsOf(JSON.parse(text) as readonly Manifest[]).join('\n');
      for (const field of misspelt) assert.match(said, new RegExp(`'"?${field}"?' does not exist`));
    });

    test('is what kustomize builds', { skip: !hasKubectl && 'there is no kubectl' }, () => {
      const built = readManifests(
        execFileSync('kubectl', ['kustomize', join(root, 'kubernetes', form)], { encoding: 'utf8' }),
      );
      const sorted = (list: readonly Manifest[]) =>
        [...list].sort((a, b) => `${a.kind}/${a.metadata.name}`.localeCompare(`${b.kind}/${b.metadata.name}`));
      assert.deepEqual(sorted(built), sorted(manifests));
    });

    test('runs nothing with more than it needs', () => {
      for (const pod of pods) {
        assert.equal(pod.automountServiceAccountToken, false);
        assert.deepEqual(pod.securityContext, {
          runAsNonRoot: true,
          fsGroup: 101,
          seccompProfile: { type: 'RuntimeDefault' },
        });
      }
      for (const { name, securityContext, resources } of containers) {
        assert.deepEqual(securityContext, {
          runAsUser: users[name]?.[1],
          runAsGroup: 101,
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
        });
        assert.deepEqual(Object.keys(resources.requests), ['cpu', 'memory']);
        assert.deepEqual(Object.keys(resources.limits), ['memory']);
      }
    });

    test('goes on while one pod of each kind ends', () => {
      const budgets = ofKind<{ maxUnavailable: number; selector: { matchLabels: object } }>(
        manifests,
        'PodDisruptionBudget',
      );
      for (const { spec } of deployments) {
        assert.ok(spec.replicas >= 2);
        assert.equal(spec.strategy.rollingUpdate.maxUnavailable, 0);
        const { labels } = spec.template.metadata;
        const budget = budgets.find(({ spec: { selector } }) =>
          Object.entries(selector.matchLabels).every(([label, value]) => labels[label] === value),
        );
        assert.equal(budget?.spec.maxUnavailable, 1);
        assert.equal(spec.template.spec.topologySpreadConstraints.length, 2);
      }
      for (const pod of pods) {
        const sleepOf = (name: string) => {
          const found = pod.containers.find((container) => container.name === name);
          return Number(found?.lifecycle.preStop.exec.command[1] ?? Number.NaN);
        };
        // a gateway needs up to 10 s to end, and must be there until its proxy has ended
        for (const { name } of pod.containers) assert.ok(sleepOf(name) + 10 < pod.terminationGracePeriodSeconds);
        if (pod.containers.length === 2) assert.ok(sleepOf('gateway') >= sleepOf('proxy') + 10);
      }
    });

    test('asks each whether it can decide; nothing is restarted because its database is away', () => {
      for (const { readinessProbe, livenessProbe } of containers) {
        assert.equal(readinessProbe.httpGet?.path, '/readyz');
        assert.ok(livenessProbe.tcpSocket ?? livenessProbe.httpGet?.path === '/livez');
      }
    });

    test('names images that compose builds, and paths and settings that the images know', () => {
      const built = (
        parse(read('docker-compose.yaml'), { merge: true }) as {
          services: Record<string, { image: string; build: { dockerfile: string } }>;
        }
      ).services;
      for (const container of containers) {
        const { name, image, volumeMounts } = container;
        const [dockerfile = ''] = users[name] ?? [];
        assert.equal(built[name]?.image, image);
        assert.equal(built[name].build.dockerfile, dockerfile);
        const known = JSON.stringify(built[name]) + read(dockerfile);
        const own = ['/tmp', '/etc/apigw/database', '/etc/config/nginx/conf.d', '/etc/config/nginx/ssl'];
        for (const { mountPath } of volumeMounts)
          assert.ok(own.includes(mountPath) || known.includes(mountPath), mountPath);
        const env = envOf(container);
        if (name === 'proxy') {
          for (const setting of Object.keys(env)) assert.ok(setting in proxySettings, setting);
          continue;
        }
        for (const setting of Object.keys(env)) assert.ok(setting.replace(/_FILE$/, '') in settings, setting);
        const { DATABASE_URL_FILE: file, ...rest } = env;
        assert.equal(file, '/etc/apigw/database/url');
        readConfig({ ...rest, DATABASE_URL: 'postgres://apigw@db/apigw' });
      }
      // a Service is a variable for every pod otherwise, and this one has our prefix
      for (const pod of pods) assert.equal(pod.enableServiceLinks, false);
      for (const pod of pods) {
        const mounted = pod.containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name));
        assert.deepEqual([...new Set(mounted)].sort(), pod.volumes.map(({ name }) => name).sort());
      }
    });

    test('listens where the others ask', () => {
      const services = ofKind<{ ports: { port: number; targetPort: string }[]; selector: Record<string, string> }>(
        manifests,
        'Service',
      );
      for (const { name, spec } of services) {
        const target = deployments.find(({ spec: { template } }) =>
          Object.entries(spec.selector).every(([label, value]) => template.metadata.labels[label] === value),
        );
        const ports = target?.spec.template.spec.containers.flatMap((container) => container.ports ?? []) ?? [];
        for (const { targetPort } of spec.ports)
          assert.ok(
            ports.some((port) => port.name === targetPort),
            `${name}: ${targetPort}`,
          );
      }
      for (const container of containers) {
        const env = envOf(container);
        const portOf = (name: string) => container.ports?.find((port) => port.name === name)?.containerPort;
        if (container.name === 'proxy') {
          assert.equal(env['APIGW_HTTPS_PORT'], String(portOf('https')));
          assert.equal(env['APIGW_HTTP_PORT'], String(portOf('http')));
        }
        if (form === 'sidecar') {
          // both find the sockets where the images have them
          assert.ok(
            container.volumeMounts.some(({ name, mountPath }) => name === 'sockets' && mountPath === '/run/apigw'),
          );
          continue;
        }
        for (const listener of ['decision', 'management']) {
          const service = services.find(({ name }) => name === 'apigw-gateway')?.spec;
          const port = service?.ports.find(({ targetPort }) => targetPort === listener)?.port ?? 0;
          const upper = listener.toUpperCase();
          if (container.name === 'proxy') assert.equal(env[`APIGW_${upper}_UPSTREAM`], `apigw-gateway:${port}`);
          else assert.equal(env[`APIGW_${upper}_LISTEN`], `0.0.0.0:${portOf(listener) ?? 0}`);
        }
      }
    });

    test('lets nobody to a port but who needs it', () => {
      const policies = ofKind<{
        podSelector: { matchLabels: Record<string, string> };
        ingress: { from?: { podSelector: { matchLabels: Record<string, string> } }[]; ports: { port: string }[] }[];
      }>(manifests, 'NetworkPolicy');
      const of = (component: string) =>
        policies.find(({ spec }) => spec.podSelector.matchLabels['app.kubernetes.io/component'] === component)?.spec
          .ingress;
      assert.deepEqual(of('proxy'), [{ ports: [{ port: 'https' }, { port: 'http' }] }]);
      const proxies = { 'app.kubernetes.io/name': 'apigw', 'app.kubernetes.io/component': 'proxy' };
      assert.deepEqual(
        of('gateway'),
        form === 'sidecar'
          ? undefined
          : [
              {
                from: [{ podSelector: { matchLabels: proxies } }],
                ports: [{ port: 'decision' }, { port: 'management' }],
              },
            ],
      );
    });

    test('has no secret in it', () => {
      assert.equal(manifests.filter(({ kind }) => kind === 'Secret').length, 0);
      const secrets = pods.flatMap(({ volumes }) => volumes.flatMap(({ secret }) => secret?.secretName ?? []));
      assert.deepEqual([...new Set(secrets)].sort(), ['apigw-database', 'apigw-tls']);
    });
  });
}
