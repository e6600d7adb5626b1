import {
  compact,
  createCollector,
  makeAKey,
  readCidrs,
  readForeignKey,
  readIdentifier,
  readLimits,
  readLine,
  readTags,
  type Collector,
  type Imported,
  type SourceLimit,
} from './collector.ts';
import type { DeclaredClient, DeclaredKey } from './declaration.ts';
import { ImportError } from './import-error.ts';
import { parseStructured, showName, type Place } from './place.ts';

const otherAuthentication = new Map([
  ['basic-auth', 'A user name with a password (basic-auth)'],
  ['jwt-auth', 'A key for JWTs of its own (jwt-auth)'],
  ['hmac-auth', 'An HMAC secret (hmac-auth)'],
  ['jwe-decrypt', 'A key for JWE tokens (jwe-decrypt)'],
  ['ldap-auth', 'An LDAP user (ldap-auth)'],
  ['wolf-rbac', 'A wolf application (wolf-rbac)'],
  ['multi-auth', 'A choice of authentication plugins (multi-auth)'],
]);

interface Entry {
  readonly value: Place;
  /** Of the user whose credential this is; undefined for a consumer. */
  readonly credentialOf: string | undefined;
}

/**
 * Consumers of Apache APISIX, from either of
 * - `conf/apisix.yaml` (stand-alone mode): `consumers[]`, ending in the comment `#END`; credentials stand in the same
 *   list, with the `id` `<username>/credentials/<id>`; groups in `consumer_groups[]`
 * - answers of the Admin API: `{"total", "list": [{"key": "/apisix/consumers/jack", "value": {...}}]}`, one resource
 *   `{"key", "value"}`, version 2's `{"node": {"nodes": [...]}}`, of `/consumers`, `/consumers/{username}/credentials` and
 *   `/consumer_groups`; or an array of several such answers
 *
 * The Admin API may answer keys as they are stored, encrypted (`data_encryption`), and base64 of 48 bytes looks like a key:
 * keys are carried over from `apisix.yaml` only.
 *
 * https://apisix.apache.org/docs/apisix/deployment-modes/, https://apisix.apache.org/docs/apisix/admin-api/,
 * https://apisix.apache.org/docs/apisix/terminology/credential/, https://apisix.apache.org/docs/apisix/plugins/limit-count/,
 * https://apisix.apache.org/docs/apisix/plugins/limit-req/, https://apisix.apache.org/docs/apisix/plugins/ip-restriction/
 *
 * @throws {ImportError}
 */
export function readApisix(text: string, file: string): Imported {
  const root = parseStructured(text, file);
  const isStandalone = root.isObject && !['list', 'node', 'value'].some((name) => root.member(name));
  if (isStandalone && !root.member('consumers')) {
    throw new ImportError(file, '', 'has no consumers; conf/apisix.yaml or an answer of the Admin API is needed');
  }
  const collector = createCollector(file);
  if (isStandalone) {
    checkEnd(collector, text);
    noteTheRest(collector, root);
  }
  const { entries, groups } = isStandalone ? readStandalone(root) : readAnswers(root);
  const consumers = entries.filter(({ credentialOf }) => credentialOf === undefined);
  const credentials = new Map<string, Place[]>();
  for (const { value } of consumers) {
    const username = value.member('username') ?? value.fail('has no username');
    credentials.set(username.text(), []);
  }
  for (const { value, credentialOf } of entries) {
    if (credentialOf === undefined) continue;
    const own = credentials.get(credentialOf);
    if (own) own.push(value);
    else collector.note(value.where, 'A credential is not carried over: its consumer is not in this file.');
  }
  for (const { value } of consumers) {
    const username = value.member('username') ?? value.fail('has no username');
    const own = credentials.get(username.text()) ?? [];
    collector.add(value.where, readConsumer(collector, value, username, own, groups, isStandalone));
  }
  return collector.finish();
}

/** Without it APISIX does not load the file, and it may have been cut off. */
function checkEnd({ note }: Collector, text: string): void {
  if (!/^#END\s*$/m.test(text) && !/^\s*\{/.test(text)) {
    note('the end', 'There is no #END. If the file was cut off, consumers are missing.');
  }
}

