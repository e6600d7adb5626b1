import Router from '@koa/router';
import { LastAdmin, type ApiClients } from '../clients/api-clients.ts';
import { DuplicateApiClientId } from '../clients/client-store.ts';
import { Problem } from '../problem.ts';
import { readJsonBody } from './json-body.ts';
import type { ManagementState } from './management-app.ts';
import { presentClient } from './present-client.ts';
import {
  changeQuery,
  createRequest,
  listQuery,
  noQuery,
  parseBody,
  parseId,
  parseQuery,
  updateRequest,
} from './schemas.ts';

const path = '/v1/management/api-clients';

/** The resource `/v1/management/api-clients`, for callers that are known to be administrators. */
export function createApiClientRoutes(clients: ApiClients): Router<ManagementState> {
  const router = new Router<ManagementState>({ prefix: path });

  router.post('/', async (context) => {
    parseQuery(noQuery, context.query);
    const request = parseBody(createRequest, await readJsonBody(context.req));
    const { client, token } = await orProblem(() =>
      clients.create(
        {
          name: request.name,
          apiClientId: request.api_client_id,
          isAdmin: request.is_admin,
          isEnabled: request.enabled,
          generateApiKey: request.generate_api_key,
        },
        context.state.actor,
      ),
    );
    context.state.isAudited = true;
    context.status = 201;
    context.set('Location', `${path}/${client.id}`);
    context.body = { ...presentClient(client), ...(token !== undefined && { token }) };
  });

  router.get('/', async (context) => {
    const { limit, cursor } = parseQuery(listQuery, context.query);
    // one more than asked for tells whether there is a next page
    const found = await clients.list({ after: cursor, limit: limit + 1 });
    const page = found.slice(0, limit);
    const last = page.at(-1);
    if (found.length > limit && last) context.set('Link', `<${path}?limit=${limit}&cursor=${last.id}>; rel="next"`);
    context.body = page.map(presentClient);
  });

  router.get('/:id', async (context) => {
    parseQuery(noQuery, context.query);
    const client = await clients.find(parseId(context.params['id'] ?? ''));
    context.body = presentClient(client ?? notFound());
  });

  router.put('/:id', async (context) => {
    const { force } = parseQuery(changeQuery, context.query);
    const id = parseId(context.params['id'] ?? '');
    const changes = parseBody(updateRequest, await readJsonBody(context.req));
    const client = await orProblem(() =>
      clients.update(
        id,
        {
          name: changes.name,
          apiClientId: changes.api_client_id,
          isAdmin: changes.is_admin,
          isEnabled: changes.enabled,
        },
        context.state.actor,
        { force, areTokensAccepted: context.state.areTokensAccepted },
      ),
    );
    context.state.isAudited = client !== undefined;
    context.body = presentClient(client ?? notFound());
  });

  router.delete('/:id', async (context) => {
    const { force } = parseQuery(changeQuery, context.query);
    const id = parseId(context.params['id'] ?? '');
    const isRemoved = await orProblem(() =>
      clients.remove(id, context.state.actor, { force, areTokensAccepted: context.state.areTokensAccepted }),
    );
    if (!isRemoved) notFound();
    context.state.isAudited = true;
    context.status = 204;
  });

  return router;
}

function notFound(): never {
  throw new Problem(404, 'unknown_api_client', 'There is no API client with this id.');
}

async function orProblem<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DuplicateApiClientId) {
      const detail = 'is the api_client_id of another API client';
      throw new Problem(409, 'duplicate_api_client_id', `/api_client_id ${detail}.`, {
        errors: [{ pointer: '/api_client_id', detail }],
      });
    }
    if (error instanceof LastAdmin) {
      throw new Problem(
        409,
        'last_admin',
        'This is the last administrator that can authenticate (a bootstrap key, which expires, does not count). Create another one first, or repeat the call with ?force=true.',
      );
    }
    throw error;
  }
}
