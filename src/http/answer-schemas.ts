import { z } from 'zod';
import { denialDetails, type DenialReason } from '../auth/decision.ts';
import { clientMembers } from './schemas.ts';

// What the presenters make, for the OpenAPI document: loaded with it, and not at start. Members may be added to answers,
// so none of these objects is strict.

type ReadonlyLists<T> = { [K in keyof T]: T[K] extends (infer Item)[] ? readonly Item[] : T[K] };

const time = z.iso.datetime().meta({ pattern: undefined });
const timeOrNull = (description: string) => time.nullable().meta({ description });
const id = z.int().min(1).meta({ maximum: undefined });

const token = z
  .string()
  .regex(/^[1-9][0-9]{0,18}\.[A-Za-z0-9]{64}$/)
  .meta({
    description: 'The API key. It is in no other answer. The last six characters are a checksum.',
  });

export const apiClientAnswer = z
  .object({
    id: id.meta({ description: 'Given by the gateway, never used again.' }),
    api_key_id: id.meta({ description: 'The same number, for existing scripts.' }),
    api_client_entity_id: id.meta({ description: 'The same number, for existing scripts.' }),
    name: clientMembers.name,
    api_client_id: clientMembers.api_client_id,
    description: clientMembers.description,
    tags: clientMembers.tags,
    scopes: clientMembers.scopes,
    allowed_cidrs: clientMembers.allowed_cidrs,
    is_admin: z.boolean().meta(describedAs('is_admin')),
    enabled: z.boolean().meta(describedAs('enabled')),
    expires_at: timeOrNull('From then on as if disabled.'),
    rate_limit: clientMembers.rate_limit,
    rate_limit_burst: clientMembers.rate_limit_burst,
    quota: clientMembers.quota,
    has_api_key: z.boolean().meta({ description: 'Whether a key of it is accepted.' }),
    api_key_expires_at: timeOrNull('End of its newest key.'),
    replaced_key_used_at: timeOrNull('Last use, since it was replaced, of a key that still works.'),
    last_used_at: timeOrNull('To ten minutes, some seconds later.'),
    created_at: time,
    updated_at: time,
  })
  .meta({ id: 'ApiClient' });
export type ApiClientAnswer = ReadonlyLists<z.infer<typeof apiClientAnswer>>;

export const createdApiClientAnswer = apiClientAnswer
  .extend({
    token: token
      .meta({
        description: 'The API key, when one was made: here and in no other answer. The last six are a checksum.',
      })
      .optional(),
  })
  .meta({ id: 'CreatedApiClient' });

export const apiKeyAnswer = z
  .object({
    id: id.meta({ description: 'Of the key: not what stands before the dot of it, which is the id of its client.' }),
    hint: z.string().length(4).meta({ description: 'The last four characters of the key.' }),
    state: z.enum(['live', 'replaced', 'expired', 'revoked']).meta({
      description: '`replaced`: another key is in its place, and it is still accepted. `revoked`: reported as leaked.',
    }),
    created_at: time,
    last_used_at: timeOrNull('To ten minutes; of a key that was replaced exactly.'),
    expires_at: timeOrNull('From then on it is refused.'),
    replaced_at: timeOrNull('When another key took its place.'),
    revoked_at: timeOrNull('When it was reported as leaked.'),
  })
  .meta({ id: 'ApiKey' });
export type ApiKeyAnswer = z.infer<typeof apiKeyAnswer>;

export const createdApiKeyAnswer = apiKeyAnswer.extend({ token }).meta({ id: 'CreatedApiKey' });

export const rotatedApiKeysAnswer = createdApiKeyAnswer
  .extend({
    replaced: z.array(apiKeyAnswer).meta({ description: 'The keys whose place the new one takes, with their ends.' }),
  })
  .meta({ id: 'RotatedApiKeys' });

export const introspectionAnswer = z
  .object({
    active: z.boolean().meta({ description: 'Whether a request with this credential would be let in.' }),
    type: z.enum(['api_key', 'access_token']),
    reason: z
      .enum(Object.keys(denialDetails) as [DenialReason, ...DenialReason[]])
      .nullable()
      .meta({ description: 'Why not, as the log has it.' }),
    detail: z.string().nullable().meta({ description: 'The same in words.' }),
    address: z.string().nullable().meta({ description: 'Where the request would come from.' }),
    expires_at: timeOrNull('Until when it is good, the client or the credential.'),
    client: apiClientAnswer.nullable().meta({ description: 'The API client that it is of.' }),
    key: apiKeyAnswer.nullable().optional().meta({ description: 'For an API key: null when there is no such key.' }),
    token: z
      .object({
        issuer: z.string(),
        kid: z.string().optional(),
        client_id: z.string().optional().meta({ description: 'What it calls its client, once it is verified.' }),
      })
      .optional()
      .meta({ description: 'For an access token that is not accepted.' }),
  })
  .meta({ id: 'Introspection' });

export const healthAnswer = z.object({ status: z.literal('alive') }).meta({ id: 'Health' });

export const readinessAnswer = z
  .object({
    status: z.enum(['ready', 'not ready']),
    checks: z.record(z.string(), z.string()).meta({ description: '`ok`, or in words what is wrong.' }),
    open_id_connect: z
      .looseObject({})
      .optional()
      .meta({ description: 'What is known of OpenID Providers, and what is wrong with the settings for them.' }),
  })
  .meta({ id: 'Readiness' });

export const fieldErrorAnswer = z
  .object({
    pointer: z.string().optional().meta({ description: 'Where in the body: a JSON Pointer (RFC 6901).' }),
    parameter: z.string().optional().meta({ description: 'Which parameter of the query string.' }),
    detail: z.string().meta({ description: 'What is wrong, in words that follow its name.' }),
  })
  .meta({ id: 'FieldError' });

export const problemAnswer = z
  .object({
    type: z.literal('about:blank'),
    title: z.string().meta({ description: 'The name of the status.' }),
    status: z.int().min(400).max(599),
    reason: z
      .string()
      .regex(/^[a-z][a-z0-9_]*$/)
      .meta({ description: 'What went wrong: stable, for programs.' }),
    detail: z.string().meta({ description: 'What went wrong: a sentence for people.' }),
    errors: z.array(fieldErrorAnswer).optional().meta({ description: 'Each fault of the request, and where it is.' }),
    request_id: z.string().meta({ description: 'As in `X-Request-Id` and in every log.' }),
  })
  .meta({
    id: 'Problem',
    description: 'A refusal, as in RFC 9457. Nothing is stored by a call that is answered with one.',
  });

function describedAs(member: keyof typeof clientMembers): { description: string } {
  return { description: clientMembers[member].description ?? '' };
}
