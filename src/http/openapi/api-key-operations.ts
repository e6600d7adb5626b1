import { z } from 'zod';
import { apiKeyAnswer, createdApiKeyAnswer, rotatedApiKeysAnswer } from '../answer-schemas.ts';
import { changeQuery, createKeyRequest, createQuery, rotateRequest } from '../schemas.ts';
import { key, nextToken, replacedAt } from './examples.ts';
import type { Operation } from './operation.ts';

const one = '/v1/management/api-clients/{id}';
const unknownClient = ['invalid_parameter', 'invalid_id', 'unknown_api_client'] as const;
const unacceptableBody = ['body_too_large', 'unsupported_media_type'] as const;
const nextKey = { ...key, id: 13, hint: 'ther', created_at: replacedAt };

export const apiKeyOperations: readonly Operation[] = [
  {
    method: 'get',
    path: `${one}/keys`,
    operationId: 'listApiKeys',
    tag: 'API keys',
    summary: 'List the keys of an API client',
    answer: {
      status: 200,
      description: 'Its keys, each by its hint, in the order in which they were made.',
      schema: z.array(apiKeyAnswer),
    },
    problems: unknownClient,
    examples: { keys: { summary: 'One key', answer: [key] } },
  },
  {
    method: 'post',
    path: `${one}/keys`,
    operationId: 'createApiKey',
    tag: 'API keys',
    summary: 'Make one more key',
    description: 'All others stay as they are. At most 20 may be accepted at once.',
    query: createQuery,
    body: { schema: createKeyRequest, isOptional: true },
    answer: {
      status: 201,
      description: 'The key, this once.',
      schema: createdApiKeyAnswer,
      headers: ['Location'],
    },
    problems: ['invalid_json', 'invalid_body', ...unknownClient, 'too_many_keys', ...unacceptableBody],
    examples: {
      with_an_end: {
        summary: 'A key with an end',
        body: { expires_at: '2099-01-31T00:00:00Z' },
        answer: { ...nextKey, expires_at: '2099-01-31T00:00:00.000Z', token: nextToken },
      },
    },
  },
  {
    method: 'delete',
    path: `${one}/keys/{key_id}`,
    operationId: 'deleteApiKey',
    tag: 'API keys',
    summary: 'Delete a key',
    query: changeQuery,
    answer: { status: 204, description: 'It is refused from now on.' },
    problems: [...unknownClient, 'unknown_api_key', 'last_admin'],
    examples: { gone: { summary: 'A key that nobody uses' } },
  },
  {
    method: 'post',
    path: `${one}/rotate`,
    operationId: 'rotateApiKeys',
    tag: 'API keys',
    summary: 'Replace all keys by a new one',
    description:
      'For the overlap all of them work, and answers to whoever uses an old one have `Deprecation` (RFC 9745) and `Sunset` (RFC 8594).',
    query: changeQuery,
    body: { schema: rotateRequest, isOptional: true },
    answer: {
      status: 201,
      description: 'The new key, this once, and those that it replaces.',
      schema: rotatedApiKeysAnswer,
      headers: ['Location'],
    },
    problems: ['invalid_json', 'invalid_body', ...unknownClient, 'last_admin', 'too_many_keys', ...unacceptableBody],
    examples: {
      within_a_day: {
        summary: 'A day to change over',
        body: { overlap: '24h' },
        answer: {
          ...nextKey,
          token: nextToken,
          replaced: [{ ...key, state: 'replaced', expires_at: '2026-11-26T08:00:00.000Z', replaced_at: replacedAt }],
        },
      },
      at_once: {
        summary: 'At once',
        body: { overlap: 0 },
        answer: {
          ...nextKey,
          token: nextToken,
          replaced: [{ ...key, state: 'expired', expires_at: replacedAt, replaced_at: replacedAt }],
        },
      },
    },
  },
];
