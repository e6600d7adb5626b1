import { expectClient } from './api-keys.ts';
import { describe, type Settable } from './api-clients.ts';
import { isAccepted, toTime, type Actor, type StoredKey } from './api-client.ts';
import type { ClientStore, ClientTransaction, ClientWithKeys } from './client-store.ts';
import { LastAdmin } from './last-admin.ts';

/** An API client as somebody wants it to be. */
export interface DeclaredClient extends Settable {
  /** Keys begin with it, so it goes with them to another database. Undefined where any will do. */
  readonly id: number | undefined;
  /** Keys that it must have; undefined leaves its keys alone. */
  readonly keys: readonly DeclaredKey[] | undefined;
}

export type DeclaredKey = Pick<StoredKey, 'digest' | 'hint' | 'expiresAt' | 'isImported'>;

export interface ApplyOptions {
  /** Remove clients that are not declared, and keys of those whose keys are. */
  readonly prune: boolean;
  /** Even if no administrator is left. */
  readonly force: boolean;
  /** Do nothing, but say what would be done. */
  readonly dryRun: boolean;
  /** The revision that a dry run was made for; undefined for whatever it is. */
  readonly revision: number | undefined;
  readonly areTokensAccepted: boolean;
}

export interface ClientChange {
  readonly action: 'create' | 'update' | 'delete';
  readonly apiClientId: string;
  /** Null for one that has none yet. */
  readonly id: number | null;
  readonly fields: readonly { readonly name: string; readonly from: unknown; readonly to: unknown }[];
  /** By their hints. */
  readonly keysAdded: readonly string[];
  readonly keysRemoved: readonly string[];
}

export interface Applied {
  /** After the changes; of a dry run, the one that they would be made on. */
  readonly revision: number;
  readonly changes: readonly ClientChange[];
  readonly unchanged: number;
}

/** Somebody has changed something since the plan was made. */
export class RevisionChanged extends Error {
  override readonly name = 'RevisionChanged';
}

/** The id cannot be given to this client. */
export class IdTaken extends Error {
  override readonly name = 'IdTaken';
  readonly index: number;

  constructor(index: number, message: string) {
    super(message);
    this.index = index;
  }
}

export interface Declarations {
  /**
   * Makes clients and keys what they are declared to be, all of it or nothing.
   *
   * @throws {RevisionChanged}
   * @throws {IdTaken}
   * @throws {LastAdmin} unless forced
   */
  apply(wanted: readonly DeclaredClient[], options: ApplyOptions, actor: Actor): Promise<Applied>;
  /** Every client but such as exist for a bootstrap key alone, with the keys that are accepted, by id. */
  exportAll(): AsyncGenerator<readonly ClientWithKeys[]>;
}

export interface DeclarationsOptions {
  readonly store: ClientStore;
  readonly now: () => number;
  readonly onChange: (id: number) => void | Promise<void>;
}

const pageSize = 1_000;
const day = 24 * 3_600_000;

/** Undoes a transaction, and carries what it would have done. */
class DryRun extends Error {
  readonly applied: Applied;

  constructor(applied: Applied) {
    super('a dry run');
    this.applied = applied;
  }
}

export function createDeclarations({ store, now, onChange }: DeclarationsOptions): Declarations {
  return {
    async apply(wanted, options, actor) {
      const changedIds: number[] = [];
      const work = async (transaction: ClientTransaction): Promise<Applied> => {
        const before = transaction.revision - 1;
        if (options.revision !== undefined && options.revision !== before) throw new RevisionChanged();
        const at = now();
        const count = () => transaction.countAdmins(at + day, options.areTokensAccepted);
        const adminsBefore = await count();
        const changes = await applyAll({ transaction, at, actor }, wanted, options.prune);
        if (adminsBefore > 0 && !options.force && (await count()) === 0) throw new LastAdmin();
        const unchanged = wanted.length - changes.filter(({ action }) => action !== 'delete').length;
        if (options.dryRun) throw new DryRun({ revision: before, changes, unchanged });
        changedIds.push(...changes.flatMap(({ id }) => id ?? []));
        return { revision: changes.length === 0 ? before : transaction.revision, changes, unchanged };
      };
      const applied = await store.change(work).catch((error: unknown) => {
        if (error instanceof DryRun) return error.applied;
        throw error;
      });
      for (const id of changedIds) await onChange(id);
      return applied;
    },

    async *exportAll() {
      for (let after = 0, isMore = true; isMore;) {
        const page = await store.list(pageAfter(after));
        isMore = page.length === pageSize;
        after = page.at(-1)?.id ?? after;
        const at = now();
        yield page
          .filter((client) => !isForBootstrap(client))
          .map((client) => ({ ...client, keys: client.keys.filter((key) => !key.isBootstrap && isAccepted(key, at)) }));
      }
    },
  };
}

const pageAfter = (id: number) =>
  ({ limit: pageSize, sort: 'id', isDescending: false, after: { value: id, id }, now: 0 }) as const;

/** Nobody has chosen it, and it goes by itself. */
function isForBootstrap({ keys }: ClientWithKeys): boolean {
  return keys.length > 0 && keys.every(({ isBootstrap }) => isBootstrap);
}

interface Change {
  readonly transaction: ClientTransaction;
  readonly at: number;
  readonly actor: Actor;
}

