import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { run } from './compose.ts';
import { FrontDoor } from './front-door.ts';
import type { Container, PodSpec, Probe, Volume } from './manifests.ts';
import { freePorts, makeTempDir } from './stack.ts';

/** What is beside a pod in its namespace. */
export interface Namespace {
  /** The engine's network, which stands for the cluster's. */
  readonly network: string;
  /** Values by key, by the name of the ConfigMap or Secret. */
  readonly configMaps: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly secrets: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** @returns what it printed; the engine must not refuse */
export async function docker(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run('docker', args);
  assert.equal(code, 0, `docker ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

/**
 * A pod in a container engine, as a kubelet makes it as far as the manifests need that: one network for all its
 * containers, users, capabilities, read-only file systems, volumes of fsGroup, probes, and the way that it ends.
 */
export class Pod extends FrontDoor {
  private readonly name: string;
  private readonly spec: PodSpec;
  private readonly namespace: Namespace;

  private constructor(name: string, spec: PodSpec, namespace: Namespace, httpsPort: number) {
    super(httpsPort, 0);
    this.name = name;
    this.spec = spec;
    this.namespace = namespace;
  }

  /** @param service the name by which others reach it */
  static async start(service: string, spec: PodSpec, namespace: Namespace): Promise<Pod> {
    const [httpsPort = 0] = await freePorts(1);
    const pod = new Pod(`${namespace.network}-${randomBytes(4).toString('hex')}`, spec, namespace, httpsPort);
    const published = spec.containers.flatMap(({ ports = [] }) => ports).find(({ name }) => name === 'https');
    const publish = published ? ['-p', `127.0.0.1:${httpsPort}:${published.containerPort}`] : [];
    const [{ image }] = spec.containers as [Container];
    const where = ['--network', namespace.network, '--network-alias', service, '--no-healthcheck', ...publish];
    await docker('run', '-d', '--name', pod.name, ...where, '--entrypoint', 'sleep', image, 'infinity');
    for (const volume of spec.volumes) await pod.makeVolume(volume);
    for (const container of spec.containers) await pod.startContainer(container);
    return pod;
  }

  /** Runs a command in a container. */
  exec(container: string, ...command: readonly string[]): Promise<string> {
    return docker('exec', this.containerOf(container), ...command);
  }

  async logs(container: string): Promise<string> {
    const { stdout, stderr } = await run('docker', ['logs', this.containerOf(container)]);
    return stdout + stderr;
  }

  /** How often its containers had to be started again. */
  async restarts(): Promise<number> {
    const counts = this.spec.containers.map(({ name }) => this.inspect(name, '{{.RestartCount}}'));
    return (await Promise.all(counts)).reduce((sum, count) => sum + Number(count), 0);
  }

  /** Whether every container passes this probe, asked as a kubelet would: at the pod's address. */
  async passes(probe: 'startupProbe' | 'readinessProbe' | 'livenessProbe'): Promise<boolean> {
    const probes = this.spec.containers.flatMap((container) => container[probe] ?? []);
    return (await Promise.all(probes.map((one) => this.passesOne(one)))).every((passed) => passed);
  }

  /** @returns the exit codes, by container, of what was told to end as a deleted pod is */
  async end(): Promise<Record<string, number>> {
    const ends = this.spec.containers.map(async ({ name, lifecycle }) => {
      const container = this.containerOf(name);
      await docker('exec', container, ...lifecycle.preStop.exec.command);
      await docker('stop', '-t', String(this.spec.terminationGracePeriodSeconds), container);
      return [name, Number(await this.inspect(name, '{{.State.ExitCode}}'))] as const;
    });
    return Object.fromEntries(await Promise.all(ends));
  }

  async remove(): Promise<void> {
    const names = [...this.spec.containers.map(({ name }) => this.containerOf(name)), this.name];
    await run('docker', ['rm', '-f', '-v', ...names]);
    await run('docker', ['volume', 'rm', ...this.spec.volumes.map(({ name }) => this.sourceOf(name))]);
  }

  private containerOf(name: string): string {
    return `${this.name}-${name}`;
  }

  private inspect(container: string, format: string): Promise<string> {
    return docker('inspect', '-f', format, this.containerOf(container));
  }

  private sourceOf(volume: string): string {
    return `${this.name}-${volume}`;
  }

  private async makeVolume({ name, emptyDir, secret, configMap }: Volume): Promise<void> {
    const group = this.spec.securityContext.fsGroup;
    if (emptyDir) {
      const size = emptyDir.sizeLimit.replace('Mi', 'm');
      const options = ['type=tmpfs', 'device=tmpfs', `o=mode=2777,gid=${group},size=${size}`];
      await docker(
        ...['volume', 'create', '--driver', 'local'],
        ...options.flatMap((option) => ['--opt', option]),
        this.sourceOf(name),
      );
      return;
    }
    const { secrets, configMaps } = this.namespace;
    const values = secret ? secrets[secret.secretName] : configMaps[configMap?.name ?? ''];
    assert.ok(values ?? (secret ?? configMap)?.optional, `${name} has no values`);
    const items = secret?.items ?? Object.keys(values ?? {}).map((key) => ({ key, path: key }));
    const folder = join(makeTempDir(), 'values');
    mkdirSync(folder);
    for (const { key, path } of values ? items : []) {
      writeFileSync(join(folder, path), values?.[key] ?? '');
      chownSync(join(folder, path), 0, group);
      chmodSync(join(folder, path), secret?.defaultMode ?? 0o644);
    }
    const options = ['type=none', `device=${folder}`, 'o=bind'].flatMap((option) => ['--opt', option]);
    await docker('volume', 'create', '--driver', 'local', ...options, this.sourceOf(name));
  }

  private async startContainer(container: Container): Promise<void> {
    const { name, image, env = [], envFrom = [], resources, securityContext, volumeMounts } = container;
    const { runAsUser, runAsGroup, readOnlyRootFilesystem, allowPrivilegeEscalation, capabilities } = securityContext;
    const variables = {
      ...Object.assign({}, ...envFrom.map(({ configMapRef }) => this.namespace.configMaps[configMapRef.name])),
      ...Object.fromEntries(env.map(({ name: variable, value = '' }) => [variable, value])),
    } as Record<string, string>;
    await docker(
      ...[
        'run',
        '-d',
        '--name',
        this.containerOf(name),
        '--network',
        `container:${this.name}`,
        '--restart',
        'always',
        '--no-healthcheck',
      ],
      ...['--user', `${runAsUser}:${runAsGroup}`, '--group-add', String(this.spec.securityContext.fsGroup)],
      ...(readOnlyRootFilesystem ? ['--read-only'] : []),
      ...(allowPrivilegeEscalation ? [] : ['--security-opt', 'no-new-privileges']),
      ...capabilities.drop.flatMap((capability) => ['--cap-drop', capability]),
      ...['--memory', resources.limits['memory']?.replace('Mi', 'm') ?? ''],
      ...Object.entries(variables).flatMap(([variable, value]) => ['-e', `${variable}=${value}`]),
      ...volumeMounts.flatMap(({ name: volume, mountPath, readOnly = false }) => [
        '--mount',
        // volume-nocopy: Kubernetes never fills a volume with what the image has there
        `type=volume,src=${this.sourceOf(volume)},dst=${mountPath},volume-nocopy${readOnly ? ',readonly' : ''}`,
      ]),
      image,
    );
  }

  private async passesOne({ httpGet, tcpSocket }: Probe): Promise<boolean> {
    const address = await docker(
      'inspect',
      '-f',
      '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}',
      this.name,
    );
    const port = this.portOf((httpGet ?? tcpSocket)?.port ?? '');
    if (!httpGet) return canConnect(address, port);
    const url = `${(httpGet.scheme ?? 'HTTP').toLowerCase()}://${address}:${port}${httpGet.path}`;
    const { code } = await run('curl', ['-sfk', '-o', '/dev/null', '--max-time', '5', url]);
    return code === 0;
  }

  private portOf(port: string | number): number {
    const named = this.spec.containers.flatMap(({ ports = [] }) => ports).find(({ name }) => name === port);
    return named?.containerPort ?? Number(port);
  }
}

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 5_000 }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => {
      resolve(false);
    });
  });
}
