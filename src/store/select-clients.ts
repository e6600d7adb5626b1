import type { Knex } from 'knex';
import type { ClientQuery } from '../clients/client-store.ts';
import type { ClientRow } from './client-rows.ts';
import type { Dialect } from './dialect.ts';

/** The rows of a list, in its order. */
export function selectClients(dialect: Dialect, database: Knex, query: ClientQuery): PromiseLike<ClientRow[]> {
  const { limit, sort, isDescending, after, name, apiClientId, tag, isAdmin, state, unusedSince } = query;
  const { isUsingReplacedKey, now } = query;
  const direction = isDescending ? 'desc' : 'asc';
  const beyond = isDescending ? '<' : '>';
  const found = database<ClientRow>('api_clients as client').orderBy(sort, direction).limit(limit);
  if (sort !== 'id') void found.orderBy('id', direction);
  if (after && sort === 'id') void found.where('id', beyond, after.id);
  else if (after) void found.whereRaw(`(??, id) ${beyond} (?, ?)`, [sort, after.value, after.id]);
  if (name !== undefined) void found.whereRaw(dialect.nameIsLike, [`%${name.replace(/[\\%_]/g, '\\$&')}%`]);
  if (apiClientId !== undefined) void found.where('api_client_id', apiClientId);
  if (tag !== undefined) void found.whereRaw(dialect.hasTag, [tag]);
  if (isAdmin !== undefined) void found.where('is_admin', isAdmin);
  const hasExpired = '(expires_at is not null and expires_at <= ?)';
  if (state === 'expired') void found.whereRaw(hasExpired, [now]);
  else if (state !== undefined) void found.where('enabled', state === 'enabled').whereRaw(`not ${hasExpired}`, [now]);
  if (unusedSince !== undefined)
    void found.where('last_used_at', '<', unusedSince).where('created_at', '<', unusedSince);
  if (isUsingReplacedKey !== undefined) {
    const not = isUsingReplacedKey ? '' : 'not ';
    void found.whereRaw(
      `${not}exists (select 1 from api_keys as key where key.client_id = client.id and key.replaced_at is not null
        and key.last_used_at >= key.replaced_at and key.revoked_at is null and key.expires_at > ?)`,
      [now],
    );
  }
  return found;
}
