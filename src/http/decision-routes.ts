import Router from '@koa/router';
import type { Denial } from '../auth/denials.ts';
import { toTime } from '../clients/api-client.ts';
import { Problem } from '../problem.ts';
import { reasons, type Reason } from '../reasons.ts';
import type { ManagementState } from './management-app.ts';
import { noQuery, parseQuery } from './schemas.ts';

/** A refusal that is still remembered, by the id of its request. */
export type FindDenial = (requestId: string) => Promise<Denial | undefined>;

/** `GET .../decisions/{request_id}`: why a request was refused, with what was expected and what was seen. */
export function createDecisionRoutes(findDenial: FindDenial): Router<ManagementState> {
  const router = new Router<ManagementState>({ prefix: '/v1/management' });

  router.get('/decisions/:requestId', async (context) => {
    parseQuery(noQuery, context.query);
    const denial = await findDenial(context.params['requestId'] ?? '');
    if (!denial) {
      throw new Problem(
        404,
        'unknown_decision',
        'The gateway remembers no refusal with this request id. The log of nginx has every request.',
      );
    }
    context.body = presentDenial(denial);
  });

  return router;
}

function presentDenial({
  at,
  requestId,
  outcome,
  reason,
  address,
  claimedId,
  token,
  cause,
  ...finding
}: Denial): object {
  const { status, meaning, remedy, toldAs }: Reason = reasons[reason];
  return {
    request_id: requestId,
    at: toTime(at),
    outcome,
    status,
    reason,
    told_as: toldAs ?? reason,
    meaning,
    expected: finding.expected ?? null,
    seen: finding.seen ?? null,
    remedy,
    address: address || null,
    claimed_client_id: claimedId ?? null,
    token: token ?? null,
    cause: cause ?? null,
  };
}
