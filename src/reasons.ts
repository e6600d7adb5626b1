/** What a reason means to whoever reads it in a problem, a log or a metric, and what to do about it. */
export interface Reason {
  /** The HTTP status that it comes with. */
  readonly status: number;
  /** What the caller is told instead; the reason itself is for logs and metrics alone. */
  readonly toldAs?: string;
  /** One or more sentences, `code` in backticks. */
  readonly meaning: string;
  readonly remedy: string;
}

/**
 * Every reason of a problem, the gateway's and nginx's. The pages docs/reasons/ and those that the `type` of a problem
 * leads to are made from this table; tests compare it with all places that give a reason.
 */
export const reasons = {
  no_credential: {
    status: 401,
    meaning: 'There is no `Authorization` header.',
    remedy:
      'Send `Authorization: apk <id>.<secret>`; some clients drop the header on a redirect to another host or port.',
  },
  malformed_credential: {
    status: 401,
    meaning:
      'The header is not exactly one credential: the id has a sign or leading zeros, the secret has not 64 letters and digits, or something stands before or behind.',
    remedy: 'Copy the key again, whole and without quotes.',
  },
  unsupported_scheme: {
    status: 401,
    meaning: 'The scheme is neither `apk` nor `Bearer`.',
    remedy: '`WWW-Authenticate` in the answer names what is accepted.',
  },
  method_disabled: {
    status: 401,
    meaning: 'API keys, or access tokens, are switched off on this server.',
    remedy:
      'Switch them on in `default.conf`: `$api_keys_enabled`, `$open_id_connect_enabled`. Or send the other kind of credential.',
  },
  mistyped_key: {
    status: 401,
    meaning:
      "The last six characters of the key, its checksum, do not fit the rest: a typing error, a part left out, or another client's id.",
    remedy:
      'Copy the key again, whole. No database is asked about such a key, unless keys of another program were imported.',
  },
  unknown_key: {
    status: 401,
    meaning: 'There is no such key: wrong id or wrong secret (the answer does not tell which) or a deleted client.',
    remedy:
      'Make another key: `apigw keys create <client>`. When it was the last one: `apigw bootstrap`, or start with `API_KEY_CREATE=true`.',
  },
  key_expired: {
    status: 401,
    meaning: 'The `expires_at` of the key has passed, or the overlap of its rotation has ended.',
    remedy:
      'Make another one: `apigw keys create <client>`. The headers `Deprecation` and `Sunset` of earlier answers announced the end.',
  },
  key_revoked: {
    status: 401,
    toldAs: 'unknown_key',
    meaning: 'The key was reported as leaked.',
    remedy:
      'Make another one, `apigw keys create <client>`, and find out where the old one was: the audit trail has the address that reported it.',
  },
  opaque_token: {
    status: 401,
    meaning: 'The token is not a JWT.',
    remedy: 'Ask the issuer for a JWT access token: often an `audience` or `resource` parameter is missing.',
  },
  encrypted_token: {
    status: 401,
    meaning: 'The token is a JWE.',
    remedy: 'Have the issuer sign and not encrypt.',
  },
  malformed_token: {
    status: 401,
    meaning:
      'The token is not canonical base64url or not JSON, has a member twice, is nested more than 32 deep, or has a `kid` that is none.',
    remedy: 'Copy the token again, whole.',
  },
  token_too_large: {
    status: 401,
    meaning: 'The token has more than 16 KB.',
    remedy: 'Have the issuer put fewer groups and claims into it.',
  },
  unsupported_token: {
    status: 401,
    meaning:
      'The header of the token has `crit`, `b64`, `zip`, `enc` or `cty`, or its claims have `cnf`, which binds it to a key that nobody has checked.',
    remedy: 'Have the issuer leave them out.',
  },
  algorithm_not_allowed: {
    status: 401,
    meaning: '`alg` is symmetric, `none`, or not in `$oidc_algorithms`.',
    remedy:
      'Have the issuer sign with RS256 or ES256, or add the algorithm to `$oidc_algorithms`. Symmetric ones and `none` are never allowed.',
  },
  not_an_access_token: {
    status: 401,
    meaning: 'The token is an ID, refresh or logout token.',
    remedy: 'Send the access token of the same answer of the issuer.',
  },
  unknown_signing_key: {
    status: 401,
    meaning:
      "The issuer's JWK set, as it was at most 10 seconds ago, has no usable key with this `kid` and `alg` (RSA below 2,048 bits is not usable).",
    remedy: 'Is the token from this issuer? `/readyz` shows which one is asked.',
  },
  bad_signature: {
    status: 401,
    meaning: 'The key of the issuer with this `kid` did not sign this token.',
    remedy:
      'The token was changed on its way, or another issuer uses the same `kid`: compare `iss` in the token with `$oidc_discovery`.',
  },
  token_expired: {
    status: 401,
    meaning: 'The `exp` of the token has passed.',
    remedy: 'Fetch another token. If it is fresh, compare the clocks of issuer and gateway.',
  },
  token_not_yet_valid: {
    status: 401,
    meaning: '`nbf` or `iat` is in the future.',
    remedy: 'Compare the clocks of issuer and gateway; `$oidc_clock_tolerance` allows for some seconds.',
  },
  lifetime_too_long: {
    status: 401,
    meaning: 'From `iat` to `exp` is longer than `$oidc_max_lifetime`.',
    remedy: 'Shorten the lifetime at the issuer, or raise `$oidc_max_lifetime`.',
  },
  wrong_issuer: {
    status: 401,
    meaning: "`iss` is not exactly the issuer's name.",
    remedy:
      'Compare `iss` in the token with the issuer of `$oidc_discovery`. Where they differ by design, set `$oidc_issuer`.',
  },
  wrong_audience: {
    status: 401,
    meaning: '`aud` does not have `$oidc_audience`.',
    remedy:
      'The client must ask its issuer for a token for your API: `audience`, `resource` or a scope, depending on the issuer. `$oidc_audience` is what is expected.',
  },
  invalid_claim: {
    status: 401,
    meaning: '`exp`, `aud`, `iss`, `nbf` or `iat` is missing or of the wrong type.',
    remedy: 'Decode the token; have the issuer set the claim, as a number where it is a time.',
  },
  no_client_id_claim: {
    status: 401,
    meaning: '`$oidc_client_id_claim` is missing, empty, longer than 1,024 characters or no text.',
    remedy: 'Decode the token, look for the claim that names the client, and name it in `$oidc_client_id_claim`.',
  },
  authentication_disabled: {
    status: 403,
    meaning: 'Both methods are off, so nobody is let in.',
    remedy:
      "Is there a typo in `default.conf`? Only `on`, `true`, `yes` and `1` switch on; the gateway's log names a header that is no setting.",
  },
  admin_required: {
    status: 403,
    meaning: 'The credential is good, but the management API, or this location, is for administrators.',
    remedy:
      'Make the client an administrator: `apigw clients update <client> --admin`, or `PUT` with `"is_admin": true`.',
  },
  client_disabled: {
    status: 403,
    toldAs: 'forbidden',
    meaning: 'The credential is good, and its API client has `"enabled": false`.',
    remedy:
      '`apigw clients update <client> --enable`, or `PUT` with `"enabled": true`. The audit trail says who disabled it.',
  },
  client_expired: {
    status: 403,
    toldAs: 'forbidden',
    meaning: 'The credential is good, and the `expires_at` of its API client has passed.',
    remedy: '`apigw clients update <client> --expires never`, or `PUT` with another `expires_at`, or `null`.',
  },
  address_not_allowed: {
    status: 403,
    toldAs: 'forbidden',
    meaning: "The credential is good, and the request comes from outside of the client's `allowed_cidrs`.",
    remedy: "`remote_addr` in nginx's log is the address that counts; behind another proxy use nginx's realip module.",
  },
  client_not_allowed: {
    status: 403,
    meaning: '`$allowed_clients` does not have this client.',
    remedy: 'Add its `api_client_id` to `$allowed_clients` of this location.',
  },
  client_scope_required: {
    status: 403,
    meaning: 'A scope of `$required_scopes` is missing in the `scopes` of the API client.',
    remedy:
      'Give the scope to the client: `apigw clients update <client> --scope <scope>`, or `PUT` with all its `scopes`.',
  },
  unknown_client: {
    status: 403,
    meaning: 'The token is good, but no API client has this `api_client_id`.',
    remedy:
      'Register it: `apigw clients create --api-client-id <the claim> --no-key`, or `POST` with `"generate_api_key": false`.',
  },
  claim_required: {
    status: 403,
    meaning: '`$oidc_required_claims` does not hold.',
    remedy: 'Decode the token and compare it with `$oidc_required_claims`.',
  },
  insufficient_scope: {
    status: 403,
    meaning: 'A scope of `$oidc_required_scopes` is missing; `WWW-Authenticate` names them.',
    remedy: "Ask the issuer for it: the client's registration, or `scope=` in its request.",
  },
  rate_limited: {
    status: 429,
    meaning: "More requests than the client's `rate_limit` or `quota`, or a limit of nginx by address, allows.",
    remedy:
      'Wait for the seconds in `Retry-After`. To raise the limit of a client: `apigw clients update <client> --rate-limit 100/s`; those by address are in `conf.d/limits.conf`.',
  },
  too_many_failures: {
    status: 429,
    meaning:
      'From this address, or this /64 of IPv6, come more requests without a good credential than `conf.d/limits.conf` allows; nginx answers so instead of 401. A good credential is let in all the same.',
    remedy:
      "Wait for the seconds in `Retry-After`, and mend the client that goes on with a credential that is refused: the gateway's log says why, by the request id. An operator can exempt an address or raise the rate in `conf.d/limits.conf`.",
  },
  store_unavailable: {
    status: 503,
    meaning: 'The database does not answer, so nobody can say whether the credential is good.',
    remedy:
      "The gateway's log says why: the disk is full, the file is gone, locked, or not readable. `apigw doctor` looks. Nothing need be restarted afterwards.",
  },
  issuer_unavailable: {
    status: 503,
    meaning:
      "The issuer cannot be asked, and the token's key is not known; or 250 new tokens wait to be verified already.",
    remedy:
      'The log of the gateway and `/readyz` say in one sentence what is wrong. API keys go on working; so do tokens whose keys are known, for `OIDC_STALE_KEYS_LIFETIME`.',
  },
  policy_invalid: {
    status: 503,
    meaning:
      'A setting of OpenID Connect in `default.conf` is missing or wrong, so no token can be verified. API keys go on working.',
    remedy:
      "`/readyz` and the gateway's log name the setting. After the edit: `npm run reload`, or `docker compose exec proxy reload`.",
  },
  gateway_unavailable: {
    status: 503,
    meaning: 'Nginx got no decision from the gateway within 4 s.',
    remedy:
      'Is the gateway running? `error.log` of nginx names the socket; `docker compose ps`, or `systemctl status apigw-gateway`.',
  },
  not_granted: {
    status: 503,
    meaning: 'Something that is not the gateway answered the question.',
    remedy: "`auth_request` in your `default.conf` is misspelt, or another program listens in the gateway's place.",
  },
  application_timeout: {
    status: 504,
    meaning: 'The application did not answer within 60 s.',
    remedy: 'Raise `proxy_read_timeout` in its location of `default.conf`.',
  },
  application_unavailable: {
    status: 502,
    meaning: 'The request was allowed, and the application does not answer.',
    remedy: 'Is the application running? `APIGW_APP_UPSTREAM` says where nginx looks for it.',
  },
  error: {
    status: 400,
    meaning: 'nginx refused the request.',
    remedy: 'The access log of nginx has the status.',
  },
  internal_error: {
    status: 500,
    meaning: 'A fault in the gateway.',
    remedy: "The gateway's log has the request id and the fault; please report it.",
  },
  invalid_json: {
    status: 400,
    meaning: 'The body is not one JSON object in UTF-8, has a member twice, or is nested too deeply.',
    remedy: 'Have a program write it: `jq -n`, or a library.',
  },
  invalid_body: {
    status: 400,
    meaning: 'The body is JSON, and something in it is not allowed.',
    remedy: '`errors` has a JSON Pointer and a sentence for each fault. Nothing was stored.',
  },
  invalid_parameter: {
    status: 400,
    meaning: 'A parameter of the query string is not known, or has a value that is not allowed.',
    remedy: '`errors` names it and says what is allowed.',
  },
  invalid_id: {
    status: 400,
    meaning: 'The id in the path is no whole number in decimal.',
    remedy: 'Use the `id` of the API client, not its `api_client_id`.',
  },
  invalid_idempotency_key: {
    status: 400,
    meaning: 'The `Idempotency-Key` has fewer than 8 or more than 255 characters, or others than printable ASCII.',
    remedy: 'Send a UUID.',
  },
  not_an_api_key: {
    status: 400,
    meaning: 'What was reported as leaked is no API key.',
    remedy: 'An access token ends at its issuer.',
  },
  unknown_api_client: {
    status: 404,
    meaning: 'No API client has this id.',
    remedy:
      '`apigw clients list`, or `GET /v1/management/api-clients`. It may have been deleted: the audit trail says by whom.',
  },
  unknown_api_key: {
    status: 404,
    meaning: 'The API client has no key with this id.',
    remedy: '`apigw keys list <client>`. The id of a key is not that of its client.',
  },
  unknown_decision: {
    status: 404,
    meaning:
      'The gateway does not remember a refusal with this request id: it was granted, or refused too long ago, or by another gateway.',
    remedy: "nginx's access log has every request with its `request_id`.",
  },
  unknown_reason: {
    status: 404,
    meaning: 'No problem has this reason.',
    remedy: 'All of them are at `/v1/management/problems`.',
  },
  duplicate_api_client_id: {
    status: 409,
    meaning: 'Another API client has this `api_client_id`.',
    remedy: 'Choose another one, or change that client.',
  },
  last_admin: {
    status: 409,
    meaning: 'After this change no administrator could authenticate tomorrow.',
    remedy: 'Create another administrator first, or repeat the call with `?force=true`.',
  },
  too_many_keys: {
    status: 409,
    meaning: 'The API client has 20 keys that are accepted.',
    remedy: 'Delete those that nobody uses: `last_used_at` of each.',
  },
  revision_changed: {
    status: 409,
    meaning: 'Something has been changed since the plan that was to be applied.',
    remedy: 'Make the plan again and look at it.',
  },
  id_taken: {
    status: 409,
    meaning: 'The `id` in the document has been given to a client before, or the client has another one.',
    remedy: 'Leave `id` out; keys that begin with it then need to be made anew.',
  },
  unsupported_media_type: {
    status: 415,
    meaning: 'The body is not declared as JSON, or is compressed.',
    remedy: 'Send `Content-Type: application/json`.',
  },
  idempotency_key_reused: {
    status: 422,
    meaning: 'The `Idempotency-Key` was used for another creation within 24 hours.',
    remedy: 'Take a new one for each.',
  },
  metrics_incomplete: {
    status: 503,
    meaning: 'A worker has not said its numbers in time.',
    remedy: 'Ask again.',
  },
  bad_request: {
    status: 400,
    meaning:
      'The request is not well-formed HTTP, has a header twice that may come once, comes without a client certificate where nginx asks for one, or its path can be read in two ways where `strict-paths.conf` is included.',
    remedy:
      'The path: send no `//`, `/../`, `;`, or encoded slash, dot or backslash. The rest: look at what the client really sends.',
  },
  unauthenticated: {
    status: 401,
    meaning: 'Another `auth_...` directive of nginx wants a credential.',
    remedy: 'Look for `auth_basic` in the configuration: `nginx -T`.',
  },
  forbidden: {
    status: 403,
    meaning:
      'The credential is good, but its API client is disabled, has ended, or may not call from this address; or `deny` or another directive of nginx refuses the request. Which one it is the caller need not know.',
    remedy: 'Administrators see the reason itself in the logs, by `apigw explain <request id>`, and by `introspect`.',
  },
  not_found: {
    status: 404,
    meaning: "The management API, or nginx, has nothing at this path. The application's own 404 passes as it is.",
    remedy: 'Compare the path with the reference of the management API.',
  },
  method_not_allowed: {
    status: 405,
    meaning: 'The method is not allowed at this path.',
    remedy: '`Allow` in the answer has those that are. nginx takes no TRACE.',
  },
  request_timeout: {
    status: 408,
    meaning: 'The request did not arrive in time.',
    remedy: 'Headers have 15 seconds; between two parts of a body 60 may pass.',
  },
  body_too_large: {
    status: 413,
    meaning:
      'The body is larger than is allowed: `client_max_body_size` for an application, 64 KB for the management API.',
    remedy: 'Raise `client_max_body_size` in its location; a document of clients may have 16 MB.',
  },
  uri_too_long: {
    status: 414,
    meaning: 'The request line has more than 16 KB.',
    remedy: 'Put parameters into a body.',
  },
  headers_too_large: {
    status: 431,
    meaning: 'A header line has more than 16 KB, or all of them together more than 64 KB.',
    remedy: 'Often it is a cookie that grows, or a token with many groups.',
  },
  misdirected_request: {
    status: 421,
    meaning: 'The request is for another server than the one that the connection was opened for.',
    remedy: 'Have the client open a connection for each host name.',
  },
  not_implemented: {
    status: 501,
    meaning: 'The method or the transfer coding is not known.',
    remedy: 'Send one of GET, HEAD, POST, PUT, DELETE, PATCH and OPTIONS.',
  },
  http_version_not_supported: {
    status: 505,
    meaning: 'The HTTP version is not supported.',
    remedy: 'Use HTTP/1.1 or HTTP/2.',
  },
} as const satisfies Readonly<Record<string, Reason>>;

export type ReasonCode = keyof typeof reasons;

export function isReason(code: string): code is ReasonCode {
  return Object.hasOwn(reasons, code);
}
