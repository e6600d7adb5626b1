import Router from '@koa/router';
import type { Gateways } from '../clients/gateways.ts';
import type { ManagementState } from './management-app.ts';
import { presentGateway } from './propagation.ts';
import { noQuery, parseQuery } from './schemas.ts';

/** `GET /v1/management/gateways`: who decides on this database, and up to which revision each has followed. */
export function createGatewayRoute(known: Pick<Gateways, 'list'>): Router<ManagementState> {
  const router = new Router<ManagementState>({ prefix: '/v1/management' });

  router.get('/gateways', async (context) => {
    parseQuery(noQuery, context.query);
    const { revision, gateways } = await known.list();
    context.body = { revision, gateways: gateways.map(presentGateway) };
  });

  return router;
}
