import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { parseSeconds } from '../duration.ts';
import { parseClaimPath, type ClaimPath, type RequiredClaim } from './claims.ts';
import { encodeHeaderValue, fitsHeader, type HeaderValue } from './header-value.ts';

/**
 * The policy headers as nginx sent them, by the name of the setting in default.conf; a header that nginx left out is
 * the empty string.
 */
export type PolicySource = Record<PolicySetting, string> & {
  /** The first header that looks like a policy's and is none, or empty. */
  unknown: string;
};
export type PolicySetting = (typeof policySettings)[number];
export const policySettings = [
  'api_keys_enabled',
  'open_id_connect_enabled',
  'require_admin',
  'required_scopes',
  'allowed_clients',
  'oidc_discovery',
  'oidc_issuer',
  'oidc_audience',
  'oidc_client_id_claim',
  'oidc_client_id_prefix',
  'oidc_client_name_claim',
  'oidc_algorithms',
  'oidc_required_claims',
  'oidc_required_scopes',
  'oidc_clock_tolerance',
  'oidc_max_lifetime',
  'oidc_ssl_verify',
  'oidc_ca_file',
] as const;

/** Stands for two values of which neither can be preferred, and for a setting that does not exist. */
export const contradiction = ',';

/**
 * The value of a setting that comes twice: from a server, and from one of its locations, which may ask for more and
 * never for less. A mistake in one of them is not mended by the other, so that it is told and lets nobody in.
 */
export function narrow(setting: PolicySetting, first: string, second: string): string {
  if (first === second) return first;
  switch (setting) {
    case 'api_keys_enabled':
    case 'open_id_connect_enabled':
      return isOn(first) && isOn(second) ? 'on' : 'off';
    case 'require_admin':
      return isOff(first) && isOff(second) ? 'off' : 'on';
    case 'oidc_ssl_verify':
      return isUnverified(first) && isUnverified(second) ? 'no' : 'yes';
    case 'required_scopes':
    case 'oidc_required_claims':
    case 'oidc_required_scopes':
      return `${first} ${second}`.trim();
    case 'oidc_max_lifetime':
    case 'oidc_clock_tolerance': {
      const [one, other] = [readSpan(setting, first), readSpan(setting, second)];
      if (one === undefined || other === undefined) return one === undefined ? first : second;
      return String(Math.min(one, other));
    }
    case 'allowed_clients':
      return intersect(first, second, (text) => text === contradiction || readClients(text) !== undefined);
    case 'oidc_algorithms':
      return intersect(first, second, (text) => words(text).every(isAlgorithm));
    default:
      return first === '' || second === '' ? first + second : contradiction;
  }
}

/** The words that both lists have; an empty one has all. */
function intersect(first: string, second: string, isGood: (text: string) => boolean): string {
  if (first === '' || second === '') return first + second;
  if (!isGood(first) || !isGood(second)) return isGood(first) ? second : first;
  const common = words(first).filter((word) => words(second).includes(word));
  return common.length === 0 ? contradiction : common.join(' ');
}

const spans = {
  oidc_max_lifetime: { default: '24h', max: 366 * 86_400 },
  oidc_clock_tolerance: { default: '30s', max: 300 },
};

/** In seconds; undefined for a text that is none, or for too many. */
function readSpan(setting: keyof typeof spans, text: string): number | undefined {
  const seconds = parseSeconds(text || spans[setting].default);
  return seconds !== undefined && seconds <= spans[setting].max ? seconds : undefined;
}

/** What nginx says when it says nothing: everything is off. */
export const nothingSet: Readonly<PolicySource> = Object.freeze(
  Object.fromEntries([...policySettings, 'unknown'].map((name) => [name, ''])) as PolicySource,
);

/** What a server or location of nginx accepts. It is handed over with every request, as headers that nginx sets. */
export interface Policy {
  readonly apiKeysEnabled: boolean;
  readonly openIdConnectEnabled: boolean;
  /** Undefined when access tokens are off, or when `problems` says why they cannot be verified. */
  readonly tokens: TokenPolicy | undefined;
  readonly problems: readonly string[];
  readonly requireAdmin: boolean;
  /** Scopes that the API client must have. */
  readonly requiredScopes: readonly string[];
  /** `X-Client-Id` of those that get in; undefined for every API client. */
  readonly allowedClients: ReadonlySet<string> | undefined;
  /** The one `WWW-Authenticate` line (RFC 9110 11.6.1) that names every accepted scheme; empty when there is none. */
  readonly challenge: string;
}

/** How an issuer is found and spoken to. */
export interface IssuerPolicy {
  /** Same text for the same issuer. */
  readonly key: string;
  /** URL of the discovery document (OpenID Connect Discovery 1.0, section 4). */
  readonly discovery: string;
  /** What the issuer should be called: `issuer` if that is set, else as the discovery URL says. */
  readonly name: string;
  /** The `iss` that tokens have, when it differs from what discovery says. */
  readonly issuer: string | undefined;
  readonly verifyCertificate: boolean;
  readonly caFile: string | undefined;
  readonly allowInsecureHttp: boolean;
}

