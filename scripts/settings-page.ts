// docs/settings.md, made from the tables that the program itself reads.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { policySettings } from '../src/auth/policy.ts';
import { cliSettings } from '../src/cli/connection.ts';
import { settings } from '../src/config.ts';
import { localSettings } from '../src/local/settings.ts';
import { traceSettings } from '../src/trace-settings.ts';

interface ProxySetting {
  readonly docker: string;
  readonly systemd: string;
  readonly about: string;
}

/** What nginx/stage.sh reads; a test compares the names with it, and the defaults with the image and the unit. */
export const proxySettings: Readonly<Record<string, ProxySetting>> = {
  APIGW_APP_UPSTREAM: {
    docker: '`app:8000`',
    systemd: '`app:8000`',
    about: 'The application: host:port, [address]:port or unix:/path.',
  },
  APIGW_HTTPS_PORT: {
    docker: '`443`',
    systemd: '`443`',
    about:
      'Where nginx listens for HTTPS. For `docker compose` it is the port of the machine; in the container it stays 443.',
  },
  APIGW_HTTP_PORT: { docker: '`80`', systemd: '`80`', about: 'The same for plain HTTP, which is redirected to HTTPS.' },
  APIGW_PUBLIC_HTTPS_PORT: {
    docker: "`docker compose`'s `APIGW_HTTPS_PORT`",
    systemd: '`APIGW_HTTPS_PORT`',
    about: 'The port that clients see, where the redirect leads.',
  },
  APIGW_HOSTNAME: {
    docker: '`localhost`',
    systemd: "the machine's",
    about: 'One more name in the [self-signed certificate](tls.md).',
  },
  APIGW_RESOLVER: {
    docker: "the container's DNS server",
    systemd: 'none: once at start',
    about: "Asked for the application's name again every 5 s (nginx 1.27.3 or later).",
  },
  APIGW_CACHE_DIR: {
    docker: '`$APIGW_PREFIX/decisions` on a tmpfs',
    systemd: 'the same',
    about:
      "For nginx's [decision cache](nginx.md#cache-decisions) alone, if a server has one; must be on a tmpfs, and is emptied at every start. Without a tmpfs there it is a directory in `/dev/shm`.",
  },
  APIGW_STRICT: {
    docker: '`false`',
    systemd: '`false`',
    about: '`true`: what the [check of the configuration](nginx.md#the-check) warns of refuses a start or a reload.',
  },
  APIGW_WORKER_USER: {
    docker: 'the first of nginx, www-data, nobody',
    systemd: '`apigw-proxy`',
    about: "nginx's workers.",
  },
  APIGW_PREFIX: { docker: '`/run/apigw-nginx`', systemd: '`/run/apigw-proxy`', about: "nginx's working files." },
  APIGW_CONFIG_DIR: {
    docker: '`/etc/config`',
    systemd: '`/etc/apigw`',
    about: 'Your `nginx/conf.d/*.conf` and `nginx/ssl/*`.',
  },
  APIGW_TLS_DIR: {
    docker: '`/var/lib/apigw-proxy`',
    systemd: '`/var/lib/apigw-proxy`',
    about: 'Keeps the self-signed certificate.',
  },
  APIGW_SOCKET_DIR: {
    docker: '`/run/apigw`',
    systemd: '`/run/apigw`',
    about:
      "The gateway's sockets. With [several gateways](operations.md#restart-without-a-refused-request) the directory of each, separated by spaces.",
  },
  APIGW_DECISION_UPSTREAM: {
    docker: 'none',
    systemd: 'none',
    about:
      'In place of sockets: `host:port` of the decision listeners of gateways [on other machines](scaling.md#kubernetes). Credentials go there in the clear.',
  },
  APIGW_MANAGEMENT_UPSTREAM: {
    docker: 'none',
    systemd: 'none',
    about: 'The same for the management listeners. Both or none.',
  },
  APIGW_LOG_DIR: { docker: '`/var/log/nginx`', systemd: '`/var/log/apigw`', about: "nginx's logs." },
  APIGW_NGINX: { docker: '`nginx`', systemd: '`nginx`', about: 'The program that tests the configuration.' },
};

/** Where a setting of default.conf is explained. */
function pageOf(name: string): string {
  if (name.startsWith('oidc_') || name === 'open_id_connect_enabled') return '[OpenID Connect](openid-connect.md)';
  return name === 'api_keys_enabled' ? '[API clients](api-clients.md)' : '[Protect](protect.md#ask-for-more)';
}

/** Its default and its comment, from the map that an operator edits. */
function nginxSetting(defaultConf: string, name: string): { readonly default: string; readonly about: string } {
  const map = new RegExp(
    `^map \\$server_name \\$${name} +\\{(?: +# (.*))?\\s+default +(\\S+); *\\n?\\}(?: +# (.*))?$`,
    'm',
  );
  const [, before, value = '', after] = map.exec(defaultConf) ?? [];
  const about = before ?? after;
  if (about === undefined) throw new Error(`default.conf does not say what $${name} is`);
  return { default: value, about };
}

