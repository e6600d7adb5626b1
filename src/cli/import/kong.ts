import {
  compact,
  createCollector,
  makeAKey,
  readCidrs,
  readForeignKey,
  readIdentifier,
  readLimits,
  readLine,
  readScopes,
  readTags,
  type Collector,
  type Imported,
  type SourceLimit,
} from './collector.ts';
import type { DeclaredClient, DeclaredKey } from './declaration.ts';
import { ImportError } from './import-error.ts';
import { parseStructured, showName, type Place } from './place.ts';

const formatVersions = ['1.1', '2.1', '3.0'];

/** Credentials that have no equal here, and what to do about them. */
const otherCredentials: Readonly<Record<string, string>> = {
  basicauth_credentials: 'A user name with a password (basic-auth)',
  jwt_secrets: 'A key for JWTs of its own (jwt)',
  hmacauth_credentials: 'An HMAC secret (hmac-auth)',
  oauth2_credentials: 'An OAuth 2.0 client secret (oauth2)',
  mtls_auth_credentials: 'A client certificate (mtls-auth)',
};
const keyCredentials = ['keyauth_credentials', 'keyauth_enc_credentials'];
const groupLists = ['acls', 'consumer_group_consumers', 'consumer_groups', 'consumer_group_plugins'];
const read = ['consumers', 'plugins', ...keyCredentials, ...Object.keys(otherCredentials), ...groupLists];

const seconds = { second: 1, minute: 60, hour: 3_600, day: 86_400, month: 30 * 86_400, year: 365 * 86_400 } as const;

/** What belongs to a consumer, whether it stands inside it or at the top of the file. */
type Belongings = Map<string, Place[]>;

/**
 * Consumers of Kong's declarative configuration, YAML or JSON, `_format_version` 1.1, 2.1 or 3.0, as `deck gateway dump`
 * and `kong config db_export` write it. Credentials, ACL groups and plugins stand inside a consumer (decK) or at the top
 * with `consumer`, its user name or id (DB-less); group memberships are `consumers[].groups[].name` or
 * `consumer_group_consumers`.
 *
 * https://developer.konghq.com/gateway/db-less-mode/, https://developer.konghq.com/deck/file/format/,
 * https://developer.konghq.com/plugins/rate-limiting/, https://developer.konghq.com/plugins/ip-restriction/
 *
 * @throws {ImportError}
 */
export function readKong(text: string, file: string): Imported {
  const root = parseStructured(text, file);
  checkVersion(root);
  const collector = createCollector(file);
  noteTheRest(collector, root);
  const consumers = root.items('consumers');
  const owned = collectBelongings(collector, root, consumers);
  for (const consumer of consumers) {
    collector.add(
      consumer.where,
      readConsumer(collector, root, consumer, owned.get(consumer) ?? new Map<string, Place[]>()),
    );
  }
  if (consumers.some((consumer) => consumer.member('id'))) {
    collector.note('consumers', 'Ids of Kong (X-Consumer-ID) are not carried over; applications get X-Client-Id.');
  }
  return collector.finish();
}

function checkVersion(root: Place): void {
  const version = root.member('_format_version');
  if (!version) {
    throw new ImportError(
      root.file,
      '',
      "has no _format_version; Kong's declarative configuration is needed, as `deck gateway dump` writes it",
    );
  }
  // unquoted 3.0 is the number 3
  const text = typeof version.value === 'number' ? version.value.toFixed(1) : version.text();
  if (!formatVersions.includes(text)) version.fail(`must be one of ${formatVersions.join(', ')}`);
}

