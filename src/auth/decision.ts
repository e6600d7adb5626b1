import type { HeaderValue } from './header-value.ts';
import type { Limit, LimitState } from './rate-limit.ts';

/** Who is asking, once that is certain. */
export interface Principal {
  /** Numeric id of the API client. */
  readonly id: number;
  /** The client's `api_client_id`, as the application receives it in `X-Client-Id`. */
  readonly clientId: HeaderValue;
  /** As the application receives it in `X-Client-Name`. */
  readonly clientName: HeaderValue;
  readonly isAdmin: boolean;
  readonly method: 'api_key' | 'jwt';
}

/** Why an access token is not accepted: the sentence goes to the client, and says nothing about the token's content. */
export const tokenDetails = {
  opaque_token: 'The access token is not a JWT; opaque tokens are not accepted here.',
  encrypted_token: 'The access token is encrypted; only signed ones are accepted.',
  malformed_token: 'The access token is not a well-formed JWT.',
  token_too_large: 'The access token has more than 16 KB.',
  unsupported_token: 'The access token uses a feature that is not supported.',
  algorithm_not_allowed: 'The signature algorithm of the access token is not allowed.',
  not_an_access_token: 'The token is not an access token.',
  unknown_signing_key: 'The access token was not signed with a known key.',
  bad_signature: 'The signature of the access token is not valid.',
  token_expired: 'The access token has expired.',
  token_not_yet_valid: 'The access token is not valid yet.',
  lifetime_too_long: 'The access token is valid for longer than is allowed.',
  wrong_issuer: 'The access token is from another issuer.',
  wrong_audience: 'The access token is for another audience.',
  invalid_claim: 'A claim of the access token is missing or not valid.',
  no_client_id_claim: 'The access token does not name its client.',
} as const;

/** The sentence that goes with each reason. The nginx snippet `problems.conf` says the same; a test compares them. */
export const denialDetails = {
  no_credential: 'The request has no Authorization header.',
  malformed_credential: 'The Authorization header is not exactly one well-formed credential.',
  unsupported_scheme: 'The authentication scheme of the Authorization header is not known here.',
  method_disabled: 'This kind of credential is not accepted here.',
  mistyped_key: 'The API key is not complete or mistyped: its checksum is wrong.',
  unknown_key: 'The API key is not valid.',
  key_expired: 'The API key has expired.',
  key_revoked: 'The API key is not valid.',
  ...tokenDetails,
  authentication_disabled: 'No authentication method is enabled here.',
  client_disabled: 'Access is not allowed.',
  client_expired: 'Access is not allowed.',
  address_not_allowed: 'Access is not allowed.',
  unknown_client: 'The client of the access token is not registered.',
  admin_required: 'Only an API client with is_admin may do this.',
  client_not_allowed: 'This API client may not do this.',
  client_scope_required: 'The API client lacks a scope that is required here.',
  claim_required: 'The access token lacks a claim that is required here.',
  insufficient_scope: 'The access token lacks a scope that is required here.',
  rate_limited: 'The client has sent too many requests.',
  policy_invalid: 'Access tokens cannot be verified: the configuration of this server is not valid.',
  issuer_unavailable: 'Access tokens cannot be verified at the moment.',
  store_unavailable: 'The credential cannot be checked at the moment.',
} as const;

/** Reason codes of denials. Public and stable: nginx's problem bodies, logs and documents name them. */
export type DenialReason = keyof typeof denialDetails;

/**
 * What the caller is told in place of a reason that is not his business: whether a client is disabled, or where it may
 * call from, helps whoever has found its credential. Logs and metrics have the reason itself.
 */
export const publicReasons: Readonly<Partial<Record<DenialReason, string>>> = {
  key_revoked: 'unknown_key',
  client_disabled: 'forbidden',
  client_expired: 'forbidden',
  address_not_allowed: 'forbidden',
};

/** Until when a credential is good, and whether its holder should take another. */
export interface Lifetime {
  /** When the credential or its client ends, in milliseconds since the epoch; null when neither does. */
  readonly expiresAt: number | null;
  /** When another key took the place of this one, in milliseconds since the epoch; null when none has. */
  readonly replacedAt: number | null;
}

export interface Granted extends Lifetime {
  readonly outcome: 'granted';
  readonly principal: Principal;
  /** Whether the next request with this credential, from wherever, would be granted too. */
  readonly isReusable: boolean;
  readonly limits: readonly Limit[] | undefined;
  /** What is left of the limits, once the request has been counted. */
  readonly limitState?: LimitState;
}

/** The answer to one request. Only `granted` carries a principal. */
export type Decision =
  | Granted
  | { readonly outcome: 'unauthenticated'; readonly reason: DenialReason; readonly token?: TokenTrace }
  | {
      readonly outcome: 'forbidden';
      readonly reason: DenialReason;
      readonly token?: TokenTrace;
      /** `api_client_id` of the API client whose good credential it is, for the log. */
      readonly clientId?: string;
      readonly lifetime?: Lifetime;
      readonly limitState?: LimitState;
      /** Seconds. */
      readonly retryAfter?: number;
    }
  | { readonly outcome: 'unavailable'; readonly reason: DenialReason; readonly cause: unknown };

export type Denied = Exclude<Decision, Granted>;

/** What may be logged of an access token that does not get through. */
export interface TokenTrace {
  /** The issuer that it was verified for. */
  readonly issuer: string;
  readonly kid: string | undefined;
  /** What the token calls its client; known once the token is verified. */
  readonly client_id?: string;
}

export const unauthenticated = (reason: DenialReason, token?: TokenTrace): Decision => ({
  outcome: 'unauthenticated',
  reason,
  ...(token && { token }),
});
export const forbidden = (reason: DenialReason, token?: TokenTrace): Decision => ({
  outcome: 'forbidden',
  reason,
  ...(token && { token }),
});
export const rateLimited = (granted: Granted, limitState: LimitState, retryAfter: number): Decision => ({
  outcome: 'forbidden',
  reason: 'rate_limited',
  clientId: granted.principal.clientId,
  lifetime: granted,
  limitState,
  retryAfter,
});
export const unavailable = (reason: DenialReason, cause: unknown): Decision => ({
  outcome: 'unavailable',
  reason,
  cause,
});
