import { hash } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Skip, type Bench } from '../bench.ts';
import { always, apiKeyOf } from '../load/credentials.ts';
import { audience, issuer } from '../parts/issuer.ts';
import { frontWorkers } from '../parts/conventional-front.ts';
import { alwaysGranted, application } from '../parts/upstreams.ts';
import { accepts, freePort, pathOnly, requireProgram, startServer, type ServerOptions } from '../process.ts';
import { closed, type CredentialSource, type SetUp, type Target } from './set-up.ts';

/** Clients in the key map. */
const mappedClients = 10;
const issuerName = 'peers';

const token = async (bench: Bench): Promise<CredentialSource> =>
  always(bench, 'peers.jwt', `Bearer ${await (await issuer(bench)).token(issuerName, 'RS256')}`);

interface PeerOptions {
  readonly name: string;
  readonly credentials: CredentialSource;
  /** Writes its configuration into the folder and says how it is started. */
  readonly layOut: (place: Place) => Pick<ServerOptions, 'command' | 'env'>;
  readonly refusesStrangers?: boolean;
  /** Processes that answer its questions. */
  readonly gateway?: readonly number[];
}

/** What a peer's configuration is written for. */
interface Place {
  readonly folder: string;
  readonly port: number;
  readonly log: string;
  /** The socket of the application. */
  readonly appSocket: string;
}

async function startPeer(bench: Bench, options: PeerOptions): Promise<Target> {
  const { name, credentials, layOut, refusesStrangers = true, gateway = [] } = options;
  const app = await application(bench);
  const folder = bench.folder(name);
  const port = await freePort();
  const log = join(folder, 'access.log');
  const started = layOut({ folder, port, log, appSocket: app.socket });
  const { pid } = await startServer(bench, { name, isReady: () => accepts(port), ...started });
  return {
    url: `http://127.0.0.1:${port}/`,
    credentials,
    processes: { front: [pid], gateway, application: [app.pid] },
    logs: existsSync(log) ? [log] : [],
    refusesStrangers,
  };
}

/** It writes its log to standard output, as in a container: it has no files of its own. */
function haproxyCommand({ folder, log }: Place): Pick<ServerOptions, 'command'> {
  return { command: ['sh', '-c', 'exec haproxy -W -f "$0" >>"$1"', join(folder, 'haproxy.cfg'), log] };
}

function writeHaproxy({ folder, port, log, appSocket }: Place, rules: string): void {
  writeFileSync(log, '');
  writeFileSync(
    join(folder, 'haproxy.cfg'),
    `global
  nbthread ${frontWorkers}
  maxconn 4096
  log stdout format raw local0 info

defaults
  mode http
  log global
  option httplog
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s

frontend bench
  bind 127.0.0.1:${port}
${rules}
  http-request set-header X-Client-Id %[var(txn.client)]
  http-request del-header Authorization
  http-request set-header X-Forwarded-Proto http
  option forwardfor
  default_backend application

backend application
  server application unix@${appSocket}
`,
  );
}

async function haproxyKey(bench: Bench): Promise<Target> {
  requireProgram(bench, 'haproxy');
  return startPeer(bench, {
    name: 'haproxy-key',
    credentials: always(bench, 'key', apiKeyOf(1)),
    layOut: (place) => {
      const keys = Array.from({ length: mappedClients }, (_, index) => index + 1);
      const map = keys.map((id) => `${hash('sha256', apiKeyOf(id)).toUpperCase()} bench-${id}\n`).join('');
      writeFileSync(join(place.folder, 'keys.map'), map);
      writeHaproxy(
        place,
        `  http-request set-var(txn.client) req.hdr(authorization),sha2(256),hex,map(${join(place.folder, 'keys.map')})
  http-request deny deny_status 401 unless { var(txn.client) -m found }`,
      );
      return haproxyCommand(place);
    },
  });
}

async function haproxyJwt(bench: Bench): Promise<Target> {
  requireProgram(bench, 'haproxy');
  const { rsaPublicPem, url } = await issuer(bench);
  return startPeer(bench, {
    name: 'haproxy-jwt',
    credentials: await token(bench),
    layOut: (place) => {
      const pem = join(place.folder, 'issuer.pem');
      writeFileSync(pem, rsaPublicPem);
      writeHaproxy(
        place,
        `  http-request set-var(txn.token) http_auth_bearer
  http-request set-var(txn.exp) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request set-var(txn.client) var(txn.token),jwt_payload_query('$.sub')
  http-request deny deny_status 401 unless { var(txn.token),jwt_header_query('$.alg') -m str RS256 }
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.iss') -m str ${url(issuerName)} }
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.aud') -m str ${audience} }
  http-request deny deny_status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }
  http-request deny deny_status 401 unless { var(txn.token),jwt_verify("RS256","${pem}") 1 }`,
      );
      return haproxyCommand(place);
    },
  });
}