/** What an access token must be. */
export interface TokenPolicy {
  /** Digest of everything that decides on a token. */
  readonly id: string;
  readonly issuer: IssuerPolicy;
  /** One of these must be in `aud`; undefined waives the check. */
  readonly audiences: readonly string[] | undefined;
  readonly clientIdClaim: ClaimPath;
  /** Put before that claim, so that an issuer names no clients but its own. */
  readonly clientIdPrefix: string;
  readonly clientNameClaim: ClaimPath;
  readonly algorithms: readonly string[];
  readonly requiredClaims: readonly RequiredClaim[];
  readonly requiredScopes: readonly string[];
  /** Seconds. */
  readonly clockTolerance: number;
  /** Seconds from `iat`, or from now, to `exp`. */
  readonly maxLifetime: number;
}

export interface PolicyCompilerOptions {
  /** Issuers may be reached over plain HTTP. */
  readonly allowInsecureHttp: boolean;
  /** Called once for each distinct policy that has something to say about. */
  readonly onCompiled?: (policy: Policy) => void;
}

export type CompilePolicy = (source: Readonly<PolicySource>) => Policy;

const realm = 'realm="apigw"';

/** Compiles each distinct text once and returns the same object for it. Anything but a clear yes is off. */
export function createPolicyCompiler({ allowInsecureHttp, onCompiled }: PolicyCompilerOptions): CompilePolicy {
  // far more than a sensible configuration has; a bound, because each distinct text would be kept
  const compiled = new LRUCache<string, Policy>({ max: 256 });
  return (source) => {
    let key = `${source.unknown}\n`;
    for (const setting of policySettings) key += `${source[setting]}\n`;
    const known = compiled.get(key);
    if (known) return known;
    const policy = compile(decode(source), key, allowInsecureHttp);
    compiled.set(key, policy);
    onCompiled?.(policy);
    return policy;
  };
}

/** default.conf is UTF-8; Node gives the bytes of a header as Latin-1. */
function decode(source: Readonly<PolicySource>): PolicySource {
  const entries = policySettings.map((setting) => [setting, Buffer.from(source[setting], 'latin1').toString()]);
  return { ...(Object.fromEntries(entries) as PolicySource), unknown: source.unknown };
}

function compile(source: Readonly<PolicySource>, key: string, allowInsecureHttp: boolean): Policy {
  const problems: string[] = [];
  // whatever it was meant to ask for is not known, so nobody gets in
  const isKnown = source.unknown === '';
  if (!isKnown) problems.push(`${source.unknown} is not a setting; snippets/policy.conf has the names of all.`);
  const apiKeysEnabled = isKnown && isOn(source.api_keys_enabled);
  const openIdConnectEnabled = isKnown && isOn(source.open_id_connect_enabled);
  const allowedClients = compileAllowedClients(source.allowed_clients, problems);
  const tokens = openIdConnectEnabled ? compileTokens(source, key, allowInsecureHttp, problems) : undefined;
  const schemes = [apiKeysEnabled && `apk ${realm}`, openIdConnectEnabled && `Bearer ${realm}`];
  return Object.freeze({
    apiKeysEnabled,
    openIdConnectEnabled,
    tokens: problems.length === 0 ? tokens : undefined,
    problems,
    requireAdmin: !isOff(source.require_admin),
    requiredScopes: words(source.required_scopes),
    allowedClients,
    challenge: schemes.filter((scheme) => scheme !== false).join(', '),
  });
}

/** Nobody, when the list cannot be read or a server's and a location's have nobody in common. */
function compileAllowedClients(text: string, problems: string[]): ReadonlySet<string> | undefined {
  if (text === '') return undefined;
  if (text === contradiction) return new Set();
  const clients = readClients(text);
  if (clients) return new Set(clients);
  problems.push(
    `$allowed_clients is ${quote(text)}; allowed: each api_client_id as X-Client-Id shows it, with %20 for a space in it.`,
  );
  return new Set();
}

/** Undefined when one of them is not percent-encoded, or too long to be an `api_client_id`. */
function readClients(text: string): HeaderValue[] | undefined {
  try {
    const names = words(text).map((word) => decodeURIComponent(word));
    return names.every(fitsHeader) ? names.map(encodeHeaderValue) : undefined;
  } catch {
    return undefined;
  }
}

/** A switch that lets in is on only when it clearly is. */
function isOn(value: string): boolean {
  return /^(?:on|true|yes|1)$/i.test(value);
}

/** A switch that keeps out is off only when it clearly is. */
function isOff(value: string): boolean {
  return /^(?:|off|false|no|0)$/i.test(value);
}

