import type { ApiClient } from './api-client.ts';
import type { ClientTransaction } from './client-store.ts';

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

/**
 * Refuses what takes its rights from this client when there is no other administrator.
 *
 * @throws {LastAdmin} unless forced
 */
export async function refuseLastAdmin(
  transaction: ClientTransaction,
  { id, isAdmin, isEnabled, expiresAt }: ApiClient,
  at: number,
  { force, areTokensAccepted }: Safeguard,
): Promise<void> {
  const isInOffice = isAdmin && isEnabled && (expiresAt === null || expiresAt > at);
  if (force || !isInOffice) return;
  if ((await transaction.countOtherAdmins(id, at, areTokensAccepted)) === 0) throw new LastAdmin();
}
