import { hash, randomUUID } from 'node:crypto';
import { expectClient, insertKey } from './api-keys.ts';
import { stateOf, toTime, type Actor, type ApiClient } from './api-client.ts';
import type { ClientQuery, ClientStore, ClientTransaction, ClientWithKeys, RememberedRequest } from './client-store.ts';
import { keepAdmin, type Safeguard } from './last-admin.ts';

/** What can be chosen of a client. */
export type Settable = Omit<ApiClient, 'id' | 'createdAt' | 'updatedAt' | 'lastUsedAt'>;

export interface CreateApiClient extends Omit<Settable, 'name' | 'apiClientId'> {
  readonly name: string | undefined;
  readonly apiClientId: string | undefined;
  readonly generateApiKey: boolean;
}

/** What is undefined stays as it is. */
export type UpdateApiClient = { readonly [Name in keyof Settable]?: Settable[Name] | undefined };

export interface CreatedApiClient {
  readonly client: ClientWithKeys;
  /** `<id>.<secret>`: its only appearance. */
  readonly token?: string;
  /** Whether this is a repetition of a creation that was done before. */
  readonly isReplayed: boolean;
}

/** A burst is beyond a rate, and there would be none. */
export class BurstWithoutRate extends Error {
  override readonly name = 'BurstWithoutRate';
}

/** The caller has used its own key for a creation before, for another one. */
export class IdempotencyKeyReused extends Error {
  override readonly name = 'IdempotencyKeyReused';
}

/** The rules of API clients and their keys. */
export interface ApiClients {
  find(id: number): Promise<ClientWithKeys | undefined>;
  findByApiClientId(apiClientId: string): Promise<ClientWithKeys | undefined>;
  list(query: ClientQuery): Promise<ClientWithKeys[]>;
  /**
   * With an idempotency key, a text that the caller has chosen for this creation, the same creation by the same caller
   * within a day is done once. Its repetition answers with the same client; if nobody has used its key yet, with a new
   * key in place of that one, since the first answer may have been lost.
   *
   * @throws {DuplicateApiClientId}
   * @throws {IdempotencyKeyReused}
   */
  create(request: CreateApiClient, actor: Actor, idempotencyKey?: string): Promise<CreatedApiClient>;
  /**
   * Changes what is named and keeps the rest; undefined when there is no such client.
   *
   * @throws {BurstWithoutRate}
   * @throws {DuplicateApiClientId}
   * @throws {LastAdmin} unless forced
   */
  update(id: number, changes: UpdateApiClient, actor: Actor, safeguard: Safeguard): Promise<ClientWithKeys | undefined>;
  /**
   * Removes a client and its keys; false when there is no such client.
   *
   * @throws {LastAdmin} unless forced
   */
  remove(id: number, actor: Actor, safeguard: Safeguard): Promise<boolean>;
  /** Makes an administrator whose key expires, and removes earlier ones that were never used. Returns the key. */
  bootstrap(lifetime: number, actor?: Actor): Promise<string>;
}

export interface ApiClientsOptions {
  readonly store: ClientStore;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called with the id of each client that has changed, once the change is durable and before it is acknowledged. */
  readonly onChange: (id: number) => void | Promise<void>;
  /** Has the store know of the keys that have been used; resolves to the ids of those of which it could not be told. */
  readonly flushUses: () => Promise<ReadonlySet<number>>;
}

/** A creation that has been asked for before. */
interface Repetition {
  readonly digest: string;
  readonly since: number;
  readonly earlier: RememberedRequest;
  /** Ids of keys that have been used, and the store does not know. */
  readonly used: ReadonlySet<number>;
}

const theGateway: Actor = { clientId: null, requestId: null, name: 'gateway' };

/** Milliseconds for which an idempotency key is remembered. */
const idempotencyLifetime = 24 * 3_600_000;

/** What a client has of whom nothing particular is said. */
export const nothingParticular = {
  name: undefined,
  apiClientId: undefined,
  description: null,
  tags: [],
  scopes: [],
  allowedCidrs: [],
  isAdmin: false,
  isEnabled: true,
  expiresAt: null,
  rateLimit: null,
  rateLimitBurst: null,
  quota: null,
  generateApiKey: true,
} as const satisfies CreateApiClient;

const bootstrapClient = { ...nothingParticular, name: 'bootstrap', isAdmin: true, generateApiKey: false };