function isUnverified(value: string): boolean {
  return value !== '' && isOff(value);
}

const asymmetric = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];

function isAlgorithm(name: string): boolean {
  return asymmetric.includes(name);
}

function compileTokens(
  source: Readonly<PolicySource>,
  key: string,
  allowInsecureHttp: boolean,
  problems: string[],
): TokenPolicy {
  for (const setting of policySettings) {
    if (source[setting] === contradiction)
      problems.push(`$${setting} has two values, of the server and of a location; leave policy.conf out of one.`);
  }
  const issuer = compileIssuer(source, allowInsecureHttp, problems);
  const audiences = words(source.oidc_audience);
  if (audiences.length === 0) {
    problems.push(
      '$oidc_audience is empty; set it to the audience of your API ("any" accepts tokens that are meant for others too).',
    );
  }
  const algorithms = words(source.oidc_algorithms);
  for (const algorithm of algorithms.filter((name) => !isAlgorithm(name))) {
    problems.push(`$oidc_algorithms has ${quote(algorithm)}; allowed: ${asymmetric.join(' ')}.`);
  }
  const claim = (setting: 'oidc_client_id_claim' | 'oidc_client_name_claim'): ClaimPath => {
    const path = parseClaimPath(source[setting] || 'sub');
    if (!path)
      problems.push(
        `$${setting} is ${quote(source[setting])}; allowed: a claim's name, a dotted path or a JSON array of names.`,
      );
    return path ?? ['sub'];
  };
  return Object.freeze({
    id: hash('sha256', key, 'base64url'),
    issuer,
    audiences: audiences.length === 1 && audiences[0] === 'any' ? undefined : audiences,
    clientIdClaim: claim('oidc_client_id_claim'),
    clientIdPrefix: source.oidc_client_id_prefix,
    clientNameClaim: claim('oidc_client_name_claim'),
    algorithms: algorithms.length === 0 ? asymmetric : algorithms,
    requiredClaims: words(source.oidc_required_claims).flatMap((rule) => compileRequiredClaim(rule, problems)),
    requiredScopes: words(source.oidc_required_scopes),
    clockTolerance: compileSpan('oidc_clock_tolerance', source, problems),
    maxLifetime: compileSpan('oidc_max_lifetime', source, problems),
  });
}

function compileIssuer(source: Readonly<PolicySource>, allowInsecureHttp: boolean, problems: string[]): IssuerPolicy {
  const discovery = compileDiscovery(source.oidc_discovery, allowInsecureHttp, problems);
  const issuer = source.oidc_issuer || undefined;
  // certificates go unverified only by a clear no
  const verifyCertificate = !isUnverified(source.oidc_ssl_verify);
  const caFile = source.oidc_ca_file || undefined;
  if (caFile !== undefined && !caFile.startsWith('/')) {
    problems.push(`$oidc_ca_file is ${quote(caFile)}; allowed: the absolute path of a PEM file on the gateway's side.`);
  }
  const key = [discovery, issuer, verifyCertificate, caFile, allowInsecureHttp].join('\n');
  const name = issuer ?? discovery.replace(/\/\.well-known\/[^/]+$/, '');
  return { key, discovery, name, issuer, verifyCertificate, caFile, allowInsecureHttp };
}

const wellKnown = '/.well-known/openid-configuration';

function compileDiscovery(text: string, allowInsecureHttp: boolean, problems: string[]): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '' || url.hash !== '') {
    problems.push(`$oidc_discovery is ${quote(text)}; allowed: the https URL of the issuer, or of its ${wellKnown}.`);
    return text;
  }
  if (url.protocol === 'http:' && !allowInsecureHttp) {
    problems.push(
      `$oidc_discovery is ${quote(text)}, without TLS anybody on the way can be the issuer; use https, or for tests set OIDC_ALLOW_INSECURE_HTTP=true in the gateway's environment.`,
    );
  }
  return text.includes('/.well-known/') ? text : text.replace(/\/$/, '') + wellKnown;
}

function compileRequiredClaim(rule: string, problems: string[]): RequiredClaim[] {
  const equals = rule.indexOf('=');
  const path = parseClaimPath(rule.slice(0, Math.max(equals, 0)));
  const value = rule.slice(equals + 1);
  if (path && value !== '') return [{ path, value }];
  problems.push(`$oidc_required_claims has ${quote(rule)}; allowed: claim=value, several with spaces between them.`);
  return [];
}

function compileSpan(setting: keyof typeof spans, source: Readonly<PolicySource>, problems: string[]): number {
  const seconds = readSpan(setting, source[setting]);
  if (seconds !== undefined) return seconds;
  const { max } = spans[setting];
  problems.push(
    `$${setting} is ${quote(source[setting])}; allowed: a number of seconds, or one with s, m, h or d, up to ${max} seconds.`,
  );
  return 0;
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}
