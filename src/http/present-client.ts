import type { ClientWithKeys } from '../clients/client-store.ts';

/** An API client as the management API shows it: the only place where one of its fields becomes public. */
export function presentClient({
  id,
  name,
  apiClientId,
  isAdmin,
  isEnabled,
  keys,
  createdAt,
  updatedAt,
}: ClientWithKeys): object {
  return {
    id,
    // two more names of the same number, which existing scripts read
    api_key_id: id,
    api_client_entity_id: id,
    name,
    api_client_id: apiClientId,
    is_admin: isAdmin,
    enabled: isEnabled,
    has_api_key: keys.length > 0,
    api_key_expires_at: presentTime(keys.at(-1)?.expiresAt ?? null),
    created_at: presentTime(createdAt),
    updated_at: presentTime(updatedAt),
  };
}

/** RFC 3339, UTC. */
function presentTime(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}