export function createApiClients({ store, now, onChange, flushUses }: ApiClientsOptions): ApiClients {
  async function insertClient(
    transaction: ClientTransaction,
    at: number,
    { generateApiKey, apiClientId = randomUUID(), ...request }: CreateApiClient,
  ): Promise<{ readonly id: number; readonly keyId: number | null; readonly token: string | undefined }> {
    const name = request.name ?? apiClientId;
    const id = await transaction.insertClient({ ...request, name, apiClientId, createdAt: at, updatedAt: at });
    if (!generateApiKey) return { id, keyId: null, token: undefined };
    return { id, ...(await insertKey(transaction, id, { at, expiresAt: null, isBootstrap: false })) };
  }

  /** The client that was made before, with a key that reaches the caller. Undefined when it is gone. */
  async function replay(
    transaction: ClientTransaction,
    at: number,
    { digest, since, earlier, used }: Repetition,
    actor: Actor,
  ): Promise<CreatedApiClient | undefined> {
    const { clientId: id } = earlier;
    const client = await transaction.find(id);
    if (!client) return undefined;
    const key = client.keys.find((one) => one.id === earlier.keyId);
    // the key of the first answer, and only if nothing has become of it
    const isUntouched = key && stateOf(key, at) === 'live' && key.lastUsedAt === null && !used.has(key.id);
    if (!isUntouched) return { client, isReplayed: true };
    await transaction.removeKey(key.id);
    const { token, keyId } = await insertKey(transaction, id, { at, expiresAt: key.expiresAt, isBootstrap: false });
    await transaction.rememberRequest(digest, { ...earlier, keyId }, at, since);
    const details = { key_id: keyId, replaced: [key.id] };
    await transaction.recordEvent({ at, actor, action: 'api_client.replay', clientId: id, outcome: 'done', details });
    return { client: await expectClient(transaction, id), token, isReplayed: true };
  }

  return {
    find: (id) => store.find(id),
    findByApiClientId: (apiClientId) => store.findByApiClientId(apiClientId),
    list: (query) => store.list(query),

    async create(request, actor, idempotencyKey) {
      const used = idempotencyKey === undefined ? new Set<number>() : await flushUses();
      const created = await store.change(async (transaction) => {
        const at = now();
        const since = at - idempotencyLifetime;
        // each caller has keys of its own
        const digest = idempotencyKey === undefined ? '' : hash('sha256', `${actor.clientId ?? ''}\n${idempotencyKey}`);
        const requestDigest = hash('sha256', JSON.stringify(request));
        const earlier = idempotencyKey === undefined ? undefined : await transaction.recallRequest(digest, since);
        if (earlier) {
          if (earlier.requestDigest !== requestDigest) throw new IdempotencyKeyReused();
          const replayed = await replay(transaction, at, { digest, since, earlier, used }, actor);
          if (replayed) return replayed;
        }
        const { id, keyId, token } = await insertClient(transaction, at, request);
        if (idempotencyKey !== undefined)
          await transaction.rememberRequest(digest, { requestDigest, clientId: id, keyId }, at, since);
        const client = await expectClient(transaction, id);
        await transaction.recordEvent({
          at,
          actor,
          action: 'api_client.create',
          clientId: id,
          outcome: 'done',
          details: { ...describe(client), has_api_key: request.generateApiKey },
        });
        return { client, ...(token !== undefined && { token }), isReplayed: false };
      });
      await onChange(created.client.id);
      return created;
    },

    async update(id, changes, actor, safeguard) {
      const updated = await store.change(async (transaction) => {
        const client = await transaction.find(id);
        if (!client) return undefined;
        const at = now();
        const next = merge(client, changes);
        await keepAdmin(transaction, client, at, safeguard, () =>
          transaction.updateClient({ ...next, updatedAt: Math.max(at, client.updatedAt + 1) }),
        );
        const after = await expectClient(transaction, id);
        await transaction.recordEvent({
          at,
          actor,
          action: 'api_client.update',
          clientId: id,
          outcome: 'done',
          details: { before: describe(client), after: describe(after) },
        });
        return after;
      });
      if (updated) await onChange(id);
      return updated;
    },

    async remove(id, actor, safeguard) {
      const isRemoved = await store.change(async (transaction) => {
        const client = await transaction.find(id);
        if (!client) return false;
        await keepAdmin(transaction, client, now(), safeguard, () => transaction.removeClient(id));
        await transaction.recordEvent({
          at: now(),
          actor,
          action: 'api_client.delete',
          clientId: id,
          outcome: 'done',
          details: describe(client),
        });
        return true;
      });
      if (isRemoved) await onChange(id);
      return isRemoved;
    },

    async bootstrap(lifetime, actor = theGateway) {
      const { token, changed } = await store.change(async (transaction) => {
        const at = now();
        const untouched = await transaction.untouchedBootstrapClients();
        for (const clientId of untouched) {
          await transaction.removeClient(clientId);
          await transaction.recordEvent({
            at,
            actor,
            action: 'bootstrap.replace',
            clientId,
            outcome: 'done',
          });
        }
        const { id } = await insertClient(transaction, at, bootstrapClient);
        const expiresAt = at + lifetime;
        const { token: key } = await insertKey(transaction, id, { at, expiresAt, isBootstrap: true });
        await transaction.recordEvent({
          at,
          actor,
          action: 'bootstrap.create',
          clientId: id,
          outcome: 'done',
          details: { expires_at: toTime(expiresAt) },
        });
        return { token: key, changed: [...untouched, id] };
      });
      await Promise.all(changed.map(async (id) => onChange(id)));
      return token;
    },
  };
}

/** @throws {BurstWithoutRate} */
function merge(client: ApiClient, changes: UpdateApiClient): ApiClient {
  const named = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  const next: ApiClient = { ...client, ...named };
  if (next.rateLimit !== null) return next;
  if (typeof changes.rateLimitBurst === 'number') throw new BurstWithoutRate();
  return { ...next, rateLimitBurst: null };
}

/** What can be chosen of a client, in the words of the management API. */
export function describe(client: Settable) {
  return {
    name: client.name,
    api_client_id: client.apiClientId,
    description: client.description,
    tags: client.tags,
    scopes: client.scopes,
    allowed_cidrs: client.allowedCidrs,
    is_admin: client.isAdmin,
    enabled: client.isEnabled,
    expires_at: toTime(client.expiresAt),
    rate_limit: client.rateLimit,
    rate_limit_burst: client.rateLimitBurst,
    quota: client.quota,
  };
}