function noteTheRest({ note }: Collector, root: Place): void {
  for (const name of root.names().filter((each) => !['consumers', 'consumer_groups'].includes(each))) {
    note(showName(name), 'Not carried over: only consumers are. Servers and locations are written in default.conf.');
  }
}

function readStandalone(root: Place): { entries: Entry[]; groups: Map<unknown, Place> } {
  const entries = root.items('consumers').map((value) => ({
    value,
    credentialOf: credentialOwner(value.member('id')?.value),
  }));
  return { entries, groups: new Map(root.items('consumer_groups').map((group) => [group.member('id')?.value, group])) };
}

function readAnswers(root: Place): { entries: Entry[]; groups: Map<unknown, Place> } {
  const entries: Entry[] = [];
  const groups = new Map<unknown, Place>();
  for (const resource of listResources(root)) {
    const key = resource.member('key')?.text() ?? resource.fail('has no key; an answer of the Admin API is needed');
    const value = resource.member('value') ?? resource.fail('has no value');
    if (/\/consumer_groups\/[^/]+$/.test(key)) groups.set(value.member('id')?.value ?? key.split('/').at(-1), value);
    else if (/\/consumers\//.test(key)) entries.push({ value, credentialOf: credentialOwner(key) });
    else resource.fail('is no consumer, credential or consumer group');
  }
  return { entries, groups };
}

function listResources(answer: Place): Place[] {
  if (Array.isArray(answer.value)) return answer.list().flatMap(listResources);
  const node = answer.member('node');
  if (node) return node.member('nodes') ? node.items('nodes') : [node];
  return answer.member('list') ? answer.items('list') : [answer];
}

/** `jack` of `/apisix/consumers/jack/credentials/one` and of `jack/credentials/one`. */
function credentialOwner(id: unknown): string | undefined {
  return typeof id === 'string' ? /([^/]+)\/credentials\/[^/]+$/.exec(id)?.[1] : undefined;
}

function readConsumer(
  collector: Collector,
  consumer: Place,
  username: Place,
  credentials: readonly Place[],
  groups: ReadonlyMap<unknown, Place>,
  isPlain: boolean,
): DeclaredClient {
  const { where } = consumer;
  const known = ['username', 'desc', 'plugins', 'labels', 'group_id', 'id', 'create_time', 'update_time'];
  for (const name of consumer.names().filter((each) => !known.includes(each)))
    collector.note(where, `The member ${showName(name)} is not carried over.`);
  const labels = consumer.member('labels');
  const groupId = consumer.member('group_id');
  const group = groupId && groups.get(groupId.value);
  if (groupId && !group) collector.note(groupId.where, 'The plugins of this group are not in this file.');
  const desc = consumer.member('desc');
  const description = desc && readLine(collector, desc);
  return compact({
    api_client_id: readIdentifier(collector, username),
    ...(description !== undefined && { description }),
    tags: readTags(collector, where, [
      ...(labels?.names().map((name) => `${name}:${labels.member(name)?.text() ?? ''}`) ?? []),
      ...(groupId ? [`group:${String(groupId.value)}`] : []),
    ]),
    ...readPlugins(collector, where, pluginsOf(consumer, group)),
    keys: readKeys(collector, [consumer, ...credentials], isPlain),
  });
}

/** Those of the consumer, and of its group those that it has not itself. */
function pluginsOf(consumer: Place, group: Place | undefined): Map<string, Place> {
  const plugins = new Map<string, Place>();
  for (const source of [group?.member('plugins'), consumer.member('plugins')]) {
    for (const name of source?.names() ?? []) {
      const plugin = source?.member(name);
      if (plugin) plugins.set(name, plugin);
    }
  }
  return plugins;
}

/** `_meta.disable`, or `disable` before APISIX 3. */
function isDisabled(plugin: Place): boolean {
  return (plugin.member('_meta')?.member('disable') ?? plugin.member('disable'))?.value === true;
}

function readKeys(collector: Collector, holders: readonly Place[], isPlain: boolean): DeclaredKey[] {
  const keys: DeclaredKey[] = [];
  for (const holder of holders) {
    const plugins = holder.member('plugins');
    for (const name of plugins?.names() ?? []) {
      const plugin = plugins?.member(name);
      const what = otherAuthentication.get(name);
      if (!plugin) continue;
      if (what !== undefined) collector.note(plugin.where, `${what} cannot be carried over. ${makeAKey}`);
      if (name !== 'key-auth') continue;
      const key = readKey(collector, plugin, isPlain);
      if (key) keys.push(key);
    }
  }
  return keys;
}

function readKey(collector: Collector, plugin: Place, isPlain: boolean): DeclaredKey | undefined {
  const key = plugin.member('key') ?? plugin.fail('has no key');
  if (isDisabled(plugin)) {
    collector.note(plugin.where, 'A key that is switched off is not carried over.');
    return undefined;
  }
  if (isPlain) return readForeignKey(collector, key);
  collector.note(
    key.where,
    `A key is not carried over: the Admin API may have answered it encrypted (data_encryption); apisix.yaml has it plain. ${makeAKey}`,
  );
  return undefined;
}

function readPlugins(
  collector: Collector,
  where: string,
  plugins: ReadonlyMap<string, Place>,
): Partial<DeclaredClient> {
  const limits: SourceLimit[] = [];
  let cidrs: string[] = [];
  for (const [name, plugin] of plugins) {
    if (name === 'key-auth' || otherAuthentication.has(name)) continue;
    if (isDisabled(plugin)) {
      collector.note(plugin.where, `The plugin ${showName(name)} is switched off and not carried over.`);
    } else if (name === 'limit-count') {
      limits.push(...readLimitCount(collector, plugin));
    } else if (name === 'limit-req') {
      limits.push(readLimitReq(collector, plugin));
    } else if (name === 'ip-restriction') {
      cidrs = readIpRestriction(collector, plugin);
    } else if (name === 'consumer-restriction') {
      collector.note(
        plugin.where,
        'Which routes or services the consumer may use is not carried over: give the client scopes, and locations $required_scopes.',
      );
    } else {
      collector.note(plugin.where, `The plugin ${showName(name)} is not carried over.`);
    }
  }
  return { ...readLimits(collector, where, limits), allowed_cidrs: cidrs };
}

function readLimitCount({ note }: Collector, plugin: Place): SourceLimit[] {
  if (plugin.member('rules')) {
    note(plugin.where, 'Limits by rules are not carried over: they count by something in the request.');
    return [];
  }
  noteKey({ note }, plugin);
  const [count, window] = [plugin.member('count'), plugin.member('time_window')];
  if (typeof count?.value === 'string' || typeof window?.value === 'string') {
    note(plugin.where, 'A limit that is computed from variables is not carried over.');
    return [];
  }
  return [{ requests: positive(plugin, 'count', count), seconds: positive(plugin, 'time_window', window) }];
}

function readLimitReq({ note }: Collector, plugin: Place): SourceLimit {
  noteKey({ note }, plugin);
  const requests = positive(plugin, 'rate', plugin.member('rate'));
  const burst = plugin.member('burst')?.value;
  // a rate that is no whole number becomes one by the minute, and a burst would be of ten minutes
  const isBurst = [requests, burst].every(Number.isSafeInteger) && Number(burst) >= 1 && Number(burst) <= 999_999_999;
  if (isBurst) note(plugin.where, 'The burst was of requests that are delayed; here it is of so many in ten seconds.');
  else if (burst !== undefined && burst !== 0)
    note(plugin.where, 'The burst is not carried over: with the rate it must be a whole number.');
  return { requests, seconds: 1, ...(isBurst && { burst: Number(burst) }) };
}

/** The default counts by address. */
function noteKey({ note }: Pick<Collector, 'note'>, plugin: Place): void {
  const by = plugin.member('key')?.value ?? 'remote_addr';
  if (by === 'consumer_name' || by === '$consumer_name') return;
  const shown = typeof by === 'string' ? showName(by) : 'something else';
  note(plugin.where, `The limit was counted by ${shown}; here all requests of the client are counted together.`);
}

function positive(plugin: Place, name: string, place: Place | undefined): number {
  if (typeof place?.value !== 'number' || !(place.value > 0)) plugin.fail(`must have a ${name} above 0`);
  return place.value;
}

function readIpRestriction(collector: Collector, plugin: Place): string[] {
  if (plugin.member('blacklist')) {
    collector.note(
      plugin.where,
      'The denied addresses are not carried over: a client has allowed_cidrs only. Use deny of nginx before you let the client in.',
    );
  }
  return readCidrs(collector, plugin.items('whitelist'));
}
