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
