import type { ParameterizedContext } from 'koa';
import { toTime } from '../clients/api-client.ts';
import type { Gateways, Propagation, StoredGateway } from '../clients/gateways.ts';
import type { PropagationAnswer, GatewayAnswer } from './answer-schemas.ts';
import type { ManagementState } from './management-app.ts';

/** Milliseconds for a look at what the others have followed, when the change has taken all the time there was. */
const leastPatience = 100;

/** The last step of a call that has changed something. */
export type FinishChange = (
  context: ParameterizedContext<ManagementState>,
  /** Milliseconds from the arrival of the call; undefined for a caller who waits for nobody. */
  wait: number | undefined,
) => Promise<void>;

/**
 * Waits for the other gateways as `?wait=` asks for. When time is up the status is 202 and the body, which has all that it
 * would have had, says who is behind.
 */
export function createFinishChange(gateways: Pick<Gateways, 'whenFollowed'>): FinishChange {
  return async (context, wait) => {
    if (wait === undefined) return;
    const left = context.state.receivedAt + wait - performance.now();
    const propagation = await gateways.whenFollowed(Math.max(left, leastPatience));
    if (!propagation) return;
    const body = context.body as object | null | undefined;
    context.status = 202;
    context.body = { ...body, propagation: presentPropagation(propagation) };
  };
}

function presentPropagation({ revision, pending }: Propagation): PropagationAnswer {
  return { revision: revision ?? null, pending: pending?.map(presentGateway) ?? null };
}

export function presentGateway({ name, appliedRevision, seenAt }: StoredGateway): GatewayAnswer {
  return { gateway: name, applied_revision: appliedRevision, last_seen_at: toTime(seenAt) };
}
