import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { createOutput } from '../../src/cli/output.ts';

test('a table of the command line has every row of a hundred and fifty thousand, in columns of one width', async () => {
  const stdout = new PassThrough() as unknown as NodeJS.WriteStream & PassThrough;
  const whole = text(stdout);
  const rows = Array.from({ length: 150_000 }, (_, index) => index);
  const columns = [
    { title: 'ID', value: (row: number) => row },
    { title: 'NAME', value: (row: number) => `n${row}` },
  ];
  await createOutput('table', stdout).rows(rows, columns);
  stdout.end();
  const lines = (await whole).trimEnd().split('\n');
  assert.equal(lines.length, rows.length + 1);
  assert.deepEqual([lines[0], lines[1], lines.at(-1)], ['ID      NAME', '0       n0', '149999  n149999']);
});
