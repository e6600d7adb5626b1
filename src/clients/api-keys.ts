import { digestSecret, generateSecret, hintOf, isSameDigest, type ApiKeyCredential } from '../auth/api-key.ts';
import { keepAdmin, type Safeguard } from './last-admin.ts';
import { isAccepted, toTime, type Actor, type ApiKey, type StoredKey } from './api-client.ts';
import type { ClientStore, ClientTransaction, ClientWithKeys } from './client-store.ts';

export interface CreatedKey {
  readonly key: StoredKey;
  /** `<id of the client>.<secret>`: its only appearance. */
  readonly token: string;
}

export interface RotatedKey extends CreatedKey {
  /** Those whose place the new key takes, with the times at which they end. */
  readonly replaced: readonly ApiKey[];
}

/** No client may have more keys that are accepted. */
export class TooManyKeys extends Error {
  override readonly name = 'TooManyKeys';
}

/** There is such a client, but it has no such key. */
export class UnknownKey extends Error {
  override readonly name = 'UnknownKey';
}

/** The rules of the keys that a client has. Where there is no such client, all of them answer with undefined. */
export interface ApiKeys {
  /** In the order in which they were made. */
  list(clientId: number): Promise<readonly StoredKey[] | undefined>;
  /** @throws {TooManyKeys} */
  create(clientId: number, expiresAt: number | null, actor: Actor): Promise<CreatedKey | undefined>;
  /**
   * Makes a key that takes the place of all others. They stay good for the overlap, in milliseconds, and never past their
   * own end.
   *
   * @throws {TooManyKeys}
   * @throws {LastAdmin} unless forced, when the new key ends soon
   */
  rotate(
    clientId: number,
    request: { readonly overlap: number; readonly expiresAt: number | null },
    actor: Actor,
    safeguard: Safeguard,
  ): Promise<RotatedKey | undefined>;
  /**
   * @throws {UnknownKey}
   * @throws {LastAdmin} unless forced
   */
  remove(clientId: number, keyId: number, actor: Actor, safeguard: Safeguard): Promise<true | undefined>;
  /** Refuses the key from now on, whoever it belongs to. False when there is no such key. */
  reportLeak(credential: ApiKeyCredential, actor: Actor, address: string): Promise<boolean>;
}

export interface ApiKeysOptions {
  readonly store: ClientStore;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called with the id of each client that has changed, once the change is durable and before it is acknowledged. */
  readonly onChange: (id: number) => void | Promise<void>;
}

/** Keys of one client that are accepted, and as many others that are kept for the record. */
export const maxKeys = 20;

