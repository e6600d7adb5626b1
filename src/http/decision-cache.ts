import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { LRUCache } from 'lru-cache';
import type { Granted } from '../auth/decision.ts';
import type { Logger } from '../log.ts';

export interface DecisionCacheOptions {
  /** Where the vouchers are, beside the decision socket; undefined where nginx could not see them. */
  readonly directory: string | undefined;
  /** Off when several processes decide: none of them could withdraw for the others. */
  readonly isEnabled?: boolean;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that only goes forward. */
  readonly monotonicNow: () => number;
  readonly log: Logger;
  /** API clients with a voucher at once. */
  readonly capacity?: number;
}

/**
 * The gateway's side of nginx's decision cache (snippets/decision-cache.conf). nginx uses the cache for a credential only
 * while there is a voucher, an empty file: `client-<id>` for the keys of an API client, `tokens` for all access tokens.
 * Whoever takes the voucher away before a change is acknowledged has withdrawn whatever nginx has stored.
 */
export interface DecisionCache {
  /**
   * Until when nginx may answer this grant by itself, in seconds since the epoch; 0 for not at all. Vouches for it, so
   * call it in the tick in which the decision is answered, and only when nginx has asked.
   */
  readonly cacheUntil: (granted: Granted) => number;
  /** For a client that has changed. A token does not say whose it is, so all of them go along. */
  readonly withdraw: (id: number) => void;
  readonly withdrawTokens: () => void;
  readonly withdrawAll: () => void;
  /** Withdraws all and vouches for nothing until `resume`. */
  readonly suspend: () => void;
  readonly resume: () => void;
  /** Withdraws all when the clock has been put back: nginx goes by it, and would keep what it has until it is there again. */
  readonly followClock: () => void;
  readonly close: () => void;
}

/** Seconds that nginx may add to the second of the decision: with the rest of the last one, an entry lives at most 5 s. */
const lifetime = 4;
/** Seconds before the end of the credential: nginx's clock is a whole number, and up to a turn of its loop behind. */
const margin = 2;
/** Milliseconds without a voucher after a withdrawal: until every entry from before is dead. Lifetime, read timeout, 2 s. */
const holdOff = 11_000;
/** The voucher of all access tokens; no API client has this id. */
const tokens = 0;
/** Milliseconds by which a clock may be put back unnoticed. */
const slack = 500;

interface Hold {
  readonly until: number;
  /** The last second that nginx had been promised: should the clock be put back, entries live until it has passed again. */
  readonly promised: number;
}

/**
 * @throws {Error} when vouchers of before cannot be taken away
 */
export function createDecisionCache(options: DecisionCacheOptions): DecisionCache {
  const { directory, isEnabled = true, now, monotonicNow, log, capacity = 10_000 } = options;
  const vouched = new LRUCache<number, true>({
    max: capacity,
    dispose: (_, id, reason) => {
      if (reason === 'evict') remove(id);
    },
  });
  /** In the order in which they end. */
  const held = new Map<number, Hold>();
  let allHeld: Hold;
  let promised = 0;
  let ahead = now() - monotonicNow();
  let isVouching = directory !== undefined && isEnabled;
  let isSuspended = false;

  const pathOf = (id: number) => join(directory ?? '', id === tokens ? 'tokens' : `client-${id}`);
  const newHold = (): Hold => ({ until: monotonicNow() + holdOff, promised });
  const lasts = ({ until, promised: last }: Hold, seconds: number) => monotonicNow() < until || seconds <= last;

  function withdrawAll(): void {
    allHeld = newHold();
    held.clear();
    vouched.clear();
    if (directory === undefined) return;
    try {
      rmSync(directory, { recursive: true, force: true });
    } catch (error) {
      giveUp(directory, error);
    }
  }

  function withdrawOne(id: number): void {
    for (const [other, hold] of held) {
      if (hold.until > monotonicNow()) break;
      if (!lasts(hold, now() / 1_000)) held.delete(other);
    }
    if (held.size >= capacity) {
      withdrawAll();
      return;
    }
    held.delete(id);
    held.set(id, newHold());
    vouched.delete(id);
    remove(id);
  }

  function remove(id: number): void {
    if (directory === undefined) return;
    try {
      unlinkSync(pathOf(id));
    } catch (error) {
      // nginx finds none there either
      if (!['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) giveUp(directory, error);
    }
  }

  /** A voucher that stays would outlive the right it stands for: then all of them go, in whatever way is left. */
  function giveUp(folder: string, cause: unknown): void {
    isVouching = false;
    log.error({ err: cause }, 'a voucher cannot be withdrawn; nginx caches no more decisions until the next start');
    const ways = [
      () => {
        rmSync(folder, { recursive: true, force: true });
      },
      () => {
        renameSync(folder, `${folder}.withdrawn`);
      },
      () => {
        chmodSync(folder, 0);
      },
    ];
    for (const way of ways) {
      try {
        way();
        return;
      } catch {
        // the next one
      }
    }
    throw new Error(`${folder} cannot be removed, and nginx goes on to cache decisions by it`, { cause });
  }

  function vouch(id: number, folder: string, seconds: number): boolean {
    const hold = held.get(id);
    if (lasts(allHeld, seconds) || (hold && lasts(hold, seconds))) return false;
    try {
      create(pathOf(id), folder);
    } catch (error) {
      // a full disk, or somebody has cleaned up: the next attempt begins anew
      log.warn({ err: error }, 'nginx caches no decisions for a while: no voucher can be made');
      withdrawAll();
      return false;
    }
    vouched.set(id, true);
    return true;
  }

  withdrawAll();
  return {
    cacheUntil({ principal, expiresAt }) {
      if (!isVouching || isSuspended || directory === undefined) return 0;
      const seconds = Math.floor(now() / 1_000);
      const end = expiresAt === null ? Infinity : Math.floor(expiresAt / 1_000) - margin;
      const until = Math.min(seconds + lifetime, end);
      if (until <= seconds) return 0;
      const id = principal.method === 'api_key' ? principal.id : tokens;
      if (!vouched.get(id) && !vouch(id, directory, seconds)) return 0;
      promised = Math.max(promised, until);
      return until;
    },
    withdraw(id) {
      withdrawOne(id);
      withdrawOne(tokens);
    },
    withdrawTokens() {
      withdrawOne(tokens);
    },
    withdrawAll,
    suspend() {
      isSuspended = true;
      withdrawAll();
    },
    resume() {
      isSuspended = false;
    },
    followClock() {
      const before = ahead;
      ahead = now() - monotonicNow();
      if (ahead < before - slack) withdrawAll();
    },
    close() {
      isVouching = false;
      withdrawAll();
    },
  };
}

function create(path: string, folder: string): void {
  try {
    closeSync(openSync(path, 'w', 0o640));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    makeFolder(folder);
    closeSync(openSync(path, 'w', 0o640));
  }
}

/** nginx's workers see what is in it by the group of the folder with the sockets. */
function makeFolder(folder: string): void {
  mkdirSync(folder, { mode: 0o750 });
  const { uid, gid } = statSync(folder);
  const parent = statSync(dirname(folder));
  if (gid !== parent.gid) chownSync(folder, uid, parent.gid);
  chmodSync(folder, 0o750);
}
