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
    expected: z.string().nullable().meta({ description: 'What was compared, and did not fit.' }),
    seen: z.string().nullable(),
    remedy: z.string().nullable().meta({ description: 'What to do.' }),
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

const textOrNull = (description: string) => z.string().nullable().meta({ description });

export const declarationAnswer = z
  .object({
    version: z.literal(1),
    clients: z.array(
      z.object({
        id,
        api_client_id: clientMembers.api_client_id,
        name: clientMembers.name,
        description: clientMembers.description,
        tags: clientMembers.tags,
        scopes: clientMembers.scopes,
        allowed_cidrs: clientMembers.allowed_cidrs,
        is_admin: z.boolean(),
        enabled: z.boolean(),
        expires_at: time.nullable(),
        rate_limit: clientMembers.rate_limit,
        rate_limit_burst: clientMembers.rate_limit_burst,
        quota: clientMembers.quota,
        keys: z.array(
          z.object({
            digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
            hint: z.string().max(4),
            expires_at: time.nullable(),
            checksum: z.boolean(),
          }),
        ),
      }),
    ),
  })
  .meta({ id: 'ExportedApiClients' });

const keyHints = (what: string) => z.array(z.string()).meta({ description: `${what}, by their hints.` });

export const appliedAnswer = z
  .object({
    dry_run: z.boolean().meta({ description: 'Whether nothing was done.' }),
    revision: z.int().meta({ description: 'Of the database: after the changes, or that the plan was made for.' }),
    created: z.int(),
    updated: z.int(),
    deleted: z.int(),
    unchanged: z.int(),
    changes: z.array(
      z.object({
        action: z.enum(['create', 'update', 'delete']),
        api_client_id: z.string(),
        id: id.nullable().meta({ description: 'Null for one that has none yet.' }),
        fields: z.array(z.object({ name: z.string(), from: z.unknown(), to: z.unknown() })),
        keys_added: keyHints('Keys that come'),
        keys_removed: keyHints('Keys that go'),
      }),
    ),
  })
  .meta({ id: 'Applied' });

export const gatewayAnswer = z
  .object({
    gateway: z.string().meta({ description: 'Its host and the number of its process.' }),
    applied_revision: z.int().meta({ description: 'It grants nothing by what was true before this revision.' }),
    last_seen_at: time.meta({
      description: 'By the clock of the database. One that is alone says nothing while nothing is changed.',
    }),
  })
  .meta({ id: 'Gateway' });
export type GatewayAnswer = z.infer<typeof gatewayAnswer>;

export const gatewaysAnswer = z
  .object({
    revision: z.int().meta({ description: 'Of the database.' }),
    gateways: z.array(gatewayAnswer),
  })
  .meta({ id: 'Gateways' });

const propagationAnswer = z
  .object({
    revision: z.int().nullable().meta({
      description: 'That must be followed: of the change, or a later one. Null when the database has not told.',
    }),
    pending: z
      .array(gatewayAnswer)
      .nullable()
      .meta({ description: 'Who has not followed it. Null when the database has not told.' }),
  })
  .meta({ id: 'Propagation' });
export type PropagationAnswer = z.infer<typeof propagationAnswer>;

/** Besides what the body has otherwise. */
export const pendingAnswer = z.object({ propagation: propagationAnswer }).meta({ id: 'Pending' });

export const auditEventAnswer = z
  .object({
    id: id.meta({ description: 'Ascending.' }),
    at: time,
    action: z.string().meta({ description: 'Such as `api_key.rotate`; `management.call` for what changed nothing.' }),
    outcome: z.string().meta({ description: '`done`, or the reason of the refusal.' }),
    actor_id: id.nullable().meta({ description: 'The API client that did it.' }),
    actor: textOrNull('Who did it, when it was no API client.'),
    address: textOrNull('Where it came from.'),
    client_id: id.nullable().meta({ description: 'The API client that it was done to.' }),
    request_id: z.string().nullable(),
    revision: z.int().nullable().meta({ description: 'Of the database after the change.' }),
    details: z
      .record(z.string(), z.unknown())
      .nullable()
      .meta({ description: 'What was chosen; of an update `before` and `after`.' }),
  })
  .meta({ id: 'AuditEvent' });

export const denialAnswer = z
  .object({
    request_id: z.string(),
    at: time,
    outcome: z.enum(['unauthenticated', 'forbidden', 'unavailable']),
    status: z.int(),
    reason: z.string(),
    told_as: z.string().meta({ description: 'The reason that the caller was told.' }),
    meaning: z.string(),
    expected: textOrNull('What was compared, and did not fit.'),
    seen: textOrNull('As it was in the request.'),
    remedy: z.string().meta({ description: 'What to do.' }),
    address: textOrNull('Where it came from.'),
    claimed_client_id: textOrNull('The id in the API key, believed or not.'),
    token: z.object({ issuer: z.string(), kid: z.string().optional(), client_id: z.string().optional() }).nullable(),
    cause: textOrNull('Why it could not be decided.'),
  })
  .meta({ id: 'Denial' });

export const healthAnswer = z.object({ status: z.literal('alive') }).meta({ id: 'Health' });

export const readinessAnswer = z
  .object({
    status: z.enum(['ready', 'not ready']),
    checks: z.record(z.string(), z.string()).meta({ description: '`ok`, or in words what is wrong.' }),
    changes: z
      .string()
      .optional()
      .meta({ description: 'Only while changes by other gateways are not followed: since when, and what that means.' }),
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
    type: z
      .string()
      .regex(/^\/v1\/management\/problems\/[a-z_]+$/)
      .meta({ description: 'Leads to a page about the reason, on this host.' }),
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
