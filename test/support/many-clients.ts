import assert from 'node:assert/strict';
import { digestSecret, generateSecret, hintOf } from '../../src/auth/api-key.ts';
import type { FrontDoor } from './front-door.ts';

export interface KnownClient {
  readonly id: number;
  readonly key: string;
}

/** Makes API clients with a key each, in one change. Their ids begin with this one, which must be beyond all that were given. */
export async function makeClients(
  front: FrontDoor,
  adminKey: string,
  firstId: number,
  count: number,
): Promise<KnownClient[]> {
  const clients = Array.from({ length: count }, (_, index) => {
    const id = firstId + index;
    return { id, key: `${id}.${generateSecret(String(id))}` };
  });
  const declared = clients.map(({ id, key }) => {
    const secret = key.slice(key.indexOf('.') + 1);
    const keys = [{ digest: `sha256:${digestSecret(secret)}`, hint: hintOf(secret), checksum: true }];
    return { id, api_client_id: `client-${id}`, keys };
  });
  const { status, body } = await front.ask('/v1/management/apply', {
    method: 'POST',
    key: adminKey,
    json: { version: 1, clients: declared },
  });
  assert.equal(status, 200, body);
  return clients;
}
