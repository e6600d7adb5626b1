import type Koa from 'koa';
import type { Next, ParameterizedContext } from 'koa';
import type { Authenticate } from '../auth/authenticator.ts';
import type { Policy } from '../auth/policy.ts';
import type { ApiClients } from '../clients/api-clients.ts';
import type { ApiKeys } from '../clients/api-keys.ts';
import type { ClientStore } from '../clients/client-store.ts';
import type { Declarations } from '../clients/declarations.ts';
import type { Gateways } from '../clients/gateways.ts';
import { Problem } from '../problem.ts';
import { createApiClientRoutes } from './api-client-routes.ts';
import { createAuditRoutes } from './audit-routes.ts';
import { createIntrospectionRoute } from './credential-routes.ts';
import { createDecisionRoutes, type FindDenial } from './decision-routes.ts';
import { createDeclarationRoutes } from './declaration-routes.ts';
import { createDocumentRoute } from './document-routes.ts';
import { createGatewayRoute } from './gateway-routes.ts';
import type { ManagementState } from './management-app.ts';
import { createFinishChange } from './propagation.ts';

export interface ManagementApiOptions {
  readonly clients: ApiClients;
  readonly keys: ApiKeys;
  readonly declarations: Declarations;
  readonly gateways: Gateways;
  readonly store: Pick<ClientStore, 'recordEvent' | 'listEvents'>;
  /** Says what a credential is, and leaves no trace of a use. */
  readonly examine: Authenticate;
  readonly findDenial: FindDenial;
  readonly now: () => number;
}

/** The resources below `/v1/management`, for callers that are known to be administrators. */
export function useManagementApi(
  app: Koa<ManagementState>,
  { clients, keys, declarations, gateways, store, examine, findDenial, now }: ManagementApiOptions,
  policyOf: (rawHeaders: readonly string[]) => Policy,
): void {
  const finishChange = createFinishChange(gateways);
  app.use(refuseUnknown);
  for (const router of [
    createIntrospectionRoute({ authenticate: examine, clients, policyOf, now }),
    createApiClientRoutes({ clients, keys, finishChange, now }),
    createDeclarationRoutes(declarations, finishChange),
    createGatewayRoute(gateways),
    createAuditRoutes(store),
    createDecisionRoutes(findDenial),
    createDocumentRoute(),
  ]) {
    app.use(router.allowedMethods());
    app.use(router.routes());
  }
}

/** The router leaves a status without a body, and for a method that it does not know the `Allow` header. */
async function refuseUnknown(context: ParameterizedContext<ManagementState>, next: Next): Promise<void> {
  await next();
  if (context.status === 405 || context.status === 501) {
    const allow = context.response.get('Allow');
    throw new Problem(405, 'method_not_allowed', `The method is not allowed at this path; allowed: ${allow}.`);
  }
  if (context.status === 404) throw new Problem(404, 'not_found', 'There is nothing at this path.');
}
