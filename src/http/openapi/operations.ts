import { z } from 'zod';
import { gatewaysAnswer, healthAnswer, pendingAnswer, readinessAnswer } from '../answer-schemas.ts';
import { apiClientOperations } from './api-client-operations.ts';
import { apiKeyOperations } from './api-key-operations.ts';
import { credentialOperations } from './credential-operations.ts';
import { documentOperations, reasonOperations } from './document-operations.ts';
import { billing } from './examples.ts';
import type { Operation } from './operation.ts';

const table: readonly Operation[] = [
  ...apiClientOperations,
  ...apiKeyOperations,
  ...credentialOperations,
  ...documentOperations,
  {
    method: 'get',
    path: '/v1/management/gateways',
    operationId: 'listGateways',
    tag: 'Gateways',
    summary: 'List the gateways that decide on this database',
    description:
      'Each process by itself. One that stops leaves the list; one that dies, or cannot be reached, is left out after 9 to 15 seconds, if another one is there to see it.',
    answer: { status: 200, description: 'Those that live.', schema: gatewaysAnswer },
    problems: ['invalid_parameter'],
    examples: {
      one: {
        summary: 'One that has followed all changes',
        answer: {
          revision: 41,
          gateways: [{ gateway: 'gate-1/4711', applied_revision: 41, last_seen_at: billing.created_at }],
        },
      },
    },
  },
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

/** All calls, in the order of the document. A test compares them with the routes. */
export const operations: readonly Operation[] = table.map(withPending);

/** A caller who waits for the other gateways may be answered that not all of them have followed. */
function withPending(operation: Operation): Operation {
  const { query, answer, furtherAnswers = [] } = operation;
  if (!query || !('wait' in query.shape)) return operation;
  const { schema, headers } = answer;
  const pending = {
    status: 202,
    description:
      'With `wait`, when time is up: it is done, and kept. The body has what it has otherwise, and who has not followed yet.',
    schema: schema ? z.intersection(schema, pendingAnswer) : pendingAnswer,
    ...(headers && { headers }),
  } as const;
  return { ...operation, furtherAnswers: [...furtherAnswers, pending] };
}
