import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { makeTempDir, root } from '../support/stack.ts';
import { processesOf } from '../support/up.ts';

async function bench(args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'bench/main.ts', ...args], { cwd: root, env });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

suite('the benchmark', () => {
  test('names everything that it measures', async () => {
    const { code, output } = await bench(['--list']);
    assert.equal(code, 0);
    for (const name of ['L0', 'L1', 'key', 'jwt-new-rs256', 'key-cache', 'haproxy-key', 'memory'])
      assert.match(output, new RegExp(`^${name} `, 'm'));
  });

  test('says in one line what is missing, and how to get it', async () => {
    const bin = join(makeTempDir(), 'bin');
    mkdirSync(bin);
    symlinkSync('/bin/sh', join(bin, 'sh'));
    const { code, output } = await bench([], { ...process.env, PATH: bin });
    assert.deepEqual([code, output], [1, 'bench: wrk is needed: apt-get install wrk\n']);
  });

  test('measures, judges, draws, and leaves nothing running', async () => {
    const results = join(makeTempDir(), 'results');
    const args = ['--only', 'key', '--rounds', '1', '--seconds', '1', '--results', results];
    const { code, output } = await bench(args);
    assert.equal(code, 0, output);
    assert.equal(readdirSync(results).length, 4);
    const { rows, goals } = JSON.parse(readFileSync(join(results, 'latest.json'), 'utf8')) as {
      rows: { name: string; measurements: { requests: number; gateway: object | null }[] }[];
      goals: { what: string; mark: string }[];
    };
    assert.deepEqual(rows.map(({ name }) => name).sort(), ['L1', 'key']);
    for (const { measurements } of rows) assert.ok((measurements[0]?.requests ?? 0) > 0);
    assert.match(goals.find(({ what }) => what.startsWith('key: requests/s'))?.mark ?? '', /^(?:met|missed)$/);
    assert.match(readFileSync(join(results, 'latest.svg'), 'utf8'), /^<svg [^]*>key<[^]*<\/svg>\n$/);
    assert.deepEqual(processesOf('apigw-bench-'), []);
  });
});
