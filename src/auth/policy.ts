import { LRUCache } from 'lru-cache';

/** What a server or location of nginx accepts. It is handed over with every request, as headers that nginx sets. */
export interface Policy {
  readonly apiKeysEnabled: boolean;
  readonly openIdConnectEnabled: boolean;
  /** The one `WWW-Authenticate` line (RFC 9110 11.6.1) that names every accepted scheme; empty when there is none. */
  readonly challenge: string;
}

/** The policy headers as nginx sent them; a header that nginx left out is the empty string. */
export interface PolicySource {
  apiKeys: string;
  openIdConnect: string;
}

const realm = 'realm="apigw"';
// far more than a sensible configuration has; a bound, because each distinct text would be kept
const compiled = new LRUCache<string, Policy>({ max: 256 });

/** Compiles a policy once and returns the same object for the same text. Anything but a clear yes is off. */
export function compilePolicy({ apiKeys, openIdConnect }: PolicySource): Policy {
  const key = `${apiKeys}\n${openIdConnect}`;
  const known = compiled.get(key);
  if (known) return known;
  const apiKeysEnabled = isOn(apiKeys);
  const openIdConnectEnabled = isOn(openIdConnect);
  const schemes = [apiKeysEnabled && `apk ${realm}`, openIdConnectEnabled && `Bearer ${realm}`];
  const policy = Object.freeze({
    apiKeysEnabled,
    openIdConnectEnabled,
    challenge: schemes.filter((scheme) => scheme !== false).join(', '),
  });
  compiled.set(key, policy);
  return policy;
}

function isOn(value: string): boolean {
  return /^(?:on|true|yes|1)$/i.test(value);
}
