import type { Denied, DenialReason, TokenTrace } from './decision.ts';
import { detached } from './detached.ts';
import type { Finding } from './findings.ts';

/** One refusal, as it may be shown to an administrator. */
export interface Denial extends Partial<Finding> {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly requestId: string;
  readonly outcome: Denied['outcome'];
  readonly reason: DenialReason;
  readonly address: string;
  /** The id in an API key, believed or not; undefined for everything else. */
  readonly claimedId?: string | undefined;
  readonly token?: TokenTrace | undefined;
  /** Why it could not be decided. */
  readonly cause?: string | undefined;
}

/** Remembers refusals for a while, so that they can be asked about by the id of their request. */
export interface Denials {
  readonly remember: (denial: Denial) => void;
  readonly find: (requestId: string) => Denial | undefined;
}

/** @param capacity refusals for each reason: a flood for one reason must not push out those for others */
export function createDenials(capacity = 200): Denials {
  const byReason = new Map<DenialReason, Map<string, string>>();
  return {
    remember(denial) {
      const some = byReason.get(denial.reason) ?? new Map<string, string>();
      byReason.set(denial.reason, some);
      // as text, which holds on to nothing of the request that it came with
      some.set(detached(denial.requestId), JSON.stringify(denial));
      if (some.size <= capacity) return;
      for (const oldest of some.keys()) {
        some.delete(oldest);
        return;
      }
    },
    find(requestId) {
      for (const some of byReason.values()) {
        const found = some.get(requestId);
        if (found !== undefined) return JSON.parse(found) as Denial;
      }
      return undefined;
    },
  };
}
