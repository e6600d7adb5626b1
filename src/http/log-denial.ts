import { type Decision } from '../auth/decision.ts';
import type { Logger } from '../log.ts';

/** One line for each denial, with what may be known of a refused token: never the token. */
export function logDenial(decision: Exclude<Decision, { outcome: 'granted' }>, requestId: string, log: Logger): void {
  const { outcome, reason } = decision;
  const record = { outcome, reason, request_id: requestId };
  switch (outcome) {
    case 'unauthenticated':
      if (decision.token) log.info({ ...record, ...decision.token }, `Invalid token: ${reason}`);
      else log.info(record, 'denied');
      return;
    case 'forbidden':
      log.info({ ...record, ...(decision.token ?? { client_id: decision.clientId }) }, 'denied');
      return;
    case 'unavailable': {
      const { cause } = decision;
      log.warn({ ...record, cause: cause instanceof Error ? cause.message : cause }, 'cannot decide');
    }
  }
}
