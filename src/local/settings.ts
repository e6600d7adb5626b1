import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ConfigError, readConfig, type Environment } from '../config.ts';

/** Settings of `npm run up`. */
export interface LocalSettings {
  readonly httpsPort: number;
  readonly httpPort: number;
  /** Database, certificate, logs: what must survive a restart. */
  readonly stateDir: string;
  /** The operator's directory; undefined when there is none. */
  readonly configDir: string | undefined;
  /** host:port of the application; undefined for the demonstration application. */
  readonly appUpstream: string | undefined;
  /** For nginx's decision cache; undefined for a directory that is gone at the end. */
  readonly cacheDir: string | undefined;
  /** For the gateway's process. */
  readonly gatewayEnv: Environment;
  /**
   * Where the directory for sockets and nginx's working files is made: where nobody cleans up, and where nginx's workers,
   * who are another user when root starts them, may enter.
   */
  readonly runParent: string;
  /** The nginx program. */
  readonly nginx: string;
  /** For nginx/stage.sh. */
  readonly stagingEnv: Environment;
}

const port = 'a number from 1 to 65535';

/** Every setting of `npm run up` beside the gateway's; the reference in docs/settings.md is made from this table. */
export const localSettings = {
  APIGW_HTTPS_PORT: { default: '443 as root, else 8443', allowed: port, about: 'Where nginx listens for HTTPS.' },
  APIGW_HTTP_PORT: {
    default: '80 as root, else 8080',
    allowed: port,
    about: 'Where nginx listens for plain HTTP, which it redirects to HTTPS.',
  },
  APIGW_PUBLIC_HTTPS_PORT: {
    default: '`APIGW_HTTPS_PORT`',
    allowed: port,
    about: 'The port that clients see, where the redirect leads.',
  },
  APIGW_STATE_DIR: {
    default: '`.apigw` in the clone',
    allowed: 'a directory',
    about:
      'Keeps the database `apigw.db`, the certificate `tls/`, and `logs/`; while it runs also the process id `up.pid` and `run`.',
  },
  APIGW_CONFIG_DIR: {
    default: 'none',
    allowed: 'a directory',
    about: 'Your `nginx/conf.d/*.conf` and `nginx/ssl/*`; what is absent there is the shipped file.',
  },
  APIGW_APP_UPSTREAM: {
    default: 'the demonstration application',
    allowed: 'host:port, [address]:port or unix:/path',
    about: 'The application.',
  },
  APIGW_HOSTNAME: {
    default: "the machine's",
    allowed: 'a host name or an IP address',
    about: 'One more name in the self-signed certificate.',
  },
  APIGW_NGINX: { default: '`nginx`', allowed: 'a program', about: 'nginx 1.22 or later.' },
  APIGW_CACHE_DIR: {
    default: 'one of its own in memory',
    allowed: 'an absolute path on a tmpfs',
    about: "For nginx's [decision cache](nginx.md#cache-decisions) alone, if a server has one; emptied at every start.",
  },
  APIGW_STRICT: {
    default: '`false`',
    allowed: 'true or false',
    about: '`true`: what the [check of the configuration](nginx.md#the-check) warns of refuses a start or a reload.',
  },
};

/** Those of them that nginx/stage.sh and check.sh alone understand, and check. */
const forStaging = ['APIGW_HOSTNAME', 'APIGW_PUBLIC_HTTPS_PORT', 'APIGW_STRICT'];

/** The gateway's settings that may be given to `npm run up`; its addresses are decided here. */
const passedOn = [
  'API_KEY_CREATE',
  'DATABASE_URL',
  'DATABASE_URL_FILE',
  'DATABASE_PASSWORD',
  'DATABASE_PASSWORD_FILE',
  'APIGW_BOOTSTRAP_KEY_LIFETIME',
  'OIDC_ALLOW_INSECURE_HTTP',
  'OIDC_STALE_KEYS_LIFETIME',
  'APIGW_LOG_LEVEL',
  'APIGW_LOG_GRANTED_EVERY',
  'APIGW_AUDIT_RETENTION',
  'APIGW_WORKERS',
  'APIGW_FRONT_DOOR',
];

/**
 * Reads the environment of `npm run up`. Paths are relative to `root`.
 *
 * @throws {ConfigError} naming every mistake
 */
export function readLocalSettings(env: Environment, root: string, isRoot: boolean): LocalSettings {
  const problems: string[] = [];
  const stateDir = resolve(root, env['APIGW_STATE_DIR'] || '.apigw');
  for (const name of ['APIGW_STATE_DIR', 'APIGW_CONFIG_DIR', 'APIGW_NGINX']) {
    // they would break the line of a configuration or of a message
    if (/\p{Cc}/u.test(env[name] ?? '')) problems.push(`${name} has a control character in it.`);
  }
  const given = Object.fromEntries(Object.entries(env).filter(([name]) => passedOn.includes(name)));
  if (!given['DATABASE_URL'] && !given['DATABASE_URL_FILE'])
    given['DATABASE_URL'] = `sqlite:${join(stateDir, 'apigw.db')}`;
  for (const name of ['APIGW_DECISION_LISTEN', 'APIGW_MANAGEMENT_LISTEN']) {
    if (env[name] !== undefined)
      problems.push(`${name} cannot be set here: npm run up connects nginx and the gateway by itself.`);
  }
  try {
    readConfig({ ...env, ...given }, Object.keys(localSettings));
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.push(...error.problems);
  }

  const readPort = (name: string, fallback: number): number => {
    const value = env[name] || String(fallback);
    if (/^[1-9][0-9]{0,4}$/.test(value) && Number(value) <= 65535) return Number(value);
    problems.push(`${name} is ${JSON.stringify(value)}, which is not allowed; allowed: ${port}.`);
    return fallback;
  };
  const httpsPort = readPort('APIGW_HTTPS_PORT', isRoot ? 443 : 8443);
  const httpPort = readPort('APIGW_HTTP_PORT', isRoot ? 80 : 8080);
  if (httpsPort === httpPort)
    problems.push(`APIGW_HTTPS_PORT and APIGW_HTTP_PORT are both ${httpPort}; they must differ.`);
  if (!['', 'true', 'false', undefined].includes(env['APIGW_STRICT']))
    problems.push(
      `APIGW_STRICT is ${JSON.stringify(env['APIGW_STRICT'])}, which is not allowed; allowed: true or false.`,
    );

  if (problems.length > 0) throw new ConfigError(problems);
  return {
    httpsPort,
    httpPort,
    stateDir,
    configDir: env['APIGW_CONFIG_DIR'] ? resolve(root, env['APIGW_CONFIG_DIR']) : undefined,
    appUpstream: env['APIGW_APP_UPSTREAM'] || undefined,
    cacheDir: env['APIGW_CACHE_DIR'] || undefined,
    gatewayEnv: given,
    runParent: isRoot ? '/run' : isFitForSockets(stateDir) ? stateDir : tmpdir(),
    nginx: env['APIGW_NGINX'] || 'nginx',
    stagingEnv: Object.fromEntries(Object.entries(env).filter(([name]) => forStaging.includes(name))),
  };
}

/** Whether a socket in a folder of it has a path that fits: 107 bytes (unix(7)), and nginx/stage.sh takes it. */
function isFitForSockets(directory: string): boolean {
  return (
    !/[\s;{}"'$\\#*?]/.test(directory) && Buffer.byteLength(join(directory, 'apigw-XXXXXX', 'management.sock')) <= 107
  );
}