async function applyAll(
  change: Change,
  wanted: readonly DeclaredClient[],
  isPruned: boolean,
): Promise<readonly ClientChange[]> {
  const { transaction } = change;
  const declared = wanted.map((client, index) => ({ client, index }));
  const existing = new Map<string, ClientWithKeys>();
  for (let start = 0; start < wanted.length; start += pageSize) {
    const names = wanted.slice(start, start + pageSize).map(({ apiClientId }) => apiClientId);
    for (const [name, client] of await transaction.findByApiClientIds(names)) existing.set(name, client);
  }
  // first what goes, so that nothing is in the way of what comes; ids only ascend
  const changes = isPruned ? await removeOthers(change, new Set(wanted.map(({ apiClientId }) => apiClientId))) : [];
  for (const { client, index } of declared.sort(
    (one, other) => (one.client.id ?? Infinity) - (other.client.id ?? Infinity),
  )) {
    const before = existing.get(client.apiClientId);
    const made = before ? await update(change, before, client, index, isPruned) : await create(change, client, index);
    if (made) changes.push(made);
  }
  return changes;
}

async function removeOthers(
  { transaction, at, actor }: Change,
  declared: ReadonlySet<string>,
): Promise<ClientChange[]> {
  const removed: ClientChange[] = [];
  for (let after = 0, isMore = true; isMore;) {
    const page = await transaction.list(pageAfter(after));
    isMore = page.length === pageSize;
    after = page.at(-1)?.id ?? after;
    for (const client of page) {
      const { id, apiClientId, keys } = client;
      if (declared.has(apiClientId) || isForBootstrap(client)) continue;
      await transaction.removeClient(id);
      const details = { ...describe(client), declared: true };
      await transaction.recordEvent({ at, actor, action: 'api_client.delete', clientId: id, outcome: 'done', details });
      removed.push({ action: 'delete', apiClientId, id, fields: [], keysAdded: [], keysRemoved: keys.map(hintOf) });
    }
  }
  return removed;
}

async function create(
  { transaction, at, actor }: Change,
  wanted: DeclaredClient,
  index: number,
): Promise<ClientChange> {
  const { id: wantedId, keys = [], ...settable } = wanted;
  if (wantedId !== undefined && wantedId <= (await transaction.lastClientId()))
    throw new IdTaken(index, `the id ${wantedId} has been given to a client before, and is never given again`);
  const id = await transaction.insertClient({ ...settable, createdAt: at, updatedAt: at }, wantedId);
  for (const key of keys) await transaction.insertKey({ ...key, clientId: id, createdAt: at, isBootstrap: false });
  const details = { ...describe(settable), declared: true, keys: keys.map(({ hint }) => hint) };
  await transaction.recordEvent({ at, actor, action: 'api_client.create', clientId: id, outcome: 'done', details });
  const fields = Object.entries(describe(settable))
    .filter(([, to]) => !isNothing(to))
    .map(([name, to]) => ({ name, from: null, to }));
  const keysAdded = keys.map(hintOf);
  return { action: 'create', apiClientId: settable.apiClientId, id, fields, keysAdded, keysRemoved: [] };
}

/** Undefined when it is as it is declared to be. */
async function update(
  { transaction, at, actor }: Change,
  before: ClientWithKeys,
  { id: wantedId, keys, ...settable }: DeclaredClient,
  index: number,
  isPruned: boolean,
): Promise<ClientChange | undefined> {
  const { id, apiClientId } = before;
  if (wantedId !== undefined && wantedId !== id)
    throw new IdTaken(index, `the API client ${JSON.stringify(apiClientId)} has the id ${id}, not ${wantedId}`);
  const from = describe(before);
  const fields = Object.entries(describe(settable))
    .map(([name, to]) => ({ name, from: from[name as keyof typeof from], to }))
    .filter((field) => JSON.stringify(field.from) !== JSON.stringify(field.to));
  const added = (keys ?? []).filter(({ digest }) => !before.keys.some((key) => key.digest === digest));
  const removed =
    keys && isPruned ? before.keys.filter(({ digest }) => !keys.some((key) => key.digest === digest)) : [];
  if (fields.length + added.length + removed.length === 0) return undefined;
  await transaction.updateClient({ ...before, ...settable, updatedAt: Math.max(at, before.updatedAt + 1) });
  for (const key of added) await transaction.insertKey({ ...key, clientId: id, createdAt: at, isBootstrap: false });
  for (const key of removed) await transaction.removeKey(key.id);
  const after = await expectClient(transaction, id);
  const details = {
    before: from,
    after: describe(after),
    declared: true,
    keys_added: added.map(hintOf),
    keys_removed: removed.map(({ id: keyId }) => keyId),
  };
  await transaction.recordEvent({ at, actor, action: 'api_client.update', clientId: id, outcome: 'done', details });
  return { action: 'update', apiClientId, id, fields, keysAdded: added.map(hintOf), keysRemoved: removed.map(hintOf) };
}

function hintOf({ hint, expiresAt }: DeclaredKey): string {
  return `...${hint}${expiresAt === null ? '' : ` until ${toTime(expiresAt)}`}`;
}

function isNothing(value: unknown): boolean {
  return value === null || value === false || (Array.isArray(value) && value.length === 0);
}
