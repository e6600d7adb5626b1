import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { parseApiKey } from '../../src/auth/api-key.ts';
import { createAuthenticator, type Authenticate } from '../../src/auth/authenticator.ts';
import { createPolicyCompiler, nothingSet } from '../../src/auth/policy.ts';
import { createApiClients, nothingParticular, type ApiClients } from '../../src/clients/api-clients.ts';
import { createApiKeys, type ApiKeys } from '../../src/clients/api-keys.ts';
import { createClientDirectory } from '../../src/clients/client-directory.ts';
import type { Database } from '../../src/store/database.ts';
import { databaseKinds, openTestStore } from '../support/stores.ts';

const actor = { clientId: null, requestId: null };
const safeguard = { force: true, areTokensAccepted: false };
const hour = 3_600_000;

/** What should be true of one key and its client, without a database. */
interface ModelKey {
  readonly token: string;
  readonly id: number;
  expiresAt: number;
  isRevoked: boolean;
  isDeleted: boolean;
}
interface ModelClient {
  readonly id: number;
  readonly keys: ModelKey[];
  isDeleted: boolean;
  isEnabled: boolean;
  expiresAt: number;
}

for (const kind of databaseKinds)
  suite(`the life of keys on ${kind}, with a clock that the test turns`, () => {
    let database: Database;
    let clients: ApiClients;
    let keys: ApiKeys;
    let authenticate: Authenticate;
    let time = Date.UTC(2030, 0, 1);
    const policy = createPolicyCompiler({ allowInsecureHttp: false })({ ...nothingSet, api_keys_enabled: 'on' });

    before(async () => {
      const opened = await openTestStore(kind);
      database = opened.database;
      const now = () => time;
      const directory = createClientDirectory({ store: opened.store, monotonicNow: () => 0 });
      const domain = { store: opened.store, now, onChange: directory.forget };
      clients = createApiClients({ ...domain, flushUses: () => Promise.resolve(new Set()) });
      keys = createApiKeys(domain);
      authenticate = createAuthenticator({
        hasImportedKeys: () => false,
        findClient: directory.find,
        findClientByApiClientId: directory.findByApiClientId,
        verifyToken: () => ({ outcome: 'unavailable', cause: 'there is no issuer here' }),
        now,
        onUsed: () => undefined,
      });
    });
    after(() => database.close());

    async function decide(token: string): Promise<string> {
      const decision = await authenticate(policy, { authorization: `apk ${token}`, clientAddress: '' });
      return decision.outcome === 'granted' ? 'granted' : decision.reason;
    }

    function expected(client: ModelClient, key: ModelKey): string {
      if (client.isDeleted || key.isDeleted) return 'unknown_key';
      if (key.isRevoked) return 'key_revoked';
      if (key.expiresAt <= time) return 'key_expired';
      if (!client.isEnabled) return 'client_disabled';
      return client.expiresAt <= time ? 'client_expired' : 'granted';
    }

    async function createClient(): Promise<ModelClient> {
      const { client, token = '' } = await clients.create(nothingParticular, actor);
      const first = { token, id: client.keys[0]?.id ?? 0, expiresAt: Infinity, isRevoked: false, isDeleted: false };
      return { id: client.id, keys: [first], isDeleted: false, isEnabled: true, expiresAt: Infinity };
    }

    const add = (
      client: ModelClient,
      { key, token }: { key: { id: number; expiresAt: number | null }; token: string },
    ) =>
      client.keys.push({ token, id: key.id, expiresAt: key.expiresAt ?? Infinity, isRevoked: false, isDeleted: false });

    /** One step of a random life: what is done, to which client and key, and a span of time in hours. */
    type Step = readonly [what: keyof typeof steps, client: number, key: number, hours: number];
    const steps = {
      async create(all: ModelClient[]) {
        all.push(await createClient());
      },
      async addKey(_: ModelClient[], client: ModelClient, __: ModelKey, hours: number) {
        const made = await keys.create(client.id, hours === 0 ? null : time + hours * hour, actor);
        assert.equal(made !== undefined, !client.isDeleted);
        if (made) add(client, made);
      },
      async rotate(_: ModelClient[], client: ModelClient, __: ModelKey, hours: number) {
        const rotated = await keys.rotate(client.id, { overlap: hours * hour, expiresAt: null }, actor, safeguard);
        assert.equal(rotated !== undefined, !client.isDeleted);
        if (!rotated) return;
        for (const key of client.keys) {
          if (key.isDeleted || key.isRevoked || key.expiresAt <= time) continue;
          key.expiresAt = Math.min(key.expiresAt, time + hours * hour);
        }
        add(client, rotated);
      },
      async deleteKey(_: ModelClient[], client: ModelClient, key: ModelKey) {
        const remove = keys.remove(client.id, key.id, actor, safeguard);
        if (client.isDeleted) assert.equal(await remove, undefined);
        else if (key.isDeleted) await assert.rejects(remove);
        else await remove;
        key.isDeleted = true;
      },
      async reportLeak(_: ModelClient[], client: ModelClient, key: ModelKey) {
        const credential = parseApiKey(key.token);
        assert.ok(credential);
        const isKnown = !client.isDeleted && !key.isDeleted;
        assert.equal(await keys.reportLeak(credential, actor, '192.0.2.1'), isKnown);
        key.isRevoked = true;
      },
      async disable(_: ModelClient[], client: ModelClient) {
        await clients.update(client.id, { isEnabled: false }, actor, safeguard);
        client.isEnabled = false;
      },
      async enable(_: ModelClient[], client: ModelClient) {
        await clients.update(client.id, { isEnabled: true }, actor, safeguard);
        client.isEnabled = true;
      },
      async expire(_: ModelClient[], client: ModelClient, __: ModelKey, hours: number) {
        const expiresAt = hours === 0 ? null : time + (hours - 2) * hour;
        await clients.update(client.id, { expiresAt }, actor, safeguard);
        client.expiresAt = expiresAt ?? Infinity;
      },
      async remove(_: ModelClient[], client: ModelClient) {
        assert.equal(await clients.remove(client.id, actor, safeguard), !client.isDeleted);
        client.isDeleted = true;
      },
      pass(_: ModelClient[], __: ModelClient, ___: ModelKey, hours: number) {
        time += hours * hour;
        return Promise.resolve();
      },
    };

    test('is what a model says, after every step of any sequence of changes', async () => {
      const names = Object.keys(steps) as (keyof typeof steps)[];
      const step: fc.Arbitrary<Step> = fc.tuple(fc.constantFrom(...names), fc.nat(), fc.nat(), fc.nat({ max: 5 }));
      const seen = new Set<string>();
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 18 }), async (life) => {
          const all = [await createClient()];
          for (const [what, client, key, hours] of life) {
            const who = all[client % all.length] as ModelClient;
            await steps[what](all, who, who.keys[key % who.keys.length] as ModelKey, hours);
            for (const one of all) {
              for (const each of one.keys) {
                const outcome = await decide(each.token);
                seen.add(outcome);
                assert.equal(outcome, expected(one, each), `after ${what}`);
              }
            }
          }
        }),
        { numRuns: kind === 'SQLite' ? 60 : 30 },
      );
      // the lives were varied enough to mean something
      assert.deepEqual([...seen].sort(), [
        'client_disabled',
        'client_expired',
        'granted',
        'key_expired',
        'key_revoked',
        'unknown_key',
      ]);
    });

    test('has an overlap that ends to the millisecond', async () => {
      const client = await createClient();
      const [old] = client.keys as [ModelKey];
      const rotated = await keys.rotate(client.id, { overlap: 24 * hour, expiresAt: null }, actor, safeguard);
      assert.ok(rotated);
      const rotatedAt = time;
      time = rotatedAt + 24 * hour - 1;
      assert.deepEqual([await decide(old.token), await decide(rotated.token)], ['granted', 'granted']);
      time = rotatedAt + 24 * hour;
      assert.deepEqual([await decide(old.token), await decide(rotated.token)], ['key_expired', 'granted']);
    });
  });
