import { isAccepted, stateOf, toTime, type ApiKey } from '../clients/api-client.ts';
import { describe } from '../clients/api-clients.ts';
import type { ClientWithKeys } from '../clients/client-store.ts';
import type { ApiClientAnswer, ApiKeyAnswer } from './answer-schemas.ts';

/** An API client as the management API shows it: the only place where one of its fields becomes public. */
export function presentClient(client: ClientWithKeys, at: number): ApiClientAnswer {
  const { id, keys } = client;
  return {
    id,
    // two more names of the same number, which existing scripts read
    api_key_id: id,
    api_client_entity_id: id,
    ...describe(client),
    has_api_key: keys.some((key) => isAccepted(key, at)),
    api_key_expires_at: toTime(keys.at(-1)?.expiresAt ?? null),
    replaced_key_used_at: toTime(lastUseOfReplaced(keys, at)),
    last_used_at: toTime(lastUseOf(client)),
    created_at: toTime(client.createdAt),
    updated_at: toTime(client.updatedAt),
  };
}

/** A key, without what would let anybody use it. */
export function presentKey(key: ApiKey, at: number): ApiKeyAnswer {
  return {
    id: key.id,
    hint: key.hint,
    state: stateOf(key, at),
    created_at: toTime(key.createdAt),
    last_used_at: toTime(lastUseOf(key)),
    expires_at: toTime(key.expiresAt),
    replaced_at: toTime(key.replacedAt),
    revoked_at: toTime(key.revokedAt),
  };
}

/** Stored is the begin of the ten minutes that the use was in, which may be before there was anything to be used. */
function lastUseOf({ lastUsedAt, createdAt }: { readonly lastUsedAt: number | null; readonly createdAt: number }) {
  return lastUsedAt === null ? null : Math.max(lastUsedAt, createdAt);
}

/** When somebody last used a key that has been replaced and is still accepted. */
function lastUseOfReplaced(keys: readonly ApiKey[], at: number): number | null {
  const uses = keys.flatMap((key) => {
    const isOld = stateOf(key, at) === 'replaced' && (key.lastUsedAt ?? 0) >= (key.replacedAt ?? 0);
    return isOld && key.lastUsedAt !== null ? [key.lastUsedAt] : [];
  });
  return uses.length === 0 ? null : Math.max(...uses);
}