/** Everything that is not about consumers, once for each kind. */
function noteTheRest({ note }: Collector, root: Place): void {
  for (const name of root.names().filter((each) => !read.includes(each) && !each.startsWith('_'))) {
    note(showName(name), 'Not carried over: only consumers are. Servers and locations are written in default.conf.');
  }
  if (root.member('_workspace')) note('_workspace', 'There are no workspaces; the consumers of all are one list.');
  if (root.items('plugins').some((plugin) => !plugin.member('consumer'))) {
    note('plugins', 'Plugins without a consumer are not carried over.');
  }
  for (const group of root.items('consumer_groups').filter((each) => each.member('plugins')))
    note(group.where, 'Plugins of a group are not carried over; give their limits to each client with the tag.');
  for (const plugin of root.items('consumer_group_plugins'))
    note(plugin.where, 'Plugins of a group are not carried over; give their limits to each client with the tag.');
}

function collectBelongings({ note }: Collector, root: Place, consumers: readonly Place[]): Map<Place, Belongings> {
  const byName = new Map<string, Place>();
  for (const consumer of consumers) {
    for (const name of [consumer.member('id'), consumer.member('username')]) {
      if (!name) continue;
      // else a credential could go to the wrong one of two
      if (byName.has(name.text())) name.fail('is the id or username of two consumers');
      byName.set(name.text(), consumer);
    }
  }
  const owned = new Map<Place, Belongings>(consumers.map((consumer) => [consumer, new Map<string, Place[]>()]));
  const give = (consumer: Place, kind: string, place: Place) => {
    const belongings = owned.get(consumer);
    belongings?.set(kind, [...(belongings.get(kind) ?? []), place]);
  };
  for (const consumer of consumers) {
    const kinds = ['plugins', 'acls', 'groups', ...keyCredentials, ...Object.keys(otherCredentials)];
    for (const kind of kinds) for (const place of consumer.items(kind)) give(consumer, kind, place);
  }
  const kinds = ['plugins', 'acls', 'consumer_group_consumers', ...keyCredentials, ...Object.keys(otherCredentials)];
  for (const kind of kinds) {
    for (const place of root.items(kind)) {
      const name = referenceTo(place.member('consumer'));
      if (name === undefined) {
        if (kind !== 'plugins') note(place.where, 'Not carried over: it belongs to no consumer.');
        continue;
      }
      const consumer = byName.get(name);
      if (consumer) give(consumer, kind === 'consumer_group_consumers' ? 'groups' : kind, place);
      else note(place.where, 'Not carried over: its consumer is not in this file.');
    }
  }
  return owned;
}

/** `consumer: alice`, or `consumer: {id: ...}`. */
function referenceTo(place: Place | undefined): string | undefined {
  if (!place) return undefined;
  return (place.isObject ? (place.member('id') ?? place.member('username') ?? place.member('name')) : place)?.text();
}

function readConsumer(collector: Collector, root: Place, consumer: Place, belongings: Belongings): DeclaredClient {
  const [username, customId] = [consumer.member('username'), consumer.member('custom_id')];
  const identifier = customId ?? username;
  if (!identifier) consumer.fail('has neither username nor custom_id');
  const { where } = consumer;
  const of = (kind: string) => belongings.get(kind) ?? [];
  const known = ['id', 'username', 'custom_id', 'tags', 'created_at', 'updated_at', 'plugins', 'acls', 'groups'];
  for (const name of consumer.names()) {
    if (![...known, ...keyCredentials, ...Object.keys(otherCredentials)].includes(name))
      collector.note(where, `The member ${showName(name)} is not carried over.`);
  }
  const groups = of('groups').map((group) => referenceTo(group.member('consumer_group') ?? group.member('name')) ?? '');
  const name = username && readLine(collector, username);
  const client = {
    api_client_id: readIdentifier(collector, identifier),
    ...(name !== undefined && { name }),
    tags: readTags(collector, where, [
      ...consumer.items('tags').map((tag) => tag.text()),
      ...groups.map((group) => `group:${group}`),
    ]),
    scopes: readScopes(
      collector,
      where,
      of('acls').map((acl) => acl.member('group')?.text() ?? acl.fail('has no group')),
    ),
    ...readPlugins(collector, root, of('plugins'), where),
    keys: readKeys(
      collector,
      keyCredentials.flatMap((kind) => of(kind)),
    ),
  };
  for (const [kind, what] of Object.entries(otherCredentials))
    for (const { where: place } of of(kind)) collector.note(place, `${what} cannot be carried over. ${makeAKey}`);
  return compact(client);
}

