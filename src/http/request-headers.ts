import type { PolicySource } from '../auth/policy.ts';

/** What nginx hands to the gateway with every request. */
export interface GatewayHeaders {
  readonly policy: PolicySource;
  /** The one `Authorization` value; undefined when there is none. */
  readonly authorization: string | undefined;
  /** nginx's `$request_id`, or empty. */
  readonly requestId: string;
}

/** Two `Authorization` lines are no credential at all; this can be none either, so it is refused as malformed. */
const ambiguous = ',';

/**
 * Reads the header lines as they came: `req.headers` keeps the first of two `Authorization` lines and drops the second
 * in silence.
 */
export function readGatewayHeaders(rawHeaders: readonly string[]): GatewayHeaders {
  const policy: PolicySource = { apiKeys: '', openIdConnect: '' };
  let authorization: string | undefined;
  let requestId = '';
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const value = rawHeaders[index + 1] ?? '';
    switch ((rawHeaders[index] ?? '').toLowerCase()) {
      case 'authorization':
        authorization = authorization === undefined ? value : ambiguous;
        break;
      case 'x-request-id':
        if (/^[A-Za-z0-9._-]{1,64}$/.test(value)) requestId = value;
        break;
      case 'x-policy-api-keys':
        policy.apiKeys = once(policy.apiKeys, value);
        break;
      case 'x-policy-open-id-connect':
        policy.openIdConnect = once(policy.openIdConnect, value);
        break;
    }
  }
  return { policy, authorization, requestId };
}

/** A policy header that comes twice has no clear value, and what is not clear is off. */
function once(seen: string, value: string): string {
  return seen === '' ? value : ambiguous;
}
