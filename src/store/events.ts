import type { Knex } from 'knex';
import type { AuditEvent, StoredEvent } from '../clients/api-client.ts';
import type { EventQuery } from '../clients/client-store.ts';

interface EventRow {
  id: number;
  revision: number | null;
  at: number;
  actor_client_id: number | null;
  actor: string | null;
  address: string | null;
  request_id: string | null;
  action: string;
  client_id: number | null;
  outcome: string;
  details: string | null;
}

export async function insertEvent(database: Knex, event: AuditEvent, revision: number | null): Promise<void> {
  const { actor, details } = event;
  await database<EventRow>('audit_events').insert({
    revision,
    at: event.at,
    actor_client_id: actor.clientId,
    actor: actor.name ?? null,
    address: actor.address ?? null,
    request_id: actor.requestId,
    action: event.action,
    client_id: event.clientId,
    outcome: event.outcome,
    details: details ? JSON.stringify(details) : null,
  });
}

/** A trigger refuses every other removal. */
export function pruneEvents(database: Knex, before: number, limit: number): Promise<number> {
  return database.transaction(async (transaction) => {
    const allow = (time: number) => transaction('audit_pruning').where('id', 1).update({ before: time });
    await allow(before);
    const oldest = transaction<EventRow>('audit_events')
      .where('at', '<', before)
      .orderBy('at')
      .limit(limit)
      .select('id');
    const removed = await transaction<EventRow>('audit_events').whereIn('id', oldest).delete();
    await allow(0);
    return removed;
  });
}

export function selectEvents(database: Knex, query: EventQuery): PromiseLike<EventRow[]> {
  const { limit, isDescending, after, clientId, actorId, action, outcome, requestId, since, until } = query;
  const found = database<EventRow>('audit_events')
    .orderBy('id', isDescending ? 'desc' : 'asc')
    .limit(limit);
  if (after !== undefined) void found.where('id', isDescending ? '<' : '>', after);
  if (clientId !== undefined) void found.where('client_id', clientId);
  if (actorId !== undefined) void found.where('actor_client_id', actorId);
  // "/" is the character after "."
  if (action !== undefined)
    void found.whereRaw('(action = ? or (action > ? and action < ?))', [action, `${action}.`, `${action}/`]);
  if (outcome !== undefined) void found.where('outcome', outcome);
  if (requestId !== undefined) void found.where('request_id', requestId);
  if (since !== undefined) void found.where('at', '>=', since);
  if (until !== undefined) void found.where('at', '<', until);
  return found;
}

export function toEvent(row: EventRow): StoredEvent {
  return {
    id: row.id,
    revision: row.revision,
    at: row.at,
    actor: {
      clientId: row.actor_client_id,
      requestId: row.request_id,
      ...(row.actor !== null && { name: row.actor }),
      ...(row.address !== null && { address: row.address }),
    },
    action: row.action,
    clientId: row.client_id,
    outcome: row.outcome,
    ...(row.details !== null && { details: JSON.parse(row.details) as Record<string, unknown> }),
  };
}
