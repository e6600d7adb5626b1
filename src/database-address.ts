/** Where PostgreSQL is and how it is spoken to. */
export interface PostgresAddress {
  /** Tried in this order. A host that begins with a slash is the folder of a Unix socket. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly user: string;
  /** Undefined where the server asks for none. */
  readonly password: string | undefined;
  readonly database: string;
  readonly tls: TlsMode;
  /** PEM files; undefined for none. */
  readonly caFile: string | undefined;
  readonly certificateFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly applicationName: string;
}

/** With the meanings that libpq gives them. */
export const tlsModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type TlsMode = (typeof tlsModes)[number];

/** The path of a SQLite file, or where PostgreSQL is. */
export type DatabaseAddress = string | PostgresAddress;

const parameters = ['sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'host', 'application_name', 'target_session_attrs'];

/**
 * Reads a connection URI as libpq has it: `postgres://user:password@host:port,host:port/database?sslmode=...`.
 *
 * @returns what is wrong with it, in words that repeat nothing of it but names, when it is none
 */
export function parsePostgresUrl(url: string): PostgresAddress | string {
  const [, authority = '', path = '', query = ''] =
    /^postgres(?:ql)?:\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(url) ?? [];
  if (!/^postgres(?:ql)?:\/\/[^#]*$/.test(url)) return 'it is no URL of this form';
  const at = authority.lastIndexOf('@');
  const [user, password] = split(authority.slice(0, Math.max(at, 0)), ':').map(decode);
  const database = decode(path);
  if (user === undefined || database === undefined) return 'a character of it must be percent-encoded';
  if (user === '') return 'it names no user';
  if (authority.includes(':') && at > 0 && authority.slice(0, at).includes(':') && password === undefined)
    return 'a character of the password must be percent-encoded';
  const given = new URLSearchParams(query);
  const unknown = [...given.keys()].find((name) => !parameters.includes(name));
  if (unknown !== undefined) return `${JSON.stringify(unknown)} is none of its parameters: ${parameters.join(', ')}`;
  if (![null, 'primary', 'read-write', 'any'].includes(given.get('target_session_attrs')))
    return 'target_session_attrs can only be read-write or primary, which is meant anyway';
  const hosts = parseHosts(given.get('host') ?? authority.slice(at + 1));
  if (!hosts) return 'it names no host, or a port that is none';
  const tls = tlsModes.find((mode) => mode === (given.get('sslmode') ?? 'prefer'));
  if (!tls) return `sslmode must be one of ${tlsModes.join(', ')}`;
  const certificateFile = given.get('sslcert') ?? undefined;
  const keyFile = given.get('sslkey') ?? undefined;
  if ((certificateFile === undefined) !== (keyFile === undefined)) return 'sslcert and sslkey go together';
  return {
    hosts,
    user,
    password: password || undefined,
    database: database || user,
    tls,
    caFile: given.get('sslrootcert') ?? undefined,
    certificateFile,
    keyFile,
    applicationName: given.get('application_name') ?? 'apigw',
  };
}

/** What may be shown of it: no password. */
export function nameOfDatabase(address: DatabaseAddress): string {
  if (typeof address === 'string') return address;
  const { user, hosts, database } = address;
  const where = hosts.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`).join(',');
  return `postgres://${user}@${where}/${database}`;
}

function parseHosts(text: string): PostgresAddress['hosts'] | undefined {
  const hosts = text.split(',').map((one) => {
    const [, bracketed, plain, digits = '5432'] =
      /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+))(?::([0-9]{1,5}))?$/.exec(one) ?? [];
    const host = bracketed ?? decode(plain ?? '');
    const port = Number(digits);
    return host && port >= 1 && port <= 65535 ? { host, port } : undefined;
  });
  return hosts.every((one) => one !== undefined) ? hosts : undefined;
}

function split(text: string, separator: string): string[] {
  const index = text.indexOf(separator);
  return index < 0 ? [text] : [text.slice(0, index), text.slice(index + 1)];
}

function decode(text: string): string | undefined {
  try {
    const decoded = decodeURIComponent(text);
    return decoded.includes('\0') ? undefined : decoded;
  } catch {
    return undefined;
  }
}
