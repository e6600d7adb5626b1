import { denialDetails, tokenDetails, type DenialReason } from '../../auth/decision.ts';
import { maxKeys } from '../../clients/api-keys.ts';
import type { FieldError } from '../../problem.ts';

export type ProblemStatus = keyof typeof problemStatuses;

export interface KnownProblem {
  readonly status: ProblemStatus;
  /** When it is the answer. */
  readonly description: string;
  /** What the answer says, when the test can bring it about; it then is an example. */
  readonly detail?: string;
  readonly errors?: readonly FieldError[];
}

/** With a reason that an operation names: what its own handler refuses. */
export type ProblemReason = keyof typeof problems;

const invalid = 'The request body is not valid.';

/** What an operation may refuse, in the order of the document. */
export const problems = {
  invalid_json: {
    status: 400,
    description: 'The body is empty, not JSON in UTF-8, has a member twice, or is nested too deeply.',
    detail: 'The request body is not JSON.',
  },
  invalid_body: {
    status: 400,
    description: 'A member of the body is missing, not valid or not known; `errors` has each fault.',
    detail: `${invalid} /colour is not a member of this object.`,
    errors: [{ pointer: '/colour', detail: 'is not a member of this object' }],
  },
  invalid_parameter: {
    status: 400,
    description: 'A parameter of the query string is not valid, not known or given twice.',
    detail: 'The query string is not valid. fields is not a parameter of this call.',
    errors: [{ parameter: 'fields', detail: 'is not a parameter of this call' }],
  },
  invalid_id: {
    status: 400,
    description: 'An id in the path is not a whole number from 1 to 9223372036854775807 in its one canonical form.',
    detail: 'The id in the path must be a whole number from 1 to 9223372036854775807, without a sign or leading zeros.',
  },
  invalid_idempotency_key: {
    status: 400,
    description: 'The `Idempotency-Key` is too short, too long, or not printable ASCII.',
    detail: 'The Idempotency-Key must have 8 to 255 printable ASCII characters, such as a UUID.',
  },
  not_an_api_key: {
    status: 400,
    description: 'The token is not an API key, by its form.',
    detail: '/token must be an API key, <id>.<64 characters>. An access token ends at its issuer.',
    errors: [{ pointer: '/token', detail: 'must be an API key' }],
  },
  unknown_api_client: {
    status: 404,
    description: 'There is no such API client, or not any more.',
    detail: 'There is no API client with this id.',
  },
  unknown_api_key: {
    status: 404,
    description: 'The API client has no such key, or not any more.',
    detail: 'The API client has no key with this id.',
  },
  unknown_key: {
    status: 404,
    description: 'Nobody has this key, so there is nothing to end.',
    detail: 'There is no such API key.',
  },
  unknown_decision: {
    status: 404,
    description: 'The gateway remembers no refusal with this request id.',
    detail: 'The gateway remembers no refusal with this request id. The log of nginx has every request.',
  },
  unknown_reason: {
    status: 404,
    description: 'No problem has this reason.',
    detail: 'No problem has this reason.',
  },
  duplicate_api_client_id: {
    status: 409,
    description: 'Another API client has this `api_client_id`.',
    detail: '/api_client_id is the api_client_id of another API client.',
    errors: [{ pointer: '/api_client_id', detail: 'is the api_client_id of another API client' }],
  },
  last_admin: {
    status: 409,
    description: 'No administrator would be left that can authenticate a day later; `force=true` does it nevertheless.',
    detail:
      'No administrator would be left that can authenticate tomorrow too (a bootstrap key, which expires, does not count). Create another one first, or repeat the call with ?force=true.',
  },
  revision_changed: {
    status: 409,
    description: 'Something has been changed since the plan was made.',
    detail: 'Something has been changed since this revision. Look at the plan again, with ?dry_run=true.',
  },
  id_taken: {
    status: 409,
    description: 'An `id` was given to a client before, or the client has another one.',
    detail: '/clients/0/id: the id 1 has been given to a client before, and is never given again.',
    errors: [
      { pointer: '/clients/0/id', detail: 'the id 1 has been given to a client before, and is never given again' },
    ],
  },
  too_many_keys: {
    status: 409,
    description: `The API client has ${maxKeys} keys that are accepted already.`,
    detail: `The API client has ${maxKeys} keys that are accepted, and may have no more; delete those that nobody uses.`,
  },
  body_too_large: {
    status: 413,
    description: 'The body has more than 64 KB; that of `apply`, more than 16 MB.',
    detail: 'The request body is too large.',
  },
  unsupported_media_type: {
    status: 415,
    description: 'The `Content-Type` is not `application/json`, or there is a `Content-Encoding`.',
    detail: 'The Content-Type must be application/json.',
  },
  idempotency_key_reused: {
    status: 422,
    description: 'The `Idempotency-Key` was used for a creation with another body.',
    detail: 'This Idempotency-Key was used for another creation; take a new one for each.',
  },
  rate_limited: {
    status: 429,
    description: 'More than 30 calls a minute, ten at once, from this address to this call and those like it.',
    detail: 'Too many requests.',
  },
} satisfies Record<string, KnownProblem>;

