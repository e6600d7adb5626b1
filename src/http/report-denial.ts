import { parseCredential } from '../auth/credential.ts';
import type { Denied } from '../auth/decision.ts';
import type { Denials } from '../auth/denials.ts';
import { findingOf } from '../auth/findings.ts';
import type { Presented } from '../auth/authenticator.ts';
import type { Policy } from '../auth/policy.ts';
import { redact, type Logger } from '../log.ts';

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
}

export function createDenialReporter({ log, denials, now }: DenialReporterOptions): ReportDenial {
  return (denied, policy, request) => {
    const { outcome, reason } = denied;
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

function textOf(cause: unknown): string {
  return redact(cause instanceof Error ? cause.message : String(cause)).slice(0, 1_000);
}