function readKeys(collector: Collector, credentials: readonly Place[]): DeclaredKey[] {
  const keys = credentials.map((credential) => {
    const key = credential.member('key');
    // Kong counts it from the moment when it loads the file
    if (credential.member('ttl')) {
      collector.note(credential.where, `A key with a ttl is not carried over: when it ends is not known. ${makeAKey}`);
      return undefined;
    }
    if (!key) collector.note(credential.where, `A credential without key: Kong makes one at start. ${makeAKey}`);
    return key && readForeignKey(collector, key);
  });
  return keys.filter((key) => key !== undefined);
}

function readPlugins(
  collector: Collector,
  root: Place,
  plugins: readonly Place[],
  where: string,
): Partial<DeclaredClient> {
  const limits: SourceLimit[] = [];
  const cidrs: string[] = [];
  const seen = new Set<string>();
  for (const plugin of plugins) {
    const name = plugin.member('name')?.text() ?? plugin.fail('has no name');
    const scope = ['service', 'route', 'consumer_group'].find((each) => plugin.member(each));
    if (plugin.member('enabled')?.value === false) {
      collector.note(plugin.where, `The plugin ${showName(name)} is switched off and not carried over.`);
    } else if (scope !== undefined) {
      collector.note(plugin.where, `The plugin ${showName(name)} is for one ${scope} only and not carried over.`);
    } else if (name !== 'rate-limiting' && name !== 'ip-restriction') {
      collector.note(plugin.where, `The plugin ${showName(name)} is not carried over.`);
    } else {
      if (seen.has(name)) plugin.fail(`is a second ${name} of the same consumer; one is allowed`);
      seen.add(name);
      const setting = settingsOf(root, plugin);
      if (name === 'rate-limiting') limits.push(...readRateLimiting(collector, plugin, setting));
      else cidrs.push(...readIpRestriction(collector, plugin, setting));
    }
  }
  return { ...readLimits(collector, where, limits), allowed_cidrs: cidrs };
}

/** A member of the plugin's `config`, or of the shared one in `_plugin_configs` (decK). */
function settingsOf(root: Place, plugin: Place): (name: string) => Place | undefined {
  const shared = plugin.member('_config')?.text();
  const common = shared === undefined ? undefined : root.member('_plugin_configs')?.member(shared);
  if (shared !== undefined && !common) plugin.fail('has a _config that is not in _plugin_configs');
  return (name) => plugin.member('config')?.member(name) ?? common?.member(name);
}

function readRateLimiting(
  { note }: Collector,
  plugin: Place,
  setting: (name: string) => Place | undefined,
): SourceLimit[] {
  const by = setting('limit_by')?.text() ?? 'consumer';
  if (by !== 'consumer')
    note(
      plugin.where,
      `The limit was counted by ${showName(by)}; here all requests of the client are counted together.`,
    );
  return Object.entries(seconds).flatMap(([name, length]) => {
    const place = setting(name);
    if (!place) return [];
    const { value } = place;
    if (typeof value !== 'number' || value <= 0) return place.fail('must be a number of requests above 0');
    return [{ requests: value, seconds: length }];
  });
}

function readIpRestriction(
  collector: Collector,
  plugin: Place,
  setting: (name: string) => Place | undefined,
): string[] {
  if (setting('deny') ?? setting('blacklist')) {
    collector.note(
      plugin.where,
      'The denied addresses are not carried over: a client has allowed_cidrs only. Use deny of nginx before you let the client in.',
    );
  }
  const allowed = setting('allow') ?? setting('whitelist');
  return allowed ? readCidrs(collector, allowed.list()) : [];
}
