import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { inBatches } from '../../src/store/in-batches.ts';

suite('questions in batches', () => {
  test('what is asked while a query is under way becomes one query that begins after it', async () => {
    const queries: (readonly number[])[] = [];
    const ends: (() => void)[] = [];
    const ask = inBatches(async (questions: readonly number[]) => {
      queries.push(questions);
      await new Promise<void>((resolve) => ends.push(resolve));
      return (question) => question * 10;
    });
    const first = ask(1);
    await Promise.resolve();
    const others = Promise.all([ask(2), ask(3), ask(2)]);
    assert.deepEqual(queries, [[1]]);
    ends.shift()?.();
    assert.equal(await first, 10);
    ends.shift()?.();
    assert.deepEqual(await others, [20, 30, 20]);
    assert.deepEqual(queries, [[1], [2, 3, 2]]);
  });

  test('a query that fails fails its own questions and no other', async () => {
    const ask = inBatches(async (questions: readonly string[]) => {
      await Promise.resolve();
      if (questions.includes('bad')) throw new Error('unreadable');
      return (question) => question;
    });
    const bad = ask('bad');
    await Promise.resolve();
    const good = ask('good');
    await assert.rejects(bad, /unreadable/);
    assert.equal(await good, 'good');
    assert.equal(await ask('later'), 'later');
  });
});
