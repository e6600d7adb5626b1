import { reasons } from '../../reasons.ts';
import { introspectionAnswer } from '../answer-schemas.ts';
import { introspectRequest, tokenRequest } from '../schemas.ts';
import { billing, key, token } from './examples.ts';
import type { Operation } from './operation.ts';

const problems = [
  'invalid_json',
  'invalid_body',
  'invalid_parameter',
  'body_too_large',
  'unsupported_media_type',
  'rate_limited',
] as const;

export const credentialOperations: readonly Operation[] = [
  {
    method: 'post',
    path: '/v1/management/introspect',
    operationId: 'introspect',
    tag: 'Credentials',
    summary: 'Ask whose a credential is, and why it is accepted or not',
    description:
      'Decided as the server that is asked would decide on a request. It is no use of the credential, and nothing is logged of it.',
    body: { schema: introspectRequest },
    answer: { status: 200, description: 'What is known of the credential.', schema: introspectionAnswer },
    problems,
    examples: {
      accepted: {
        summary: 'A key that is accepted',
        body: { token, address: '192.0.2.7' },
        answer: {
          active: true,
          type: 'api_key',
          reason: null,
          detail: null,
          expected: null,
          seen: null,
          remedy: null,
          address: '192.0.2.7',
          expires_at: billing.expires_at,
          client: billing,
          key,
        },
      },
      from_elsewhere: {
        summary: 'The same from an address where it may not be used',
        body: { token, address: '203.0.113.9' },
        answer: {
          active: false,
          type: 'api_key',
          reason: 'address_not_allowed',
          detail: 'The allowed_cidrs of the API client do not have the address 203.0.113.9.',
          expected: "one of the client's allowed_cidrs",
          seen: '203.0.113.9',
          remedy: reasons.address_not_allowed.remedy,
          address: '203.0.113.9',
          expires_at: null,
          client: billing,
          key,
        },
      },
      access_token: {
        summary: 'An access token where none are accepted',
        body: { token: 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhYmMxMjMifQ.c2lnbmF0dXJl', address: '192.0.2.7' },
        answer: {
          active: false,
          type: 'access_token',
          reason: 'method_disabled',
          detail: 'This kind of credential is not accepted here.',
          expected: 'apk',
          seen: 'bearer',
          remedy: reasons.method_disabled.remedy,
          address: '192.0.2.7',
          expires_at: null,
          client: null,
        },
      },
    },
  },
  {
    method: 'post',
    path: '/v1/management/report-leak',
    operationId: 'reportLeak',
    tag: 'Credentials',
    summary: 'End a key that others know',
    description:
      'Without a credential: whoever has a key may end it. Also the last key of the last administrator; start with `API_KEY_CREATE=true` for another.',
    isPublic: true,
    body: { schema: tokenRequest },
    answer: { status: 204, description: 'The key is refused from now on.' },
    problems: [...problems, 'not_an_api_key', 'unknown_key'],
    examples: { found: { summary: 'A key that stood in a repository', body: { token } } },
  },
];
