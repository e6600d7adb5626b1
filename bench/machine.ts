import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import type { Bench } from './bench.ts';
import { pathOnly } from './process.ts';
import type { Machine } from './result.ts';

export function describeMachine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cores: processors.length,
    memory_bytes: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown',
  };
}

/** How a program is asked, and where the version is in what it says. */
const programs: Readonly<Record<string, readonly [command: string, args: readonly string[], version: RegExp]>> = {
  nginx: ['nginx', ['-v'], /nginx\/([\d.]+)/],
  wrk: ['wrk', ['-v'], /^wrk (\S+)/],
  h2load: ['h2load', ['--version'], /nghttp2\/([\d.]+)/],
  haproxy: ['haproxy', ['-v'], /version (\S+)/],
  apache: ['apache2', ['-v'], /Apache\/([\d.]+)/],
  mod_auth_openidc: ['dpkg-query', ['-W', '-f', 'v${Version}', 'libapache2-mod-auth-openidc'], /^v(.+)/],
  caddy: ['caddy', ['version'], /^v?([\d.]+)/],
};

/** By program, of those that are there. */
export function readVersions(bench: Pick<Bench, 'env'>): Record<string, string> {
  const found = Object.entries(programs).flatMap(([name, [command, args, version]]) => {
    const { stdout, stderr } = spawnSync(command, args, { env: pathOnly(bench), encoding: 'utf8' });
    const matched = version.exec(stdout + stderr)?.[1];
    return matched === undefined ? [] : [[name, matched] as const];
  });
  return { node: process.versions.node, ...Object.fromEntries(found) };
}

/** The short commit, with "-dirty" when files differ from it; "unknown" outside of a clone. */
export function readCommit({ root, env }: Pick<Bench, 'root' | 'env'>): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, {
      cwd: root,
      env: pathOnly({ env }),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  try {
    // results of earlier runs change nothing
    const changes = git('status', '--porcelain', '--', '.', ':!bench/results').trim();
    return `${git('rev-parse', '--short', 'HEAD').trim()}${changes === '' ? '' : '-dirty'}`;
  } catch {
    return 'unknown';
  }
}