export function createApiKeys({ store, now, onChange }: ApiKeysOptions): ApiKeys {
  /** Runs a change of one client's keys; undefined when there is no such client. */
  async function change<T>(
    clientId: number,
    work: (transaction: ClientTransaction, client: ClientWithKeys, at: number) => Promise<T>,
  ): Promise<T | undefined> {
    const result = await store.change(async (transaction) => {
      const client = await transaction.find(clientId);
      return client && { value: await work(transaction, client, now()) };
    });
    if (!result) return undefined;
    await onChange(clientId);
    return result.value;
  }

  async function add(
    transaction: ClientTransaction,
    { id, keys }: ClientWithKeys,
    { at, expiresAt }: { readonly at: number; readonly expiresAt: number | null },
  ): Promise<CreatedKey> {
    const ended = keys.filter((key) => !isAccepted(key, at));
    if (keys.length - ended.length >= maxKeys) throw new TooManyKeys();
    for (const { id: oldest } of ended.slice(0, -maxKeys + 1)) await transaction.removeKey(oldest);
    const { keyId, token } = await insertKey(transaction, id, { at, expiresAt, isBootstrap: false });
    return { key: await expectKey(transaction, id, keyId), token };
  }

  return {
    list: async (clientId) => (await store.find(clientId))?.keys,

    create: (clientId, expiresAt, actor) =>
      change(clientId, async (transaction, client, at) => {
        const created = await add(transaction, client, { at, expiresAt });
        const details = { key_id: created.key.id, expires_at: toTime(expiresAt) };
        await transaction.recordEvent({ at, actor, action: 'api_key.create', clientId, outcome: 'done', details });
        return created;
      }),

    rotate: (clientId, { overlap, expiresAt }, actor, safeguard) =>
      change(clientId, (transaction, client, at) =>
        keepAdmin(transaction, client, at, safeguard, async () => {
          const replaced = client.keys.filter((key) => isAccepted(key, at));
          for (const key of replaced) {
            await transaction.updateKey(key.id, {
              expiresAt: Math.min(key.expiresAt ?? Infinity, at + overlap),
              replacedAt: key.replacedAt ?? at,
            });
          }
          const created = await add(transaction, await expectClient(transaction, clientId), { at, expiresAt });
          const after = await expectClient(transaction, clientId);
          const details = {
            key_id: created.key.id,
            replaced: replaced.map(({ id }) => id),
            overlap_seconds: overlap / 1_000,
          };
          await transaction.recordEvent({ at, actor, action: 'api_key.rotate', clientId, outcome: 'done', details });
          return { ...created, replaced: after.keys.filter(({ id }) => replaced.some((key) => key.id === id)) };
        }),
      ),

    remove: (clientId, keyId, actor, safeguard) =>
      change(clientId, async (transaction, client, at) => {
        if (!client.keys.some(({ id }) => id === keyId)) throw new UnknownKey();
        await keepAdmin(transaction, client, at, safeguard, () => transaction.removeKey(keyId));
        const details = { key_id: keyId };
        await transaction.recordEvent({ at, actor, action: 'api_key.delete', clientId, outcome: 'done', details });
        return true as const;
      }),

    async reportLeak({ clientId: text, secret }, actor, address) {
      const clientId = Number(text);
      if (!Number.isSafeInteger(clientId)) return false;
      const digest = digestSecret(secret);
      const isKey = (key: StoredKey) => isSameDigest(key.digest, digest);
      // looked for first: whoever guesses, or says it again, makes no write
      const known = (await store.find(clientId))?.keys.find(isKey);
      if (!known) return false;
      if (known.revokedAt !== null) return true;
      const isFound = await change(clientId, async (transaction, client, at) => {
        const key = client.keys.find(isKey);
        if (!key) return false;
        await transaction.updateKey(key.id, { revokedAt: key.revokedAt ?? at });
        const details = { key_id: key.id, address };
        await transaction.recordEvent({ at, actor, action: 'api_key.leak', clientId, outcome: 'done', details });
        return true;
      });
      return isFound ?? false;
    },
  };
}

/** Makes a key for a client. Its secret is in the token that is returned, and nowhere else. */
export async function insertKey(
  transaction: ClientTransaction,
  clientId: number,
  { at, expiresAt, isBootstrap }: { at: number; expiresAt: number | null; isBootstrap: boolean },
): Promise<{ readonly keyId: number; readonly token: string }> {
  const secret = generateSecret(String(clientId));
  const keyId = await transaction.insertKey({
    clientId,
    digest: digestSecret(secret),
    hint: hintOf(secret),
    createdAt: at,
    expiresAt,
    isBootstrap,
    isImported: false,
  });
  return { keyId, token: `${clientId}.${secret}` };
}

export async function expectClient(transaction: ClientTransaction, id: number): Promise<ClientWithKeys> {
  const client = await transaction.find(id);
  if (!client) throw new Error(`API client ${id} is not in the transaction that wrote it`);
  return client;
}

async function expectKey(transaction: ClientTransaction, clientId: number, keyId: number): Promise<StoredKey> {
  const key = (await expectClient(transaction, clientId)).keys.find(({ id }) => id === keyId);
  if (!key) throw new Error(`API key ${keyId} is not in the transaction that wrote it`);
  return key;
}
