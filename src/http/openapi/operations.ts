import { z } from 'zod';
import { healthAnswer, readinessAnswer } from '../answer-schemas.ts';
import { apiClientOperations } from './api-client-operations.ts';
import { apiKeyOperations } from './api-key-operations.ts';
import { credentialOperations } from './credential-operations.ts';
import { documentOperations, reasonOperations } from './document-operations.ts';
import type { Operation } from './operation.ts';

/** All calls, in the order of the document. A test compares them with the routes. */
export const operations: readonly Operation[] = [
  ...apiClientOperations,
  ...apiKeyOperations,
  ...credentialOperations,
  ...documentOperations,
  {
    method: 'get',
    path: '/livez',
    operationId: 'getLiveness',
    tag: 'Health',
    summary: 'Ask whether the gateway runs',
    isPublic: true,
    answer: { status: 200, description: 'It does.', schema: healthAnswer },
    problems: [],
    examples: { alive: { summary: 'It runs', answer: { status: 'alive' } } },
  },
  {
    method: 'get',
    path: '/readyz',
    operationId: 'getReadiness',
    tag: 'Health',
    summary: 'Ask whether the gateway can decide',
    isPublic: true,
    answer: { status: 200, description: 'It can decide on API keys.', schema: readinessAnswer },
    furtherAnswers: [{ status: 503, description: 'It cannot, and says why.', schema: readinessAnswer }],
    problems: [],
    examples: { ready: { summary: 'All is well', answer: { status: 'ready', checks: { store: 'ok' } } } },
  },
  {
    method: 'get',
    path: '/v1/management/openapi.json',
    operationId: 'getOpenApiDocument',
    tag: 'This document',
    summary: 'Get this document',
    answer: {
      status: 200,
      description: 'OpenAPI 3.1, made from the schemas that validate requests.',
      schema: z.looseObject({ openapi: z.string(), info: z.looseObject({}), paths: z.looseObject({}) }),
    },
    problems: ['invalid_parameter'],
    examples: {},
  },
  {
    method: 'get',
    path: '/v1/management/reference',
    operationId: 'getReference',
    tag: 'This document',
    summary: 'Read this document in a browser',
    isPublic: true,
    answer: { status: 200, description: 'A page without scripts.', schema: z.string(), mediaType: 'text/html' },
    problems: ['invalid_parameter'],
    examples: {},
  },
  ...reasonOperations,
];
