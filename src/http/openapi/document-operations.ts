import { z } from 'zod';
import { appliedAnswer, auditEventAnswer, declarationAnswer, denialAnswer } from '../answer-schemas.ts';
import { applyQuery, auditQuery, declarationRequest } from '../schemas.ts';
import { billing } from './examples.ts';
import type { Operation } from './operation.ts';

const declared = {
  name: billing.name,
  api_client_id: billing.api_client_id,
  description: billing.description,
  tags: billing.tags,
  scopes: ['orders.read', 'orders.write'],
  allowed_cidrs: billing.allowed_cidrs,
  expires_at: billing.expires_at,
  rate_limit: billing.rate_limit,
  quota: billing.quota,
};

/** Every API client as one document, and what was done to them. */
export const documentOperations: readonly Operation[] = [
  {
    method: 'get',
    path: '/v1/management/export',
    operationId: 'exportApiClients',
    tag: 'All clients',
    summary: 'Get all API clients as one document',
    description:
      'What `apply` takes: each client with its id, and its keys that are accepted as digests. No secret is in it. Clients that exist for a bootstrap key alone are left out.',
    answer: { status: 200, description: 'All of them.', schema: declarationAnswer },
    problems: ['invalid_parameter'],
    examples: {},
  },
  {
    method: 'post',
    path: '/v1/management/apply',
    operationId: 'applyDeclaration',
    tag: 'All clients',
    summary: 'Make API clients what a document says',
    description:
      'All of it or nothing, in one transaction. A client is known by its `api_client_id`. At most 10,000 clients and 16 MB. With `dry_run=true` the answer is the plan; its `revision` makes sure that what is done is what was shown.',
    query: applyQuery,
    body: { schema: declarationRequest },
    answer: { status: 200, description: 'What was changed, or would be.', schema: appliedAnswer },
    problems: [
      'invalid_json',
      'invalid_body',
      'invalid_parameter',
      'last_admin',
      'revision_changed',
      'id_taken',
      'body_too_large',
      'unsupported_media_type',
    ],
    examples: {
      plan: {
        summary: 'What would be done',
        parameters: { dry_run: true },
        body: { version: 1, clients: [declared, { api_client_id: 'reporting', tags: ['eu'] }] },
        answer: {
          dry_run: true,
          revision: 41,
          created: 1,
          updated: 1,
          deleted: 0,
          unchanged: 0,
          changes: [
            {
              action: 'update',
              api_client_id: billing.api_client_id,
              id: billing.id,
              fields: [{ name: 'scopes', from: billing.scopes, to: declared.scopes }],
              keys_added: [],
              keys_removed: [],
            },
            {
              action: 'create',
              api_client_id: 'reporting',
              id: null,
              fields: [
                { name: 'name', from: null, to: 'reporting' },
                { name: 'api_client_id', from: null, to: 'reporting' },
                { name: 'tags', from: null, to: ['eu'] },
                { name: 'enabled', from: null, to: true },
              ],
              keys_added: [],
              keys_removed: [],
            },
          ],
        },
      },
    },
  },
  {
    method: 'get',
    path: '/v1/management/audit-events',
    operationId: 'listAuditEvents',
    tag: 'What happened',
    summary: 'List what has been done, by whom and to whom',
    description:
      'In pages, the newest first. With `format=jsonl` all of it as JSON lines, in as little memory as one page takes. Events are never changed.',
    query: auditQuery,
    answer: { status: 200, description: 'Events.', schema: z.array(auditEventAnswer), headers: ['Link'] },
    furtherAnswers: [
      {
        status: 200,
        description: 'With `format=jsonl`: an event in each line.',
        schema: z.string(),
        mediaType: 'application/jsonl',
      },
    ],
    problems: ['invalid_parameter'],
    examples: {
      last_creation: {
        summary: 'The last API client that was made',
        parameters: { action: 'api_client.create', limit: 1 },
        answer: [
          {
            id: 93,
            at: billing.created_at,
            action: 'api_client.create',
            outcome: 'done',
            actor_id: 2,
            actor: null,
            address: '127.0.0.1',
            client_id: billing.id,
            request_id: '5709a50053f5cfbafe8d22a36a8304af',
            revision: 41,
            details: {
              name: billing.name,
              api_client_id: billing.api_client_id,
              description: billing.description,
              tags: billing.tags,
              scopes: billing.scopes,
              allowed_cidrs: billing.allowed_cidrs,
              is_admin: false,
              enabled: true,
              expires_at: billing.expires_at,
              rate_limit: billing.rate_limit,
              rate_limit_burst: null,
              quota: billing.quota,
              has_api_key: true,
            },
          },
        ],
      },
    },
  },
  {
    method: 'get',
    path: '/v1/management/decisions/{request_id}',
    operationId: 'explainDecision',
    tag: 'What happened',
    summary: 'Ask why a request was refused',
    description: 'Of the last 200 refusals for each reason: what was expected, what was seen, and what to do.',
    answer: { status: 200, description: 'Why.', schema: denialAnswer },
    problems: ['invalid_parameter', 'unknown_decision'],
    examples: {
      basic: {
        summary: 'Another scheme than those that are accepted',
        answer: {
          request_id: '5709a50053f5cfbafe8d22a36a8304af',
          at: '2026-11-25T08:00:00.000Z',
          outcome: 'unauthenticated',
          status: 401,
          reason: 'unsupported_scheme',
          told_as: 'unsupported_scheme',
          meaning: 'The scheme is neither `apk` nor `Bearer`.',
          expected: 'apk',
          seen: 'Basic',
          remedy: '`WWW-Authenticate` in the answer names what is accepted.',
          address: '127.0.0.1',
          claimed_client_id: null,
          token: null,
          cause: null,
        },
      },
    },
  },
];

/** What the `type` of a problem leads to. */
export const reasonOperations: readonly Operation[] = [
  {
    method: 'get',
    path: '/v1/management/problems',
    operationId: 'listReasons',
    tag: 'This document',
    summary: 'Read about all reasons of problems',
    isPublic: true,
    answer: { status: 200, description: 'A page without scripts.', schema: z.string(), mediaType: 'text/html' },
    problems: [],
    examples: {},
  },
  {
    method: 'get',
    path: '/v1/management/problems/{reason}',
    operationId: 'getReason',
    tag: 'This document',
    summary: 'Read about a reason: what the `type` of a problem leads to',
    isPublic: true,
    answer: { status: 200, description: 'A page without scripts.', schema: z.string(), mediaType: 'text/html' },
    problems: ['unknown_reason'],
    examples: {},
  },
];