export function settingsPage(root: string): string {
  const defaultConf = readFileSync(join(root, 'nginx/conf.d/default.conf'), 'utf8');
  const nginx = policySettings.map((name) => [name, nginxSetting(defaultConf, name)] as const);
  return `<!-- made by npm run docs from the tables of the program -->

# Settings

What is accepted is [nginx configuration](#what-is-accepted-defaultconf); how things run is the environment. A variable whose name begins
with \`APIGW_\`, or nearly is one of these, and is none, or whose value is not allowed, stops the start with a sentence for each.
\`apigw check-config\` says the same without a start.

| who reads it | with Docker | with \`npm run up\` | with systemd |
|---|---|---|---|
| [the gateway](#the-gateway) | \`environment\` of \`gateway\` in \`docker-compose.yaml\` | the environment of the command | \`/etc/apigw/gateway.env\` |
| [the proxy](#the-proxy-in-its-container-or-as-a-service) | \`environment\` of \`proxy\` | [the same](#npm-run-up) | \`/etc/apigw/proxy.env\` |
| [nginx](#what-is-accepted-defaultconf) | \`config/nginx/conf.d/default.conf\` | \`$APIGW_CONFIG_DIR/nginx/conf.d/default.conf\` | \`/etc/apigw/nginx/conf.d/default.conf\` |

## The gateway

| variable | default | allowed | what it does |
|---|---|---|---|
${rows(Object.entries(settings), (name, { default: value, allowed, secret, about }) => [
  name,
  value === '' ? 'none' : `\`${value}\``,
  allowed,
  secret ? `${about} \`${name}_FILE\` names a file that holds the value.` : about,
])}

A Unix socket is made with mode 0660; who may connect is decided by its folder's group. Exit codes: 0 after SIGTERM or SIGINT, 78 for a
mistake in the environment, 1 for everything else.

With several workers each has its own connections to the database and its own memory of clients and tokens. One that dies is
replaced after 1 s, and up to 10 s when it keeps dying; their log lines carry \`worker\`.

## What is accepted: \`default.conf\`

Each is a map by \`$server_name\` at the top of the file, so that every server can have its own. [nginx.md](nginx.md) says how to edit it. The text is
the comment that stands there.

| setting | shipped | in its comment | more |
|---|---|---|---|
${nginx.map(([name, { default: value, about }]) => row([`\`$${name}\``, `\`${value}\``, about, pageOf(name)])).join('\n')}

A location has a setting of its own as a header of its question: \`$oidc_audience\` is \`X-Policy-Oidc-Audience\`, and so on
([how](protect.md#ask-for-more)).

## \`npm run up\`

It takes the gateway's variables too, except for the two addresses, which it chooses. One of these that is empty is as good as none. Paths
are relative to the clone.

| variable | default | allowed | what it does |
|---|---|---|---|
${rows(Object.entries(localSettings), (name, { default: value, allowed, about }) => [name, value, allowed, about])}

The gateway is started again when it ends, at once, and after 1 s up to 10 s when it keeps ending; meanwhile nginx answers 503. \`npm run reload\` and \`npm run apigw\` take
\`APIGW_STATE_DIR\`, which must be the same.

## The proxy, in its container or as a service

| variable | with Docker | with systemd | what it is |
|---|---|---|---|
${rows(Object.entries(proxySettings), (name, { docker, systemd, about }) => [name, docker, systemd, about])}

Those from \`APIGW_PREFIX\` on belong to the image and the unit, whose other lines rely on them.

## The command line

It reads the gateway's variables where it works on the local database. An option goes before its variable. \`NO_COLOR\` switches colours off.

| variable | option | what it is |
|---|---|---|
${rows(Object.entries<{ option?: string; about: string }>(cliSettings), (name, { option, about }) => [
  name,
  option === undefined ? '' : `\`${option}\``,
  about,
])}

## Traces

OpenTelemetry's own variables. They count once \`OTEL_EXPORTER_OTLP_ENDPOINT\` or \`OTEL_TRACES_EXPORTER\` is set; [tracing.md](tracing.md#settings) has
defaults and meanings.

| variable | allowed |
|---|---|
${rows(Object.entries(traceSettings), (name, { allowed }) => [name, allowed])}
`;
}

function rows<T>(
  entries: readonly (readonly [string, T])[],
  cells: (name: string, entry: T) => readonly string[],
): string {
  return entries
    .map(([key, entry]) => {
      const [name = '', ...others] = cells(key, entry);
      return row([`\`${name}\``, ...others]);
    })
    .join('\n');
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('<', '&lt;')).join(' | ')} |`;
}
