/** Who is asking, once that is certain. */
export interface Principal {
  /** Numeric id of the API client. */
  readonly id: number;
  /** The client's `api_client_id`. */
  readonly clientId: string;
  readonly clientName: string;
  readonly isAdmin: boolean;
  readonly method: 'api_key';
}

/** Reason codes of denials. Public and stable: nginx's problem bodies, logs and documents name them. */
export type DenialReason = keyof typeof denialDetails;

/** The sentence that goes with each reason. The nginx snippet `problems.conf` says the same; a test compares them. */
export const denialDetails = {
  no_credential: 'The request has no Authorization header.',
  malformed_credential: 'The Authorization header is not exactly one well-formed credential.',
  unsupported_scheme: 'The authentication scheme of the Authorization header is not known here.',
  method_disabled: 'This kind of credential is not accepted here.',
  unknown_key: 'The API key is not valid.',
  key_expired: 'The API key has expired.',
  authentication_disabled: 'No authentication method is enabled here.',
  rate_limited: 'The client has sent too many requests.',
  issuer_unavailable: 'Access tokens cannot be verified at the moment.',
  store_unavailable: 'The credential cannot be checked at the moment.',
} as const;

/** The answer to one request. Only `granted` carries a principal. */
export type Decision =
  | { readonly outcome: 'granted'; readonly principal: Principal }
  | { readonly outcome: 'unauthenticated'; readonly reason: DenialReason }
  | { readonly outcome: 'forbidden'; readonly reason: DenialReason }
  | { readonly outcome: 'unavailable'; readonly reason: DenialReason; readonly cause: unknown };

export const unauthenticated = (reason: DenialReason): Decision => ({ outcome: 'unauthenticated', reason });
export const forbidden = (reason: DenialReason): Decision => ({ outcome: 'forbidden', reason });
export const unavailable = (reason: DenialReason, cause: unknown): Decision => ({
  outcome: 'unavailable',
  reason,
  cause,
});
