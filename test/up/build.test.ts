import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { before, suite, test } from 'node:test';
import { makeTempDir, root } from '../support/stack.ts';

suite('a build', () => {
  const clone = makeTempDir();
  const dist = join(clone, 'dist');
  const chunks = join(dist, 'chunks');
  const build = () => spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: clone, encoding: 'utf8' });
  const ago = (path: string, minutes: number) => {
    const at = new Date(Date.now() - minutes * 60_000);
    utimesSync(path, at, at);
  };
  before(() => {
    for (const path of ['src', 'scripts/build.mjs', 'package.json', 'tsconfig.json'])
      cpSync(join(root, path), join(clone, path), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(clone, 'node_modules'));
    // what a build of the same has left
    const tests = join(root, 'dist/tests');
    cpSync(join(root, 'dist'), dist, { recursive: true, filter: (path) => path !== tests });
  });

  test('has programs, and what a program of the one before may load later', () => {
    for (const [name, minutes] of [
      ['older.js', 20],
      ['before.js', 10],
    ] as const) {
      writeFileSync(join(chunks, name), '');
      ago(join(chunks, name), minutes);
    }
    ago(join(dist, 'main.js'), 10);
    const { status, stderr } = build();
    assert.equal(status, 0, stderr);
    assert.equal(existsSync(join(chunks, 'older.js')), false);
    assert.ok(existsSync(join(chunks, 'before.js')));
    assert.ok(statSync(join(dist, 'main.js')).mtimeMs > Date.now() - 5 * 60_000);
    const { stdout } = spawnSync(join(dist, 'cli/main.js'), ['--version'], { encoding: 'utf8' });
    assert.match(stdout, /^\d+\.\d+\.\d+/);
  });

  test('that comes to no end leaves what is started as it was', () => {
    const main = join(dist, 'main.js');
    const { mtimeMs } = statSync(main);
    // one that cannot be written, as on a full disk
    const chunk = join(chunks, /chunk-\w+\.js/.exec(readFileSync(main, 'utf8'))?.[0] ?? '');
    rmSync(chunk);
    mkdirSync(join(chunk, 'x'), { recursive: true });
    assert.notEqual(build().status, 0);
    assert.equal(statSync(main).mtimeMs, mtimeMs);
    rmSync(chunk, { recursive: true });
    assert.equal(build().status, 0);
  });
});