const modules = '/usr/lib/apache2/modules';

async function apacheJwt(bench: Bench): Promise<Target> {
  requireProgram(bench, 'apache2');
  if (!existsSync(join(modules, 'mod_auth_openidc.so'))) throw new Skip('libapache2-mod-auth-openidc is not installed');
  const { rsaPublicPem } = await issuer(bench);
  return startPeer(bench, {
    name: 'apache-openidc',
    credentials: await token(bench),
    layOut: (place) => {
      writeFileSync(join(place.folder, 'issuer.pem'), rsaPublicPem);
      writeFileSync(place.log, '');
      writeFileSync(join(place.folder, 'apache2.conf'), writeApache(place));
      return { command: ['apache2', '-D', 'FOREGROUND', '-f', join(place.folder, 'apache2.conf')] };
    },
  });
}

function writeApache({ folder, port, log, appSocket }: Place): string {
  const loaded = [
    'mpm_event',
    'authn_core',
    'authz_core',
    'authz_user',
    'auth_openidc',
    'headers',
    'proxy',
    'proxy_http',
  ];
  return `ServerRoot ${folder}
DefaultRuntimeDir ${folder}
PidFile ${folder}/apache2.pid
Mutex file:${folder}
ServerName localhost
Listen 127.0.0.1:${port}
ErrorLog ${folder}/error.log
User www-data
Group www-data
${loaded.map((module) => `LoadModule ${module}_module ${modules}/mod_${module}.so`).join('\n')}
MaxKeepAliveRequests 0
KeepAliveTimeout 65
LogFormat "%h %l %u %t \\"%r\\" %>s %O" common
CustomLog ${log} common
OIDCOAuthVerifyCertFiles RS256#${folder}/issuer.pem
OIDCOAuthRemoteUserClaim sub
OIDCOAuthAcceptTokenAs header
ProxyPass / unix:${appSocket}|http://localhost/ enablereuse=on
<Location />
  AuthType oauth20
  Require claim aud:${audience}
  RequestHeader set X-Client-Id expr=%{REMOTE_USER}
  RequestHeader unset Authorization
</Location>
`;
}

async function caddyForwardAuth(bench: Bench): Promise<Target> {
  requireProgram(bench, 'caddy');
  const granted = await alwaysGranted(bench);
  return startPeer(bench, {
    name: 'caddy-forward-auth',
    credentials: always(bench, 'key', apiKeyOf(1)),
    gateway: [granted.pid],
    refusesStrangers: false,
    layOut: (place) => {
      const { folder, port, log, appSocket } = place;
      writeFileSync(log, '');
      writeFileSync(
        join(folder, 'Caddyfile'),
        `{
	admin off
	auto_https off
	storage file_system ${folder}
}
http://127.0.0.1:${port} {
	log {
		output file ${log} {
			roll_disabled
		}
	}
	forward_auth unix/${granted.socket} {
		uri /decision
		copy_headers X-Client-Id X-Client-Name X-Auth-Method
	}
	reverse_proxy unix/${appSocket}
}
`,
      );
      return {
        command: ['caddy', 'run', '--adapter', 'caddyfile', '--config', join(folder, 'Caddyfile')],
        // where it keeps what it was started with
        env: { ...pathOnly(bench), HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder },
      };
    },
  });
}

const base = { kind: 'peer', comparedWith: ['L1'], load: closed, isQuick: false } as const;

export const peers: readonly SetUp[] = [
  { ...base, name: 'haproxy-key', about: 'HAProxy, a map of SHA-256 digests of API keys', prepare: haproxyKey },
  { ...base, name: 'haproxy-jwt', about: 'HAProxy, RS256 by `jwt_verify`', prepare: haproxyJwt },
  { ...base, name: 'apache-openidc', about: 'Apache, RS256 by mod_auth_openidc', prepare: apacheJwt },
  {
    ...base,
    name: 'caddy-forward-auth',
    about: 'Caddy, `forward_auth` to the `return 204` of L1',
    prepare: caddyForwardAuth,
  },
];
