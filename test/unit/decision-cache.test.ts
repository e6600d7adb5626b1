import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import type { Granted } from '../../src/auth/decision.ts';
import { encodeHeaderValue } from '../../src/auth/header-value.ts';
import { createDecisionCache } from '../../src/http/decision-cache.ts';
import { createLog } from '../../src/log.ts';
import { makeTempDir } from '../support/stack.ts';

const start = 1_800_000_000_000;
const log = createLog('fatal');

/** A cache whose hold-off after the start is over, on clocks that the test moves. */
function make({ isEnabled = true, capacity = 10 } = {}) {
  const directory = join(makeTempDir(), 'decision-cache');
  const clock = { wall: start, monotonic: 0 };
  const cache = createDecisionCache({
    directory,
    isEnabled,
    capacity,
    log,
    now: () => clock.wall,
    monotonicNow: () => clock.monotonic,
  });
  const pass = (milliseconds: number) => {
    clock.wall += milliseconds;
    clock.monotonic += milliseconds;
  };
  pass(11_000);
  const vouchers = () => (existsSync(directory) ? readdirSync(directory).sort() : []);
  const seconds = (granted: Granted) => {
    const until = cache.cacheUntil(granted);
    return until === 0 ? 0 : until - Math.floor(clock.wall / 1_000);
  };
  return { cache, clock, directory, pass, seconds, vouchers };
}

const grant = (id: number, expiresAt: number | null = null, method: 'api_key' | 'jwt' = 'api_key'): Granted => ({
  outcome: 'granted',
  principal: { id, clientId: encodeHeaderValue('x'), clientName: encodeHeaderValue('x'), isAdmin: false, method },
  expiresAt,
  isReusable: true,
  replacedAt: null,
  limits: undefined,
});

suite('a voucher', () => {
  test('is made for a grant that may be kept, 4 s ahead, readable by the group of the sockets', () => {
    const { directory, seconds, vouchers } = make();
    assert.deepEqual([seconds(grant(7)), seconds(grant(8, null, 'jwt'))], [4, 4]);
    assert.deepEqual(vouchers(), ['client-7', 'tokens']);
    assert.equal(statSync(directory).mode & 0o777, 0o750);
  });

  test('promises nothing beyond the end of the credential, with 2 s to spare', () => {
    const { clock, seconds } = make();
    const left = [1_000, 2_000, 3_000, 3_500, 5_900, 60_000].map((rest) => seconds(grant(1, clock.wall + rest)));
    assert.deepEqual(left, [0, 0, 1, 1, 3, 4]);
  });

  test('is gone when the client changes, with that of the tokens, and does not come back for 11 s', () => {
    const { cache, pass, seconds, vouchers } = make();
    for (const granted of [grant(1), grant(2), grant(3, null, 'jwt')]) seconds(granted);
    cache.withdraw(1);
    assert.deepEqual(vouchers(), ['client-2']);
    pass(10_900);
    assert.deepEqual([seconds(grant(1)), seconds(grant(1, null, 'jwt')), seconds(grant(2))], [0, 0, 4]);
    pass(100);
    assert.deepEqual([seconds(grant(1)), seconds(grant(1, null, 'jwt'))], [4, 4]);
  });

  test('does not come back before what was promised is over, should the clock be put back', () => {
    const { cache, clock, pass, seconds } = make();
    seconds(grant(1));
    clock.wall -= 60_000;
    cache.withdraw(1);
    pass(30_000);
    assert.equal(seconds(grant(1)), 0);
    pass(35_000);
    assert.equal(seconds(grant(1)), 4);
  });

  test('is not there for anybody after a start, while the database is away, and after the end', () => {
    const { cache, directory, pass, seconds, vouchers } = make();
    seconds(grant(1));
    const log2 = { directory, log, now: () => start, monotonicNow: () => 0 };
    assert.equal(createDecisionCache(log2).cacheUntil(grant(1)), 0);
    assert.deepEqual(vouchers(), []);
    cache.suspend();
    pass(60_000);
    assert.equal(seconds(grant(1)), 0);
    cache.resume();
    assert.equal(seconds(grant(1)), 4);
    cache.close();
    pass(60_000);
    assert.deepEqual([seconds(grant(1)), vouchers()], [0, []]);
  });

  test('is never made by one of several processes, and one of before goes', () => {
    const { cache, directory, pass, seconds } = make({ isEnabled: false });
    pass(60_000);
    assert.deepEqual([seconds(grant(1)), existsSync(directory)], [0, false]);
    cache.withdraw(1);
  });

  test('of the client that has not been seen for longest goes when there are too many', () => {
    const { seconds, vouchers } = make({ capacity: 2 });
    for (const id of [1, 2, 1, 3]) assert.equal(seconds(grant(id)), 4);
    assert.deepEqual(vouchers(), ['client-1', 'client-3']);
    assert.equal(seconds(grant(2)), 4);
  });

  test('that cannot be made is not missed: nothing is kept, and it is tried again later', () => {
    const { directory, cache, pass, seconds, vouchers } = make();
    writeFileSync(directory, 'in the way');
    assert.equal(seconds(grant(1)), 0);
    cache.withdraw(1);
    pass(11_000);
    assert.equal(seconds(grant(1)), 4);
    rmSync(directory, { recursive: true });
    cache.withdraw(1);
    assert.deepEqual(vouchers(), []);
  });

  test('that cannot be taken away goes with all the others, for good', () => {
    const { cache, directory, pass, seconds } = make();
    seconds(grant(1));
    seconds(grant(2));
    rmSync(join(directory, 'client-1'));
    mkdirSync(join(directory, 'client-1'));
    cache.withdraw(1);
    assert.equal(existsSync(directory), false);
    pass(60_000);
    assert.equal(seconds(grant(2)), 0);
  });
});
