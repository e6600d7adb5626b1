import Router from '@koa/router';
import type { ParameterizedContext } from 'koa';
import type { ApiClients, UpdateApiClient } from '../clients/api-clients.ts';
import type { ApiKeys } from '../clients/api-keys.ts';
import type { Safeguard } from '../clients/last-admin.ts';
import { Problem } from '../problem.ts';
import { readJsonBody, readOptionalJsonBody } from './json-body.ts';
import type { ManagementState } from './management-app.ts';
import { orProblem } from './or-problem.ts';
import type { FinishChange } from './propagation.ts';
import { presentClient, presentKey } from './present-client.ts';
import {
  changeQuery,
  createQuery,
  createKeyRequest,
  createRequest,
  listQuery,
  noQuery,
  parseBody,
  parseId,
  parseIdempotencyKey,
  parseQuery,
  rotateRequest,
  updateRequest,
  writeCursor,
} from './schemas.ts';

const path = '/v1/management/api-clients';

export interface ApiClientRoutesOptions {
  readonly clients: ApiClients;
  readonly keys: ApiKeys;
  readonly finishChange: FinishChange;
  readonly now: () => number;
}

/** The resource `/v1/management/api-clients`, for callers that are known to be administrators. */
export function createApiClientRoutes({
  clients,
  keys,
  finishChange,
  now,
}: ApiClientRoutesOptions): Router<ManagementState> {
  const router = new Router<ManagementState>({ prefix: path });

  router.post('/', async (context) => {
    const { wait } = parseQuery(createQuery, context.query);
    const idempotencyKey = parseIdempotencyKey(context.req.headers['idempotency-key']);
    const request = parseBody(createRequest, await readJsonBody(context.req));
    const { client, token, isReplayed } = await orProblem(() =>
      clients.create(
        {
          name: request.name,
          apiClientId: request.api_client_id,
          description: request.description,
          tags: request.tags,
          scopes: request.scopes,
          allowedCidrs: request.allowed_cidrs,
          isAdmin: request.is_admin,
          isEnabled: request.enabled,
          expiresAt: request.expires_at,
          rateLimit: request.rate_limit,
          rateLimitBurst: request.rate_limit_burst,
          quota: request.quota,
          generateApiKey: request.generate_api_key,
        },
        context.state.actor,
        idempotencyKey,
      ),
    );
    context.state.isAudited = true;
    context.status = 201;
    context.set('Location', `${path}/${client.id}`);
    if (isReplayed) context.set('Idempotent-Replayed', 'true');
    context.body = { ...presentClient(client, now()), ...(token !== undefined && { token }) };
    await finishChange(context, wait);
  });

  router.get('/', async (context) => {
    const query = parseQuery(listQuery, context.query);
    const { limit, cursor: after, sort } = query;
    const at = now();
    // one more than asked for tells whether there is a next page
    const found = await clients.list({
      limit: limit + 1,
      sort: sort.order,
      isDescending: sort.isDescending,
      after,
      name: query.name,
      apiClientId: query.api_client_id,
      tag: query.tag,
      isAdmin: query.is_admin,
      state: query.state,
      unusedSince: query.unused_since,
      isUsingReplacedKey: query.replaced_key_used,
      now: at,
    });
    const page = found.slice(0, limit);
    const last = page.at(-1);
    if (found.length > limit && last) {
      const value = { id: last.id, name: last.name, created_at: last.createdAt, last_used_at: last.lastUsedAt ?? 0 };
      const next = new URLSearchParams(context.querystring);
      next.set('limit', String(limit));
      next.set('cursor', writeCursor(sort.order, value[sort.order], last.id));
      context.set('Link', `<${path}?${next.toString()}>; rel="next"`);
    }
    context.body = page.map((client) => presentClient(client, at));
  });

  router.get('/:id', async (context) => {
    parseQuery(noQuery, context.query);
    const client = await clients.find(parseId(context.params['id']));
    context.body = presentClient(client ?? notFound(), now());
  });

  router.put('/:id', async (context) => {
    const { safeguard, wait } = readChange(context);
    const id = parseId(context.params['id']);
    const changes = toChanges(parseBody(updateRequest, await readJsonBody(context.req)));
    const client = await orProblem(() => clients.update(id, changes, context.state.actor, safeguard));
    context.state.isAudited = client !== undefined;
    context.body = presentClient(client ?? notFound(), now());
    await finishChange(context, wait);
  });

  router.delete('/:id', async (context) => {
    const { safeguard, wait } = readChange(context);
    const id = parseId(context.params['id']);
    if (!(await orProblem(() => clients.remove(id, context.state.actor, safeguard)))) notFound();
    context.state.isAudited = true;
    context.status = 204;
    await finishChange(context, wait);
  });

  router.get('/:id/keys', async (context) => {
    parseQuery(noQuery, context.query);
    const found = (await keys.list(parseId(context.params['id']))) ?? notFound();
    const at = now();
    context.body = found.map((key) => presentKey(key, at));
  });

  router.post('/:id/keys', async (context) => {
    const { wait } = parseQuery(createQuery, context.query);
    const id = parseId(context.params['id']);
    const { expires_at: expiresAt } = parseBody(createKeyRequest, await readOptionalJsonBody(context.req));
    const created = (await orProblem(() => keys.create(id, expiresAt, context.state.actor))) ?? notFound();
    context.state.isAudited = true;
    context.status = 201;
    context.set('Location', `${path}/${id}/keys/${created.key.id}`);
    context.body = { ...presentKey(created.key, now()), token: created.token };
    await finishChange(context, wait);
  });

  router.post('/:id/rotate', async (context) => {
    const { safeguard, wait } = readChange(context);
    const id = parseId(context.params['id']);
    const { overlap, expires_at: expiresAt } = parseBody(rotateRequest, await readOptionalJsonBody(context.req));
    const rotated =
      (await orProblem(() => keys.rotate(id, { overlap, expiresAt }, context.state.actor, safeguard))) ?? notFound();
    context.state.isAudited = true;
    context.status = 201;
    context.set('Location', `${path}/${id}/keys/${rotated.key.id}`);
    const at = now();
    const replaced = rotated.replaced.map((key) => presentKey(key, at));
    context.body = { ...presentKey(rotated.key, at), token: rotated.token, replaced };
    await finishChange(context, wait);
  });

  router.delete('/:id/keys/:keyId', async (context) => {
    const { safeguard, wait } = readChange(context);
    const id = parseId(context.params['id']);
    const keyId = parseId(context.params['keyId']);
    if (!(await orProblem(() => keys.remove(id, keyId, context.state.actor, safeguard)))) notFound();
    context.state.isAudited = true;
    context.status = 204;
    await finishChange(context, wait);
  });

  return router;
}

/** What is cleared is null, or a list without members. */
function toChanges(request: ReturnType<typeof updateRequest.parse>): UpdateApiClient {
  const orNone = <T>(list: T[] | null | undefined) => (list === null ? [] : list);
  return {
    name: request.name,
    apiClientId: request.api_client_id,
    description: request.description,
    tags: orNone(request.tags),
    scopes: orNone(request.scopes),
    allowedCidrs: orNone(request.allowed_cidrs),
    isAdmin: request.is_admin,
    isEnabled: request.enabled,
    expiresAt: request.expires_at,
    rateLimit: request.rate_limit,
    rateLimitBurst: request.rate_limit_burst,
    quota: request.quota,
  };
}

function readChange({ query, state }: ParameterizedContext<ManagementState>): {
  readonly safeguard: Safeguard;
  readonly wait: number | undefined;
} {
  const { force, wait } = parseQuery(changeQuery, query);
  return { safeguard: { force, areTokensAccepted: state.areTokensAccepted }, wait };
}

function notFound(): never {
  throw new Problem(404, 'unknown_api_client', 'There is no API client with this id.');
}
