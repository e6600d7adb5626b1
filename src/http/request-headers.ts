import { narrow, nothingSet, policySettings, type PolicySetting, type PolicySource } from '../auth/policy.ts';

/** What nginx hands to the gateway with every request. */
export interface GatewayHeaders {
  /** The lines that say what is accepted, as they came, "name:value", with "\n" between them; empty when there are none. */
  readonly policyLines: string;
  /** The one `Authorization` value; undefined when there is none. */
  readonly authorization: string | undefined;
  /** nginx's `$remote_addr`; empty when there is none, or more than one. */
  readonly clientAddress: string;
  /** nginx's `$request_id`, or empty. */
  readonly requestId: string;
}

/** Two `Authorization` lines are no credential at all; this can be none either, so it is refused as malformed. */
export const ambiguous = ',';

const settings = new Set<string>(policySettings);

/**
 * Reads the header lines as they came: `req.headers` keeps the first of two `Authorization` lines and drops the second
 * in silence.
 */
export function readGatewayHeaders(rawHeaders: readonly string[]): GatewayHeaders {
  const policyLines: string[] = [];
  let authorization: string | undefined;
  let clientAddress: string | undefined;
  let requestId = '';
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase();
    const value = rawHeaders[index + 1] ?? '';
    if (name === 'authorization') authorization = authorization === undefined ? value : ambiguous;
    else if (name === 'x-client-address') clientAddress = clientAddress === undefined ? value : '';
    else if (name === 'x-request-id') requestId = harmlessId(value);
    else if (isPolicyHeader(name) || isNearlyPolicyHeader(name)) policyLines.push(`${name}:${value}`);
  }
  return { policyLines: policyLines.join('\n'), authorization, clientAddress: clientAddress ?? '', requestId };
}

/** Whether a header, its name in lower case, is one that says what is accepted. */
export function isPolicyHeader(name: string): boolean {
  return name === 'x-policy' || name.startsWith('x-policy-');
}

const nearly = new RegExp(`^x?policy|(?:${policySettings.join('|').replaceAll('_', '')})$`);

/**
 * Whether a header that is none of ours was meant to say what is accepted: `X_Policy_Require_Admin`, `X-Polcy-Require-Admin`.
 * What it asks for must not be ignored.
 */
export function isNearlyPolicyHeader(name: string): boolean {
  return nearly.test(name.replace(/[^a-z]+/g, ''));
}

/** The request id when it may stand in a log as it is, else empty. */
export function harmlessId(text: string): string {
  return /^[A-Za-z0-9._-]{1,64}$/.test(text) ? text : '';
}

/**
 * What snippets/policy.conf sends as `X-Policy`, every setting of the server as "name=value" with tabs between them, and
 * what a location adds: `X-Policy-Oidc-Audience` for `$oidc_audience`. A setting that comes twice is narrowed.
 */
export function readPolicy(policyLines: string): PolicySource {
  const policy = { ...nothingSet };
  const seen = new Set<PolicySetting>();
  const take = (setting: string, value: string, writtenAs: string) => {
    if (!isSetting(setting)) {
      policy.unknown ||= writtenAs;
      return;
    }
    policy[setting] = seen.has(setting) ? narrow(setting, policy[setting], value) : value;
    seen.add(setting);
  };
  for (const line of policyLines === '' ? [] : policyLines.split('\n')) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '');
    if (name === 'x-policy') {
      for (const pair of value.split('\t')) {
        const [setting = ''] = pair.split('=', 1);
        take(pair.includes('=') ? setting : '', pair.slice(setting.length + 1), `"${setting}" of x-policy`);
      }
    } else {
      const setting = name.startsWith('x-policy-') ? name.slice('x-policy-'.length).replaceAll('-', '_') : '';
      take(setting, value, name);
    }
  }
  return policy;
}

function isSetting(name: string): name is PolicySetting {
  return settings.has(name);
}
