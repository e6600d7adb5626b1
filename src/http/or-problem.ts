import { BurstWithoutRate, IdempotencyKeyReused } from '../clients/api-clients.ts';
import { maxKeys, TooManyKeys, UnknownKey } from '../clients/api-keys.ts';
import { DuplicateApiClientId } from '../clients/client-store.ts';
import { IdTaken, RevisionChanged } from '../clients/declarations.ts';
import { LastAdmin } from '../clients/last-admin.ts';
import { Problem } from '../problem.ts';

/** Runs a change; what the rules of API clients and keys refuse becomes an answer. */
export async function orProblem<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw toProblem(error);
  }
}

function toProblem(error: unknown): unknown {
  if (error instanceof DuplicateApiClientId) {
    const detail = 'is the api_client_id of another API client';
    return new Problem(409, 'duplicate_api_client_id', `/api_client_id ${detail}.`, {
      errors: [{ pointer: '/api_client_id', detail }],
    });
  }
  if (error instanceof LastAdmin) {
    return new Problem(
      409,
      'last_admin',
      'No administrator would be left that can authenticate tomorrow too (a bootstrap key, which expires, does not count). Create another one first, or repeat the call with ?force=true.',
    );
  }
  if (error instanceof IdempotencyKeyReused) {
    return new Problem(
      422,
      'idempotency_key_reused',
      'This Idempotency-Key was used for another creation; take a new one for each.',
    );
  }
  if (error instanceof BurstWithoutRate) {
    return new Problem(400, 'invalid_body', 'The request body is not valid. /rate_limit_burst needs a rate_limit.', {
      errors: [{ pointer: '/rate_limit_burst', detail: 'needs a rate_limit' }],
    });
  }
  if (error instanceof TooManyKeys) {
    return new Problem(
      409,
      'too_many_keys',
      `The API client has ${maxKeys} keys that are accepted, and may have no more; delete those that nobody uses.`,
    );
  }
  if (error instanceof RevisionChanged) {
    return new Problem(
      409,
      'revision_changed',
      'Something has been changed since this revision. Look at the plan again, with ?dry_run=true.',
    );
  }
  if (error instanceof IdTaken) {
    const pointer = `/clients/${error.index}/id`;
    return new Problem(409, 'id_taken', `${pointer}: ${error.message}.`, {
      errors: [{ pointer, detail: error.message }],
    });
  }
  if (error instanceof UnknownKey) {
    return new Problem(404, 'unknown_api_key', 'The API client has no key with this id.');
  }
  return error;
}
