import { Readable } from 'node:stream';
import Router from '@koa/router';
import { toTime, type StoredEvent } from '../clients/api-client.ts';
import type { ClientStore, EventQuery } from '../clients/client-store.ts';
import type { ManagementState } from './management-app.ts';
import { auditQuery, maxPage, parseQuery } from './schemas.ts';

const path = '/v1/management/audit-events';

/** `GET /v1/management/audit-events`, for administrators: who has done what, to whom, from where. */
export function createAuditRoutes(store: Pick<ClientStore, 'listEvents'>): Router<ManagementState> {
  const router = new Router<ManagementState>({ prefix: path });

  router.get('/', async (context) => {
    const { format, limit, cursor, sort, ...filters } = parseQuery(auditQuery, context.query);
    const query = {
      isDescending: sort.isDescending,
      after: cursor,
      clientId: filters.client_id,
      actorId: filters.actor_id,
      action: filters.action,
      outcome: filters.outcome,
      requestId: filters.request_id,
      since: filters.since,
      until: filters.until,
    };
    if (format === 'jsonl') {
      context.set('Content-Type', 'application/jsonl; charset=utf-8');
      context.body = Readable.from(toLines(pagesOf(store, query, limit)), { objectMode: false });
      return;
    }
    const size = limit ?? maxPage;
    // one more than asked for tells whether there is a next page
    const found = await store.listEvents({ ...query, limit: size + 1 });
    const page = found.slice(0, size);
    const last = page.at(-1);
    if (found.length > size && last) {
      const next = new URLSearchParams(context.querystring);
      next.set('limit', String(size));
      next.set('cursor', String(last.id));
      context.set('Link', `<${path}?${next.toString()}>; rel="next"`);
    }
    context.body = page.map(presentEvent);
  });

  return router;
}

/** Every event that there is, or so many, a page at a time: an export takes no more memory than a page. */
async function* pagesOf(
  store: Pick<ClientStore, 'listEvents'>,
  query: Omit<EventQuery, 'limit'>,
  limit = Infinity,
): AsyncGenerator<StoredEvent[]> {
  let { after } = query;
  for (let left = limit; left > 0;) {
    const size = Math.min(left, maxPage);
    const page = await store.listEvents({ ...query, after, limit: size });
    yield page;
    if (page.length < size) return;
    after = page.at(-1)?.id;
    left -= page.length;
  }
}

async function* toLines(pages: AsyncIterable<StoredEvent[]>): AsyncGenerator<string> {
  for await (const page of pages) {
    if (page.length > 0) yield page.map((event) => `${JSON.stringify(presentEvent(event))}\n`).join('');
  }
}

function presentEvent({ id, at, actor, action, clientId, outcome, details, revision }: StoredEvent): object {
  return {
    id,
    at: toTime(at),
    action,
    outcome,
    actor_id: actor.clientId,
    actor: actor.name ?? null,
    address: actor.address ?? null,
    client_id: clientId,
    request_id: actor.requestId,
    revision,
    details: details ?? null,
  };
}
