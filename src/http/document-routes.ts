import Router from '@koa/router';
import type { ManagementState } from './management-app.ts';
import type { ReferencePage } from './openapi/reference-page.ts';
import { noQuery, parseQuery } from './schemas.ts';

const options = { prefix: '/v1/management', strict: true, sensitive: true };

/** `GET /v1/management/openapi.json`, for administrators. */
export function createDocumentRoute(): Router<ManagementState> {
  const router = new Router<ManagementState>(options);
  let text: Promise<string> | undefined;
  router.get('/openapi.json', async (context) => {
    parseQuery(noQuery, context.query);
    context.body = await (text ??= makeDocument());
    context.type = 'application/json';
  });
  return router;
}

/** `GET /v1/management/reference`: for everybody, since a browser sends no credential, and it has no secret. */
export function createReferenceRoute(): Router<ManagementState> {
  const router = new Router<ManagementState>(options);
  let page: Promise<ReferencePage> | undefined;
  router.get('/reference', async (context) => {
    parseQuery(noQuery, context.query);
    const { text, contentSecurityPolicy } = await (page ??= makePage());
    context.body = text;
    context.type = 'html';
    context.set({
      'Content-Security-Policy': contentSecurityPolicy,
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
    });
  });
  return router;
}

// made at the first request: at start nobody has asked for it, and it would take time and memory

async function makeDocument(): Promise<string> {
  const { createOpenApiDocument } = await import('./openapi/document.ts');
  return JSON.stringify(createOpenApiDocument());
}

async function makePage(): Promise<ReferencePage> {
  const { createOpenApiDocument } = await import('./openapi/document.ts');
  const { createReferencePage } = await import('./openapi/reference-page.ts');
  return createReferencePage(createOpenApiDocument());
}
