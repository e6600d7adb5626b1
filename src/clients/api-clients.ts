import { randomUUID } from 'node:crypto';
import { digestSecret, generateSecret } from '../auth/api-key.ts';
import type { Actor, ApiClient } from './api-client.ts';
import type { ClientStore, ClientTransaction, ClientWithKeys } from './client-store.ts';

export interface CreateApiClient {
  readonly name?: string | undefined;
  readonly apiClientId?: string | undefined;
  readonly isAdmin: boolean;
  readonly isEnabled: boolean;
  readonly generateApiKey: boolean;
}

export interface UpdateApiClient {
  readonly name?: string | undefined;
  readonly apiClientId?: string | undefined;
  readonly isAdmin?: boolean | undefined;
  readonly isEnabled?: boolean | undefined;
}

export interface CreatedApiClient {
  readonly client: ClientWithKeys;
  /** `<id>.<secret>`: its only appearance. */
  readonly token?: string;
}

/** No administrator would be left that can authenticate tomorrow too. */
export class LastAdmin extends Error {
  override readonly name = 'LastAdmin';
}

/** What keeps the last administrator. */
export interface Safeguard {
  readonly force: boolean;
  /** Whether an administrator without a key can authenticate, by access tokens. */
  readonly areTokensAccepted: boolean;
}

/** The rules of API clients and their keys. */
export interface ApiClients {
  find(id: number): Promise<ClientWithKeys | undefined>;
  list(page: { readonly after: number; readonly limit: number }): Promise<ClientWithKeys[]>;
  /** @throws {DuplicateApiClientId} */
  create(request: CreateApiClient, actor: Actor): Promise<CreatedApiClient>;
  /**
   * Changes what is named and keeps the rest; undefined when there is no such client.
   *
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
  bootstrap(lifetime: number): Promise<string>;
}

export interface ApiClientsOptions {
  readonly store: ClientStore;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called with the id of each client that has changed, once the change is durable and before it is acknowledged. */
  readonly onChange: (id: number) => void | Promise<void>;
}

const theProgram: Actor = { clientId: null, requestId: null };

export function createApiClients({ store, now, onChange }: ApiClientsOptions): ApiClients {
  async function insertKey(
    transaction: ClientTransaction,
    clientId: number,
    { at, expiresAt, isBootstrap }: { at: number; expiresAt: number | null; isBootstrap: boolean },
  ): Promise<string> {
    const secret = generateSecret(String(clientId));
    const digest = digestSecret(secret);
    await transaction.insertKey({ clientId, digest, createdAt: at, expiresAt, isBootstrap });
    return `${clientId}.${secret}`;
  }

  async function insertClient(
    transaction: ClientTransaction,
    at: number,
    { name, apiClientId = randomUUID(), isAdmin, isEnabled }: Omit<CreateApiClient, 'generateApiKey'>,
  ): Promise<number> {
    const times = { createdAt: at, updatedAt: at };
    return transaction.insertClient({ name: name ?? apiClientId, apiClientId, isAdmin, isEnabled, ...times });
  }

  async function refuseLastAdmin(
    transaction: ClientTransaction,
    client: ApiClient,
    { force, areTokensAccepted }: Safeguard,
  ): Promise<void> {
    if (force || !client.isAdmin || !client.isEnabled) return;
    if ((await transaction.countOtherAdmins(client.id, now(), areTokensAccepted)) === 0) throw new LastAdmin();
  }

  return {
    find: (id) => store.find(id),
    list: (page) => store.list(page),

    async create(request, actor) {
      const created = await store.change(async (transaction) => {
        const at = now();
        const id = await insertClient(transaction, at, request);
        const token = request.generateApiKey
          ? await insertKey(transaction, id, { at, expiresAt: null, isBootstrap: false })
          : undefined;
        const client = await expectClient(transaction, id);
        await transaction.recordEvent({
          at,
          actor,
          action: 'api_client.create',
          clientId: id,
          outcome: 'done',
          details: { ...describe(client), has_api_key: request.generateApiKey },
        });
        return { client, ...(token !== undefined && { token }) };
      });
      await onChange(created.client.id);
      return created;
    },

    async update(id, changes, actor, safeguard) {
      const updated = await store.change(async (transaction) => {
        const client = await transaction.find(id);
        if (!client) return undefined;
        const losesRights = changes.isAdmin === false || changes.isEnabled === false;
        if (losesRights) await refuseLastAdmin(transaction, client, safeguard);
        await transaction.updateClient({
          ...client,
          name: changes.name ?? client.name,
          apiClientId: changes.apiClientId ?? client.apiClientId,
          isAdmin: changes.isAdmin ?? client.isAdmin,
          isEnabled: changes.isEnabled ?? client.isEnabled,
          updatedAt: Math.max(now(), client.updatedAt + 1),
        });
        const after = await expectClient(transaction, id);
        await transaction.recordEvent({
          at: now(),
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
        await refuseLastAdmin(transaction, client, safeguard);
        await transaction.removeClient(id);
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

    async bootstrap(lifetime) {
      const { token, changed } = await store.change(async (transaction) => {
        const at = now();
        const untouched = await transaction.untouchedBootstrapClients();
        for (const clientId of untouched) {
          await transaction.removeClient(clientId);
          await transaction.recordEvent({
            at,
            actor: theProgram,
            action: 'bootstrap.replace',
            clientId,
            outcome: 'done',
          });
        }
        const id = await insertClient(transaction, at, { name: 'bootstrap', isAdmin: true, isEnabled: true });
        const expiresAt = at + lifetime;
        const key = await insertKey(transaction, id, { at, expiresAt, isBootstrap: true });
        await transaction.recordEvent({
          at,
          actor: theProgram,
          action: 'bootstrap.create',
          clientId: id,
          outcome: 'done',
          details: { expires_at: new Date(expiresAt).toISOString() },
        });
        return { token: key, changed: [...untouched, id] };
      });
      await Promise.all(changed.map(async (id) => onChange(id)));
      return token;
    },
  };
}

async function expectClient(transaction: ClientTransaction, id: number): Promise<ClientWithKeys> {
  const client = await transaction.find(id);
  if (!client) throw new Error(`API client ${id} is not in the transaction that wrote it`);
  return client;
}

function describe({ name, apiClientId, isAdmin, isEnabled }: ApiClient): Readonly<Record<string, unknown>> {
  return { name, api_client_id: apiClientId, is_admin: isAdmin, enabled: isEnabled };
}
