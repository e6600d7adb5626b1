import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { parse, parseAllDocuments } from 'yaml';
import { root } from './stack.ts';

/** A document of a manifest, as far as every kind has it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly [field: string]: unknown;
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string | number; readonly scheme?: string };
  readonly tcpSocket?: { readonly port: string | number };
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly envFrom?: readonly { readonly configMapRef: { readonly name: string } }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly startupProbe?: Probe;
  readonly readinessProbe: Probe;
  readonly livenessProbe: Probe;
  readonly lifecycle: { readonly preStop: { readonly exec: { readonly command: readonly string[] } } };
  readonly resources: { readonly requests: Record<string, string>; readonly limits: Record<string, string> };
  readonly securityContext: {
    readonly runAsUser: number;
    readonly runAsGroup: number;
    readonly readOnlyRootFilesystem: boolean;
    readonly allowPrivilegeEscalation: boolean;
    readonly capabilities: { readonly drop: readonly string[] };
  };
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
}

export interface Volume {
  readonly name: string;
  readonly emptyDir?: { readonly sizeLimit: string };
  readonly configMap?: { readonly name: string; readonly optional?: boolean };
  readonly secret?: {
    readonly secretName: string;
    readonly optional?: boolean;
    readonly defaultMode: number;
    readonly items?: readonly { readonly key: string; readonly path: string }[];
  };
}

/** As much of a pod as our manifests have. */
export interface PodSpec {
  readonly containers: readonly Container[];
  readonly volumes: readonly Volume[];
  readonly securityContext: { readonly fsGroup: number };
  readonly terminationGracePeriodSeconds: number;
  readonly enableServiceLinks: boolean;
  readonly automountServiceAccountToken: boolean;
  readonly topologySpreadConstraints: readonly unknown[];
}

export interface Deployment {
  readonly replicas: number;
  readonly strategy: { readonly rollingUpdate: { readonly maxUnavailable: number } };
  readonly template: { readonly metadata: { readonly labels: Record<string, string> }; readonly spec: PodSpec };
}

/** The names and specs of all of one kind. */
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- what the spec of this kind is
export function ofKind<Spec>(manifests: readonly Manifest[], kind: string): { name: string; spec: Spec }[] {
  return manifests
    .filter((manifest) => manifest.kind === kind)
    .map(({ metadata, spec }) => ({ name: metadata.name, spec: spec as Spec }));
}

/** What `kubectl kustomize` makes of a folder whose kustomization has resources and nothing else. */
export function buildKustomization(folder: string): Manifest[] {
  const { apiVersion, kind, resources, ...more } = parse(
    readFileSync(join(root, folder, 'kustomization.yaml'), 'utf8'),
  ) as { apiVersion: string; kind: string; resources: string[] };
  if (kind !== 'Kustomization' || !apiVersion.startsWith('kustomize.config.k8s.io/') || Object.keys(more).length > 0)
    throw new Error(`${folder}/kustomization.yaml has more than resources`);
  return resources.flatMap((resource) => {
    const path = join(folder, resource);
    return existsSync(join(root, path, 'kustomization.yaml'))
      ? buildKustomization(path)
      : readManifests(readFileSync(join(root, path), 'utf8'));
  });
}

export function readManifests(text: string): Manifest[] {
  return parseAllDocuments(text, { merge: false }).map((document) => {
    const [error] = document.errors;
    if (error) throw error;
    return document.toJS() as Manifest;
  });
}

/** What does not change from one call to the next, by its path. */
const parsed = new Map<string, ts.SourceFile | undefined>();

/**
 * What the API of Kubernetes would refuse or silently leave out: by the types that kubernetes-models has of it, of which
 * the compiler refuses every field that is none.
 *
 * @returns one sentence each
 */
export function faultsOf(manifests: readonly Manifest[]): string[] {
  const file = join(root, 'test/kubernetes/manifests.generated.ts');
  const text = manifests
    .map(({ apiVersion, kind, ...rest }, index) => {
      const type = `import('kubernetes-models/${apiVersion}').I${kind}`;
      return `export const m${index}: ${type} = ${JSON.stringify({ apiVersion, kind, ...rest }, null, 1)};`;
    })
    .join('\n');
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const host = ts.createCompilerHost(options);
  const onDisk = { ...host };
  host.fileExists = (name) => name === file || onDisk.fileExists(name);
  host.getSourceFile = (name, languageVersion) => {
    if (name === file) return ts.createSourceFile(name, text, languageVersion);
    const read = parsed.get(name) ?? onDisk.getSourceFile(name, languageVersion);
    parsed.set(name, read);
    return read;
  };
  return ts
    .getPreEmitDiagnostics(ts.createProgram([file], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '));
}
