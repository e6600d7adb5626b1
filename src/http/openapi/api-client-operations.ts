import { apiClientAnswer, createdApiClientAnswer } from '../answer-schemas.ts';
import { changeQuery, createQuery, createRequest, listQuery, updateRequest } from '../schemas.ts';
import { z } from 'zod';
import { billing, token } from './examples.ts';
import type { Operation } from './operation.ts';

const collection = '/v1/management/api-clients';
const one = `${collection}/{id}`;
const invalidBody = ['invalid_json', 'invalid_body'] as const;
const unacceptableBody = ['body_too_large', 'unsupported_media_type'] as const;

export const apiClientOperations: readonly Operation[] = [
  {
    method: 'post',
    path: collection,
    operationId: 'createApiClient',
    tag: 'API clients',
    summary: 'Create an API client',
    description: `With an \`Idempotency-Key\` the same call by the same caller within 24 hours is done once: its repetition answers with the same client and \`Idempotent-Replayed: true\`. No secret is stored, so the repetition has a new \`token\` in place of the first one; if that has been used by then, or replaced, or reported, it has none.`,
    query: createQuery,
    headers: ['Idempotency-Key'],
    body: { schema: createRequest },
    answer: {
      status: 201,
      description: 'The API client and, once, its key.',
      schema: createdApiClientAnswer,
      headers: ['Location', 'Idempotent-Replayed'],
    },
    problems: [
      ...invalidBody,
      'invalid_parameter',
      'invalid_idempotency_key',
      'duplicate_api_client_id',
      ...unacceptableBody,
      'idempotency_key_reused',
    ],
    examples: {
      billing: {
        summary: 'A program with a key',
        parameters: { 'Idempotency-Key': '8e03978e-40d5-43dd-bc93-6894a57f9324' },
        body: {
          name: 'billing',
          api_client_id: 'billing-eu',
          description: 'Sends invoices',
          tags: ['eu'],
          scopes: ['orders.read'],
          allowed_cidrs: ['192.0.2.0/24'],
          expires_at: '2099-01-31T01:00:00+01:00',
          rate_limit: '100/s',
          quota: '100000/d',
        },
        answer: { ...billing, token },
      },
      access_tokens: {
        summary: 'A program that comes with access tokens, without a key',
        body: { name: 'crm', api_client_id: 'abc123', generate_api_key: false },
        answer: {
          ...billing,
          name: 'crm',
          api_client_id: 'abc123',
          description: null,
          tags: [],
          scopes: [],
          allowed_cidrs: [],
          expires_at: null,
          rate_limit: null,
          quota: null,
          has_api_key: false,
        },
      },
      invalid_members: {
        summary: 'Two members that are not valid',
        body: { name: '', expires_at: '2020-01-01T00:00:00Z' },
        problem: {
          reason: 'invalid_body',
          detail: 'The request body is not valid. /name must not be empty.',
          errors: [
            { pointer: '/name', detail: 'must not be empty' },
            { pointer: '/expires_at', detail: 'is in the past' },
          ],
        },
      },
    },
  },
  {
    method: 'get',
    path: collection,
    operationId: 'listApiClients',
    tag: 'API clients',
    summary: 'List API clients',
    description:
      'All filters that are given must hold. When there is more than `limit`, the `Link` header has the address of the next page.',
    query: listQuery,
    answer: {
      status: 200,
      description: 'The API clients, in the order that was asked for.',
      schema: z.array(apiClientAnswer),
      headers: ['Link'],
    },
    problems: ['invalid_parameter'],
    examples: {
      by_tag: {
        summary: 'Those with a tag, the newest first',
        parameters: { tag: 'eu', state: 'enabled', sort: '-created_at', limit: 100 },
        answer: [billing],
      },
      invalid_limit: {
        summary: 'A parameter that is not valid',
        parameters: { limit: 0 },
        problem: {
          reason: 'invalid_parameter',
          detail: 'The query string is not valid. limit must be a whole number from 1 to 1000.',
          errors: [{ parameter: 'limit', detail: 'must be a whole number from 1 to 1000' }],
        },
      },
    },
  },
  {
    method: 'get',
    path: one,
    operationId: 'getApiClient',
    tag: 'API clients',
    summary: 'Get an API client',
    answer: { status: 200, description: 'The API client.', schema: apiClientAnswer },
    problems: ['invalid_parameter', 'invalid_id', 'unknown_api_client'],
    examples: { billing: { summary: 'An API client', answer: billing } },
  },
  {
    method: 'put',
    path: one,
    operationId: 'updateApiClient',
    tag: 'API clients',
    summary: 'Change an API client',
    description:
      'What is not named stays. A change counts from the answer on, in this gateway at once and in any other on the same database within a second; with `wait` in all of them.',
    query: changeQuery,
    body: { schema: updateRequest },
    answer: { status: 200, description: 'The API client as it is now.', schema: apiClientAnswer },
    problems: [
      ...invalidBody,
      'invalid_parameter',
      'invalid_id',
      'unknown_api_client',
      'duplicate_api_client_id',
      'last_admin',
      ...unacceptableBody,
    ],
    examples: {
      renamed: {
        summary: 'Another name, and no quota any more',
        body: { name: 'billing (EU)', quota: null },
        answer: { ...billing, name: 'billing (EU)', quota: null },
      },
      disabled: {
        summary: 'Refused until it is enabled again',
        body: { enabled: false },
        answer: { ...billing, enabled: false },
      },
    },
  },
  {
    method: 'delete',
    path: one,
    operationId: 'deleteApiClient',
    tag: 'API clients',
    summary: 'Delete an API client and its keys',
    description: 'For good: its id is never used again, and its keys are refused from the answer on.',
    query: changeQuery,
    answer: { status: 204, description: 'It is gone.' },
    problems: ['invalid_parameter', 'invalid_id', 'unknown_api_client', 'last_admin'],
    examples: {
      gone: { summary: 'An API client that nobody needs' },
      gone_everywhere: { summary: 'Refused by every gateway from the answer on', parameters: { wait: '2s' } },
    },
  },
];
