import { Readable } from 'node:stream';
import Router from '@koa/router';
import { toTime } from '../clients/api-client.ts';
import { describe } from '../clients/api-clients.ts';
import type { ClientWithKeys } from '../clients/client-store.ts';
import type { Applied, DeclaredClient, Declarations } from '../clients/declarations.ts';
import { readJsonBody } from './json-body.ts';
import type { ManagementState } from './management-app.ts';
import { orProblem } from './or-problem.ts';
import type { FinishChange } from './propagation.ts';
import { applyQuery, declarationRequest, noQuery, parseBody, parseQuery } from './schemas.ts';

// nginx takes larger bodies at this path, and knows it in this spelling
const exact = { prefix: '/v1/management', strict: true, sensitive: true };

/** What nginx lets through there: snippets/gateway.conf. */
const maxBytes = 16 * 1024 * 1024;

/** All API clients as one document, and the way back: `GET .../export`, `POST .../apply`. */
export function createDeclarationRoutes(
  declarations: Declarations,
  finishChange: FinishChange,
): Router<ManagementState> {
  const router = new Router<ManagementState>(exact);

  router.get('/export', (context) => {
    parseQuery(noQuery, context.query);
    context.type = 'application/json';
    context.body = Readable.from(toDocument(declarations.exportAll()), { objectMode: false });
  });

  router.post('/apply', async (context) => {
    const query = parseQuery(applyQuery, context.query);
    const { clients } = parseBody(declarationRequest, await readJsonBody(context.req, maxBytes));
    const { dry_run: dryRun, prune, force, revision, wait } = query;
    const { actor, areTokensAccepted } = context.state;
    const options = { dryRun, prune, force, revision, areTokensAccepted };
    const applied = await orProblem(() => declarations.apply(clients.map(toDeclared), options, actor));
    context.body = presentApplied(applied, dryRun);
    if (!dryRun) await finishChange(context, wait);
  });

  return router;
}

function toDeclared(client: ReturnType<typeof declarationRequest.parse>['clients'][number]): DeclaredClient {
  return {
    id: client.id,
    name: client.name ?? client.api_client_id,
    apiClientId: client.api_client_id,
    description: client.description,
    tags: client.tags,
    scopes: client.scopes,
    allowedCidrs: client.allowed_cidrs,
    isAdmin: client.is_admin,
    isEnabled: client.enabled,
    expiresAt: client.expires_at,
    rateLimit: client.rate_limit,
    rateLimitBurst: client.rate_limit_burst,
    quota: client.quota,
    keys: client.keys,
  };
}

function presentApplied({ revision, changes, unchanged }: Applied, isDryRun: boolean): object {
  const count = (action: string) => changes.filter((change) => change.action === action).length;
  return {
    dry_run: isDryRun,
    revision,
    created: count('create'),
    updated: count('update'),
    deleted: count('delete'),
    unchanged,
    changes: changes.map(({ action, apiClientId, id, fields, keysAdded, keysRemoved }) => ({
      action,
      api_client_id: apiClientId,
      id: isDryRun && action === 'create' ? null : id,
      fields,
      keys_added: keysAdded,
      keys_removed: keysRemoved,
    })),
  };
}

/** What `apply` takes, a client a line. */
async function* toDocument(pages: AsyncIterable<readonly ClientWithKeys[]>): AsyncGenerator<string> {
  yield '{"version":1,"clients":[';
  let separator = '\n';
  for await (const page of pages) {
    let text = '';
    for (const client of page) {
      text += separator + JSON.stringify(presentDeclared(client));
      separator = ',\n';
    }
    if (text !== '') yield text;
  }
  yield '\n]}\n';
}

function presentDeclared(client: ClientWithKeys): object {
  return {
    id: client.id,
    ...describe(client),
    keys: client.keys.map(({ digest, hint, expiresAt, isImported }) => ({
      digest: `sha256:${digest}`,
      hint,
      expires_at: toTime(expiresAt),
      checksum: !isImported,
    })),
  };
}