const denied = (status: ProblemStatus, ...reasons: readonly DenialReason[]): Record<string, KnownProblem> =>
  Object.fromEntries(reasons.map((reason) => [reason, { status, description: denialDetails[reason] }]));

/** What every call may refuse that needs a credential. A reason is here as the caller is told it. */
export const problemsOfCredentials: Readonly<Record<string, KnownProblem>> = {
  no_credential: { status: 401, description: denialDetails.no_credential, detail: denialDetails.no_credential },
  ...denied(401, 'malformed_credential', 'unsupported_scheme', 'method_disabled', 'mistyped_key', 'unknown_key'),
  ...denied(401, 'key_expired', ...(Object.keys(tokenDetails) as (keyof typeof tokenDetails)[])),
  admin_required: {
    status: 403,
    description: 'The API client of the credential is no administrator.',
    detail: 'Only an API client with is_admin may use the management API.',
  },
  forbidden: {
    status: 403,
    description:
      'The credential is good, but its API client is disabled, has ended, or may not call from this address; the log says which.',
  },
  ...denied(403, 'authentication_disabled', 'unknown_client', 'client_not_allowed', 'client_scope_required'),
  ...denied(403, 'claim_required', 'insufficient_scope'),
  ...denied(503, 'policy_invalid', 'issuer_unavailable'),
};

/** What every call may be answered with. */
export const problemsOfAll: Readonly<Record<string, KnownProblem>> = {
  internal_error: { status: 500, description: 'A fault of the gateway; its log says which.' },
  store_unavailable: { status: 503, description: 'The database does not answer; nothing was changed.' },
  gateway_unavailable: {
    status: 503,
    description: 'From nginx: the gateway did not answer, so look before you repeat a POST.',
    detail: 'Whether this request is allowed cannot be decided at the moment.',
  },
};

/** What each status of a refusal means, and the headers that it comes with besides those of every answer. */
export const problemStatuses = {
  400: { description: 'The request is not valid.' },
  401: {
    description: 'There is no credential, or one that is not valid.',
    headers: ['WWW-Authenticate', 'X-jwt-error'],
  },
  403: { description: 'The credential is good, but not for this.', headers: ['WWW-Authenticate'] },
  404: { description: 'There is no such thing.' },
  409: { description: 'It goes against what is there.' },
  413: { description: 'The body is too large.' },
  415: { description: 'The body is of another media type.', headers: ['Accept', 'Accept-Encoding'] },
  422: { description: 'The request goes against an earlier one.' },
  429: { description: 'Too many requests.', headers: ['Retry-After'] },
  500: { description: 'The gateway has failed.' },
  503: { description: 'It cannot be said now.', headers: ['Retry-After'] },
} as const;
