import { parseCredential } from '../auth/credential.ts';
import type { Denied, DenialReason } from '../auth/decision.ts';
import type { Denials } from '../auth/denials.ts';
import { findingOf } from '../auth/findings.ts';
import type { Presented } from '../auth/authenticator.ts';
import type { Policy } from '../auth/policy.ts';
import type { Logger } from '../log.ts';
import { redact } from '../redact.ts';

export interface RefusedRequest extends Presented {
  readonly requestId: string;
}

/** Says once for each refusal what may be known of it: never the credential. */
export type ReportDenial = (denied: Denied, policy: Policy, request: RefusedRequest) => void;

export interface DenialReporterOptions {
  readonly log: Logger;
  readonly denials: Denials;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Refusals for one reason that are said one by one, in each second; further ones are counted. */
  readonly perSecond?: number;
}

/**
 * A line for each refusal, but for a flood: of more than `perSecond` for one reason the others are one line, with how many
 * they are. They cost next to nothing, and so whoever floods is answered cheaply.
 */
export function createDenialReporter({ log, denials, now, perSecond = 100 }: DenialReporterOptions): ReportDenial {
  const isWithinBound = createBound(perSecond, (reason, outcome, leftOut) => {
    log.warn({ outcome, reason, left_out: leftOut }, 'denied, more often than is said one by one');
  });
  return (denied, policy, request) => {
    const { outcome, reason } = denied;
    if (!isWithinBound(reason, outcome)) return;
    const at = now();
    const finding = findingOf(reason, policy, request, at);
    const token = 'token' in denied ? denied.token : undefined;
    const { requestId, authorization, clientAddress: address } = request;
    const credential = parseCredential(authorization);
    const cause = outcome === 'unavailable' ? textOf(denied.cause) : undefined;
    if (requestId !== '') {
      const claimedId = credential.scheme === 'apk' ? credential.clientId : undefined;
      denials.remember({ at, requestId, outcome, reason, address, claimedId, token, cause, ...finding });
    }
    const record = { outcome, reason, request_id: requestId };
    switch (outcome) {
      case 'unauthenticated':
        log.info({ ...record, ...token, ...finding }, token ? `Invalid token: ${reason}` : 'denied');
        return;
      case 'forbidden':
        log.info({ ...record, ...(token ?? { client_id: denied.clientId }), ...finding }, 'denied');
        return;
      case 'unavailable':
        log.warn({ ...record, cause, ...finding }, 'cannot decide');
    }
  };
}

type OnLeftOut = (reason: DenialReason, outcome: Denied['outcome'], leftOut: number) => void;

/** Says whether one more is within the bound of its second; at the end of the second, how many were not. */
function createBound(perSecond: number, onLeftOut: OnLeftOut) {
  const counted = new Map<DenialReason, { outcome: Denied['outcome']; count: number }>();
  const endSecond = () => {
    for (const [reason, { outcome, count }] of counted) {
      if (count > perSecond) onLeftOut(reason, outcome, count - perSecond);
    }
    counted.clear();
  };
  return (reason: DenialReason, outcome: Denied['outcome']): boolean => {
    if (counted.size === 0) setTimeout(endSecond, 1_000).unref();
    const known = counted.get(reason);
    if (known) return ++known.count <= perSecond;
    counted.set(reason, { outcome, count: 1 });
    return true;
  };
}

function textOf(cause: unknown): string {
  return redact(cause instanceof Error ? cause.message : String(cause)).slice(0, 1_000);
}
