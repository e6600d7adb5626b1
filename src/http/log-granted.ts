import type { Granted } from '../auth/decision.ts';
import type { Logger } from '../log.ts';

/** One line for every so many grants, none for 0: nginx's access log has them all. */
export function createGrantLog(every: number, log: Logger): (granted: Granted, requestId: string) => void {
  if (every === 0) return () => undefined;
  let left = every;
  return (granted, requestId) => {
    if (--left > 0) return;
    left = every;
    const { id, method } = granted.principal;
    log.info({ outcome: 'granted', method, client_id: id, request_id: requestId, sampled_every: every }, 'granted');
  };
}
