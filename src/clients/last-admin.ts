import { isAccepted, type ApiClient } from './api-client.ts';
import type { ClientTransaction, ClientWithKeys } from './client-store.ts';

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

const day = 24 * 3_600_000;

/**
 * Makes a change of this client, and refuses it when it takes the last administrator. A bootstrap key is not enough to
 * be one; but its client, as long as it is the only one, is not taken either.
 *
 * @throws {LastAdmin} unless forced
 */
export async function keepAdmin<T>(
  transaction: ClientTransaction,
  client: ClientWithKeys,
  at: number,
  { force, areTokensAccepted }: Safeguard,
  change: () => Promise<T>,
): Promise<T> {
  if (force || !isInOffice(client, at)) return change();
  const count = () => transaction.countAdmins(at + day, areTokensAccepted);
  const before = await count();
  const result = await change();
  if ((await count()) > 0) return result;
  const after = await transaction.find(client.id);
  const hasLost = !after || !isInOffice(after, at) || (hasAcceptedKey(client, at) && !hasAcceptedKey(after, at));
  if (before > 0 || hasLost) throw new LastAdmin();
  return result;
}

function isInOffice({ isAdmin, isEnabled, expiresAt }: ApiClient, at: number): boolean {
  return isAdmin && isEnabled && (expiresAt === null || expiresAt > at);
}

function hasAcceptedKey({ keys }: ClientWithKeys, at: number): boolean {
  return keys.some((key) => isAccepted(key, at));
}
