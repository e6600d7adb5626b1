import { narrow, nothingSet, policySettings, type PolicySetting, type PolicySource } from '../auth/policy.ts';

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

/** `$oidc_audience` of default.conf comes as `X-Policy-Oidc-Audience`; snippets/policy.conf names them all. */
const settingOf = new Map<string, PolicySetting>(
  policySettings.map((setting) => [`x-policy-${setting.replaceAll('_', '-')}`, setting]),
);

/**
 * Reads the header lines as they came: `req.headers` keeps the first of two `Authorization` lines and drops the second
 * in silence.
 */
export function readGatewayHeaders(rawHeaders: readonly string[]): GatewayHeaders {
  const policy = { ...nothingSet };
  const seen: PolicySetting[] = [];
  let authorization: string | undefined;
  let requestId = '';
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase();
    const value = rawHeaders[index + 1] ?? '';
    if (name === 'authorization') {
      authorization = authorization === undefined ? value : ambiguous;
    } else if (name === 'x-request-id') {
      if (/^[A-Za-z0-9._-]{1,64}$/.test(value)) requestId = value;
    } else {
      const setting = settingOf.get(name);
      if (setting) {
        // the "=" of policy.conf marks the server's own value
        const text = value.startsWith('=') ? value.slice(1) : value;
        policy[setting] = seen.includes(setting) ? narrow(setting, policy[setting], text) : text;
        seen.push(setting);
      } else if (name.startsWith('x-policy-')) policy.unknown ||= name;
    }
  }
  return { policy, authorization, requestId };
}
