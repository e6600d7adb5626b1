import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import type { Api, CallOptions } from '../../src/cli/api.ts';
import { carryOut, makePlan } from '../../src/cli/commands/plan.ts';
import { CliError, exitCodes } from '../../src/cli/exit-codes.ts';

interface Asked {
  readonly names: readonly string[];
  readonly dryRun: boolean;
  readonly revision: unknown;
}

/** An API that makes everything that it is told to, one revision for each document, and the test may stop it. */
function answer() {
  const asked: Asked[] = [];
  let revision = 7;
  const state = { failsAt: Infinity };
  const call = (_method: string, _path: string, { query = {}, body }: CallOptions = {}) => {
    const { clients } = body as { clients: { api_client_id: string }[] };
    const dryRun = query['dry_run'] === true;
    asked.push({ names: clients.map((client) => client.api_client_id), dryRun, revision: query['revision'] });
    if (asked.length > state.failsAt) return Promise.reject(new CliError('changed meanwhile', exitCodes.conflict));
    if (!dryRun) revision++;
    const counts = { created: clients.length, updated: 0, deleted: 0, unchanged: 0 };
    return Promise.resolve({ dry_run: dryRun, revision, ...counts, changes: [] });
  };
  return { api: { call } as unknown as Api, asked, state };
}

const named = (count: number, more: object = {}) => ({
  version: 1,
  clients: Array.from({ length: count }, (_, index) => ({ api_client_id: `c-${index}`, ...more })),
});
const large = () => named(17, { description: 'x'.repeat(1024 * 1024) });

suite('a plan of more clients than one transaction takes', () => {
  test('is made of parts by number and by bytes, each client in one of them, by id', async () => {
    for (const [document, sizes] of [
      [named(10_000), [10_000]],
      [named(10_001), [10_000, 1]],
      [large(), [14, 3]],
    ] as const) {
      const { api, asked } = answer();
      await makePlan(api, document, {});
      assert.deepEqual(
        asked.map(({ names }) => names.length),
        sizes,
      );
      assert.deepEqual(
        asked.flatMap(({ names }) => names),
        document.clients.map((client) => client.api_client_id),
      );
      assert.ok(asked.every(({ dryRun }) => dryRun));
    }
    const { api, asked } = answer();
    const { clients, version } = named(10_001);
    await makePlan(
      api,
      { version, clients: [...clients, { api_client_id: 'second', id: 2 }, { api_client_id: 'first', id: 1 }] },
      {},
    );
    assert.deepEqual(asked[0]?.names.slice(0, 3), ['first', 'second', 'c-0']);
  });

  test('is refused with --prune, and with a client that is there twice, before anything is asked', async () => {
    const twice = [...named(10_000).clients, { api_client_id: 'c-7' }];
    for (const [document, query, said] of [
      [named(10_001), { prune: true }, /one transaction takes/],
      [large(), { prune: true }, /one transaction takes/],
      [{ version: 1, clients: twice }, {}, /"c-7" is there twice/],
    ] as const) {
      const { api, asked } = answer();
      await assert.rejects(makePlan(api, document, query), said);
      assert.deepEqual(asked, []);
    }
  });

  test('is carried out on the revision that it was made for, and each part on that of the one before', async () => {
    const { api, asked, state } = answer();
    const plan = await makePlan(api, named(20_001), {});
    assert.deepEqual(
      asked.splice(0).map(({ revision }) => revision),
      [undefined, 7, 7],
    );
    await carryOut(api, plan, {});
    assert.deepEqual(
      asked.splice(0).map(({ revision, dryRun }) => [revision, dryRun]),
      [7, 8, 9].map((revision) => [revision, false]),
    );
    state.failsAt = 1;
    await assert.rejects(
      carryOut(api, plan, {}),
      /^CliError: In part 2 of 3, .*changed meanwhile\nThe parts before it are done/,
    );
    assert.equal(asked.length, 2);
    asked.splice(0);
    state.failsAt = 0;
    await assert.rejects(carryOut(api, plan, {}), ({ message }: Error) => !message.includes('are done'));
  });
});
