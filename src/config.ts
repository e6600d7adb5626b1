import { readFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { parsePostgresUrl, type DatabaseAddress } from './database-address.ts';
import { nearestName } from './nearest-name.ts';
import { readTraceConfig, type TraceConfig } from './trace-settings.ts';

/** Where a listener listens: a Unix socket (absolute path), or a TCP address. */
export type ListenAddress = { readonly kind: 'unix'; readonly path: string } | ({ readonly kind: 'tcp' } & Address);

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** How the gateway runs. What it accepts is nginx configuration and arrives with every request. */
export interface Config {
  /** Absolute path of the SQLite database file, or where PostgreSQL is. */
  readonly database: DatabaseAddress;
  /** Answers nginx's `auth_request` and nothing else. */
  readonly decisionListen: ListenAddress;
  /** Management API and health. */
  readonly managementListen: ListenAddress;
  /** Create and print an administrator's API key at this start. */
  readonly createApiKey: boolean;
  /** Lifetime of such a key, in milliseconds. */
  readonly bootstrapKeyLifetime: number;
  readonly logLevel: LogLevel;
  /** Every so many grants one is logged; 0 for none. */
  readonly logGrantedEvery: number;
  /** Processes that answer; 1 is this one alone. */
  readonly workers: number;
  /** Access tokens may be verified with keys that came over plain HTTP. */
  readonly allowInsecureHttp: boolean;
  /** Milliseconds for which an issuer's keys are used while it cannot be asked. */
  readonly staleKeysLifetime: number;
  /** Milliseconds for which audit events are kept; null for ever. */
  readonly auditRetention: number | null;
  /** Undefined when no traces are wanted. */
  readonly traces: TraceConfig | undefined;
  /** Where clients reach the proxy over TLS, for the end of its certificate; null when that is not looked at. */
  readonly frontDoor: Address | null;
}

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Every mistake in the environment at once, one sentence each. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

interface Setting<T> {
  readonly default: string;
  /** What is allowed, as it stands in an error message. */
  readonly allowed: string;
  /** What it is for, as it stands in docs/settings.md. */
  readonly about: string;
  /** May hold a secret: can come as `NAME_FILE`, and its value is never repeated in a message. */
  readonly secret?: true;
  /** Returns undefined for a value that is not allowed. */
  readonly parse: (value: string) => T | undefined;
  /** Says more of such a value, without repeating it. */
  readonly explain?: (value: string) => string | undefined;
}

const setting = <T>(definition: Setting<T>): Setting<T> => definition;

/** Every setting of the gateway; the reference in docs/settings.md is made from this table. */
export const settings = {
  API_KEY_CREATE: setting({
    default: 'false',
    allowed: '"true" or "false"',
    about: "Makes an administrator's key at this start and prints it. Empty is false.",
    parse: parseFlag,
  }),
  DATABASE_URL: setting({
    default: 'sqlite:/var/lib/apigw/apigw.db',
    allowed:
      'sqlite: and the absolute path of a file, such as sqlite:/var/lib/apigw/apigw.db, or postgres://user@host:5432/database',
    about:
      'The database. A SQLite file is made when it is not there, readable by its user alone. [PostgreSQL](scaling.md) serves several gateways.',
    secret: true,
    parse: parseDatabaseUrl,
    explain: (value) => {
      const postgres = isPostgres(value) && parsePostgresUrl(value);
      return typeof postgres === 'string' ? postgres : undefined;
    },
  }),
  DATABASE_PASSWORD: setting({
    default: '',
    allowed: 'any text',
    about: 'The password for PostgreSQL, where `DATABASE_URL` has none.',
    secret: true,
    parse: (value) => value,
  }),
  APIGW_DECISION_LISTEN: setting({
    default: 'unix:/run/apigw/decision.sock',
    allowed: 'unix:/absolute/path or host:port',
    about: "Answers nginx's `auth_request` and nothing else; only nginx may reach it.",
    parse: parseListenAddress,
  }),
  APIGW_MANAGEMENT_LISTEN: setting({
    default: 'unix:/run/apigw/management.sock',
    allowed: 'unix:/absolute/path or host:port',
    about: 'Management API, health and metrics.',
    parse: parseListenAddress,
  }),
  APIGW_BOOTSTRAP_KEY_LIFETIME: setting({
    default: '24h',
    allowed: 'a whole number followed by s, m, h or d, from 1m to 365d',
    about: 'How long the key of `API_KEY_CREATE` and of `apigw bootstrap` is good for.',
    parse: parseLifetime,
  }),
  OIDC_ALLOW_INSECURE_HTTP: setting({
    default: 'false',
    allowed: '"true" or "false"',
    about: 'Lets issuers be reached without TLS: for tests.',
    parse: parseFlag,
  }),
  OIDC_STALE_KEYS_LIFETIME: setting({
    default: '1h',
    allowed: 'a whole number followed by s, m, h or d, from 1m to 365d',
    about: "How long an issuer's keys are used while it is away.",
    parse: parseLifetime,
  }),
  APIGW_LOG_LEVEL: setting({
    default: 'info',
    allowed: logLevels.join(', '),
    about: 'What is less than this is not logged.',
    parse: (value) => logLevels.find((level) => level === value),
  }),
  APIGW_LOG_GRANTED_EVERY: setting({
    default: '1000',
    allowed: 'a whole number from 0 to 1000000000',
    about:
      "Every so many grants one is in the log, as `granted` with client and request id; 0 for none. Each worker counts its own. nginx's access log has every request.",
    parse: (value) => (/^(?:0|[1-9][0-9]{0,9})$/.test(value) && Number(value) <= 1e9 ? Number(value) : undefined),
  }),
  APIGW_FRONT_DOOR: setting({
    default: '',
    allowed: 'host:port, or nothing',
    about:
      "Where clients reach the proxy over TLS. The gateway opens a connection there to see when the certificate ends: [metrics](metrics.md). The host is sent as the server's name. The shipped forms set it: 127.0.0.1 and the HTTPS port, proxy:443 with Docker, localhost:443 with systemd.",
    parse: parseFrontDoor,
  }),
  APIGW_AUDIT_RETENTION: setting({
    default: '',
    allowed: 'a whole number of days followed by d, from 1d to 3650d, or nothing',
    about:
      'How long events of the audit trail are kept: older ones are removed, within the hour. Without it they are kept for ever.',
    parse: parseRetention,
  }),
  APIGW_WORKERS: setting({
    default: '1',
    allowed: 'a whole number from 1 to 64',
    about: 'Processes that answer, at most one for each core that nginx and the application leave free.',
    parse: (value) => (/^[1-9][0-9]?$/.test(value) && Number(value) <= 64 ? Number(value) : undefined),
  }),
};

/**
 * Reads the environment into a frozen Config. `alsoKnown` names further settings with our prefix that belong to
 * somebody else who shares this environment.
 *
 * @throws {ConfigError} naming every setting that is unknown, unreadable or has a value that is not allowed
 */
export function readConfig(env: Environment, alsoKnown: readonly string[] = []): Config {
  const problems = unknownSettings(env, alsoKnown);

  const read = <T>(
    name: keyof typeof settings,
    { default: fallback, allowed, secret, parse, explain }: Setting<T>,
  ): T => {
    let source: string = name;
    let value = env[name];
    if (secret && env[`${name}_FILE`] !== undefined) {
      source = `${name}_FILE`;
      if (value !== undefined) problems.push(`${name} and ${source} are both set; keep one of them.`);
      value = readSecretFile(source, env[source] ?? '', problems);
    }
    const parsed = parse(value ?? fallback);
    if (parsed !== undefined) return parsed;
    const why = explain?.(value ?? '');
    problems.push(
      `${source} ${secret ? 'has a value that' : `is ${JSON.stringify(value)}, which`} is not allowed${why === undefined ? '' : `: ${why}`}; allowed: ${allowed}.`,
    );
    return parse(fallback) as T;
  };

  const config: Config = {
    database: withPassword(
      read('DATABASE_URL', settings.DATABASE_URL),
      read('DATABASE_PASSWORD', settings.DATABASE_PASSWORD),
      problems,
    ),
    decisionListen: read('APIGW_DECISION_LISTEN', settings.APIGW_DECISION_LISTEN),
    managementListen: read('APIGW_MANAGEMENT_LISTEN', settings.APIGW_MANAGEMENT_LISTEN),
    createApiKey: read('API_KEY_CREATE', settings.API_KEY_CREATE),
    bootstrapKeyLifetime: read('APIGW_BOOTSTRAP_KEY_LIFETIME', settings.APIGW_BOOTSTRAP_KEY_LIFETIME),
    logLevel: read('APIGW_LOG_LEVEL', settings.APIGW_LOG_LEVEL),
    logGrantedEvery: read('APIGW_LOG_GRANTED_EVERY', settings.APIGW_LOG_GRANTED_EVERY),
    workers: read('APIGW_WORKERS', settings.APIGW_WORKERS),
    allowInsecureHttp: read('OIDC_ALLOW_INSECURE_HTTP', settings.OIDC_ALLOW_INSECURE_HTTP),
    staleKeysLifetime: read('OIDC_STALE_KEYS_LIFETIME', settings.OIDC_STALE_KEYS_LIFETIME),
    auditRetention: read('APIGW_AUDIT_RETENTION', settings.APIGW_AUDIT_RETENTION),
    traces: readTraceConfig(env, problems),
    frontDoor: read('APIGW_FRONT_DOOR', settings.APIGW_FRONT_DOOR),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

/**
 * A misspelt setting is an error, never silently ignored. Names that others use as well, such as OIDC_CLIENT_ID, count
 * as misspelt only when they nearly are one of ours.
 */
function unknownSettings(env: Environment, alsoKnown: readonly string[]): string[] {
  const known = [...Object.keys(settings), 'DATABASE_URL_FILE', 'DATABASE_PASSWORD_FILE', ...alsoKnown];
  return Object.keys(env)
    .filter((name) => /^(?:APIGW|API_KEY|OIDC|DATABASE)_/.test(name) && !known.includes(name))
    .map((name) => ({ written: name, ...nearestName(name, known) }))
    .filter(({ written, distance }) => written.startsWith('APIGW_') || distance <= 3)
    .map(({ written, name }) => `${written} is not a setting; did you mean ${name}?`);
}

function isPostgres(url: string): boolean {
  return /^postgres(?:ql)?:/.test(url);
}

export function parseDatabaseUrl(url: string): DatabaseAddress | undefined {
  if (!isPostgres(url)) return /^sqlite:(?:\/\/)?(\/.*[^/])$/.exec(url)?.[1];
  const address = parsePostgresUrl(url);
  return typeof address === 'string' ? undefined : address;
}

function withPassword(address: DatabaseAddress, password: string, problems: string[]): DatabaseAddress {
  if (password === '') return address;
  if (typeof address !== 'string' && address.password === undefined) return { ...address, password };
  const why = typeof address === 'string' ? 'names no PostgreSQL' : 'has a password of its own';
  problems.push(`DATABASE_PASSWORD is set, but DATABASE_URL ${why}; keep one of them.`);
  return address;
}

function readSecretFile(name: string, path: string, problems: string[]): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    problems.push(`${name}: ${(error as Error).message}.`);
    return undefined;
  }
}

function parseFlag(value: string): boolean | undefined {
  // empty is what is left of an unset variable in a compose file
  if (!/^(?:true|false)?$/i.test(value)) return undefined;
  return value.toLowerCase() === 'true';
}

function parseListenAddress(value: string): ListenAddress | undefined {
  const path = /^unix:(\/.+)$/.exec(value)?.[1];
  // sun_path holds 108 bytes with its final NUL: unix(7)
  if (path !== undefined) return Buffer.byteLength(path) < 108 ? { kind: 'unix', path } : undefined;
  const address = parseAddress(value);
  return address && { kind: 'tcp', ...address };
}

function parseFrontDoor(value: string): Address | null | undefined {
  if (value === '') return null;
  const address = parseAddress(value);
  return address?.port === 0 ? undefined : address;
}

function parseAddress(value: string): Address | undefined {
  const [, bracketed, name, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^[\]:\s/]+)):([0-9]{1,5})$/.exec(value) ?? [];
  const host = bracketed ?? name;
  if (host === undefined || digits === undefined || Number(digits) > 65535) return undefined;
  if (bracketed !== undefined && !isIPv6(bracketed)) return undefined;
  return { host, port: Number(digits) };
}

const minute = 60_000;
const day = 24 * 60 * minute;

function parseLifetime(value: string): number | undefined {
  const [, digits, unit] = /^([1-9][0-9]{0,8})([smhd])$/.exec(value) ?? [];
  const milliseconds = Number(digits) * { s: 1000, m: minute, h: 60 * minute, d: day }[unit as 's' | 'm' | 'h' | 'd'];
  return milliseconds >= minute && milliseconds <= 365 * day ? milliseconds : undefined;
}

function parseRetention(value: string): number | null | undefined {
  if (value === '') return null;
  const days = Number(/^([1-9][0-9]{0,3})d$/.exec(value)?.[1]);
  return days <= 3650 ? days * day : undefined;
}
