import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseApiKey } from '../../src/auth/api-key.ts';
import { createAuthenticator, type Authenticate } from '../../src/auth/authenticator.ts';
import { createPolicyCompiler, nothingSet } from '../../src/auth/policy.ts';
import { createApiClients, nothingParticular, type ApiClients } from '../../src/clients/api-clients.ts';
import { createApiKeys, UnknownKey, type ApiKeys } from '../../src/clients/api-keys.ts';
import { createClientDirectory } from '../../src/clients/client-directory.ts';
import { DuplicateApiClientId, type ClientWithKeys } from '../../src/clients/client-store.ts';
import { createDeclarations, type DeclaredClient, type Declarations } from '../../src/clients/declarations.ts';
import { runs } from '../support/runs.ts';
import { databaseKinds, newStore, type OpenedStore, type OpenStore } from '../support/stores.ts';

const actor = { clientId: null, requestId: null };
const safeguard = { force: true, areTokensAccepted: false };
const hour = 3_600_000;
const policy = createPolicyCompiler({ allowInsecureHttp: false })({ ...nothingSet, api_keys_enabled: 'on' });

interface ModelKey {
  readonly id: number;
  readonly token: string;
  expiresAt: number | null;
  isReplaced: boolean;
  isRevoked: boolean;
  isDeleted: boolean;
}

interface ModelClient {
  readonly id: number;
  apiClientId: string;
  name: string;
  scopes: readonly string[];
  isEnabled: boolean;
  expiresAt: number | null;
  isDeleted: boolean;
  readonly keys: ModelKey[];
}

/** What should be true, without a database. */
interface Model {
  readonly clients: Map<number, ModelClient>;
  /** Of the changes: for each one event, in their order. */
  readonly events: { action: string; clientId: number }[];
  largestKeyId: number;
}

/** A gateway's memory on the database, with a clock that is turned. */
interface Process {
  readonly opened: OpenedStore;
  readonly clients: ApiClients;
  readonly keys: ApiKeys;
  readonly declarations: Declarations;
  readonly authenticate: Authenticate;
  /** Resolves when every change until now has been followed. */
  readonly catchUp: () => Promise<void>;
  readonly close: () => Promise<void>;
}

interface World {
  time: number;
  readonly open: OpenStore;
  readonly processes: Process[];
}

async function startProcess(world: World): Promise<Process> {
  const opened = await world.open();
  const { store } = opened;
  const monotonicNow = () => performance.now();
  const directory = createClientDirectory({ store, monotonicNow });
  let waiting: { readonly since: number; readonly resolve: () => void }[] = [];
  const feed = await opened.follow({
    monotonicNow,
    onChange: directory.forget,
    onReset: () => assert.fail('the revision went back'),
    onConfirmed: (at) => {
      directory.confirm(at);
      for (const { since, resolve } of waiting) if (since <= at) resolve();
      waiting = waiting.filter(({ since }) => since > at);
    },
    onLost: (cause) => assert.fail(cause as Error),
    onRecovered: () => undefined,
    interval: 1,
  });
  const now = () => world.time;
  const domain = { store, now, onChange: directory.forget };
  return {
    opened,
    clients: createApiClients({ ...domain, flushUses: () => Promise.resolve(new Set()) }),
    keys: createApiKeys(domain),
    declarations: createDeclarations(domain),
    authenticate: createAuthenticator({
      hasImportedKeys: () => false,
      findClient: directory.find,
      findClientByApiClientId: directory.findByApiClientId,
      verifyToken: () => ({ outcome: 'unavailable', cause: 'there is no issuer here' }),
      now,
      onUsed: () => undefined,
    }),
    catchUp: () => new Promise((resolve) => waiting.push({ since: performance.now(), resolve })),
    close: async () => {
      await feed.stop();
      await opened.close();
    },
  };
}

function expectedVerdict({ time }: World, client: ModelClient, key: ModelKey): string {
  if (client.isDeleted || key.isDeleted) return 'unknown_key';
  if (key.isRevoked) return 'key_revoked';
  if (key.expiresAt !== null && key.expiresAt <= time) return 'key_expired';
  if (!client.isEnabled) return 'client_disabled';
  return client.expiresAt !== null && client.expiresAt <= time ? 'client_expired' : 'granted';
}

const everything = { limit: 10_000, sort: 'id', isDescending: false, after: undefined, now: 0 } as const;
const allEvents = { limit: 10_000, isDescending: false, after: undefined } as const;

const shown = ({ id, apiClientId, name, scopes, isEnabled, expiresAt, keys }: ClientWithKeys) => ({
  ...{ id, apiClientId, name, scopes, isEnabled, expiresAt },
  keys: keys.map((key) => [key.id, key.expiresAt, key.replacedAt !== null, key.revokedAt !== null]),
});
const shownOf = ({ id, apiClientId, name, scopes, isEnabled, expiresAt, keys }: ModelClient) => ({
  ...{ id, apiClientId, name, scopes, isEnabled, expiresAt },
  keys: keys.filter((key) => !key.isDeleted).map((key) => [key.id, key.expiresAt, key.isReplaced, key.isRevoked]),
});

const verdicts = new Set<string>();

/** The database is what the model is, seen by every process, also by its decisions. */
async function compare(model: Model, world: World, doer: Process): Promise<void> {
  const alive = [...model.clients.values()].filter((client) => !client.isDeleted);
  for (const { opened, authenticate, catchUp } of world.processes) {
    // who has made the change knows of it at once, the others by the feed
    if (opened !== doer.opened) await catchUp();
    for (const client of model.clients.values()) {
      for (const key of client.keys) {
        const decision = await authenticate(policy, { authorization: `apk ${key.token}`, clientAddress: '' });
        const verdict = decision.outcome === 'granted' ? 'granted' : decision.reason;
        verdicts.add(verdict);
        assert.equal(verdict, expectedVerdict(world, client, key), `key ${key.id} of client ${client.id}`);
      }
    }
    const { store } = opened;
    assert.deepEqual((await store.list(everything)).map(shown), alive.map(shownOf));
    for (const client of model.clients.values()) {
      const [byId, byName] = [await store.find(client.id), await store.findByApiClientId(client.apiClientId)];
      assert.deepEqual(byId && shown(byId), client.isDeleted ? undefined : shownOf(client));
      const holder = alive.find(({ apiClientId }) => apiClientId === client.apiClientId);
      assert.equal(byName?.id, holder?.id);
    }
    const events = await store.listEvents(allEvents);
    assert.deepEqual(
      events.map(({ action, clientId, outcome, revision }) => ({ action, clientId, outcome, revision })),
      // one event for each change, and one revision more for each event
      model.events.map((event, index) => ({ ...event, outcome: 'done', revision: index + 1 })),
    );
    assert.equal(await opened.revision(), model.events.length);
  }
}

/** What a step draws: a process, a client, a key of it, and a number of hours. */
interface Draw {
  readonly process: number;
  readonly client: number;
  readonly key: number;
  readonly hours: number;
}

interface Scene extends Omit<Draw, 'process' | 'client' | 'key'> {
  readonly model: Model;
  readonly world: World;
  readonly doer: Process;
  readonly client: ModelClient;
  readonly key: ModelKey;
}

function addClient(model: Model, client: ClientWithKeys, token: string | undefined): void {
  const largest = Math.max(0, ...model.clients.keys());
  assert.ok(client.id > largest, `the id ${client.id} after ${largest}`);
  const { id, apiClientId, name, scopes, isEnabled, expiresAt } = client;
  const made: ModelClient = { id, apiClientId, name, scopes, isEnabled, expiresAt, isDeleted: false, keys: [] };
  model.clients.set(id, made);
  assert.equal(client.keys.length, token === undefined ? 0 : 1);
  for (const key of client.keys) addKey(model, made, key, token ?? '');
}

function addKey(model: Model, client: ModelClient, key: { id: number; expiresAt: number | null }, token: string): void {
  assert.ok(key.id > model.largestKeyId, `the id ${key.id} after ${model.largestKeyId}`);
  model.largestKeyId = key.id;
  const { id, expiresAt } = key;
  client.keys.push({ id, token, expiresAt, isReplaced: false, isRevoked: false, isDeleted: false });
}

const names = ['a', 'b', 'c'];

const steps = {
  async create({ model, doer, hours }: Scene) {
    const { client, token } = await doer.clients.create({ ...nothingParticular, scopes: [`s${hours}`] }, actor);
    addClient(model, client, token);
    model.events.push({ action: 'api_client.create', clientId: client.id });
  },
  async createNamed({ model, doer, hours }: Scene) {
    const apiClientId = names[hours % names.length] ?? '';
    const holder = [...model.clients.values()].find((one) => !one.isDeleted && one.apiClientId === apiClientId);
    const request = { ...nothingParticular, apiClientId, name: 'named', generateApiKey: hours % 2 === 0 };
    const create = doer.clients.create(request, actor);
    if (holder) {
      await assert.rejects(create, DuplicateApiClientId);
      return;
    }
    const { client, token } = await create;
    addClient(model, client, token);
    model.events.push({ action: 'api_client.create', clientId: client.id });
  },
  async rename({ model, doer, client, hours }: Scene) {
    const apiClientId = names[hours % names.length] ?? '';
    const holder = [...model.clients.values()].find((one) => !one.isDeleted && one.apiClientId === apiClientId);
    const update = doer.clients.update(client.id, { apiClientId, name: `n${hours}` }, actor, safeguard);
    if (!client.isDeleted && holder && holder !== client) {
      await assert.rejects(update, DuplicateApiClientId);
      return;
    }
    assert.equal((await update) !== undefined, !client.isDeleted);
    if (client.isDeleted) return;
    Object.assign(client, { apiClientId, name: `n${hours}` });
    model.events.push({ action: 'api_client.update', clientId: client.id });
  },
  disable: (scene: Scene) => update(scene, { isEnabled: false }),
  enable: (scene: Scene) => update(scene, { isEnabled: true }),
  expire: (scene: Scene) =>
    update(scene, { expiresAt: scene.hours === 0 ? null : scene.world.time + (scene.hours - 2) * hour }),
  async remove({ model, doer, client }: Scene) {
    assert.equal(await doer.clients.remove(client.id, actor, safeguard), !client.isDeleted);
    if (client.isDeleted) return;
    client.isDeleted = true;
    model.events.push({ action: 'api_client.delete', clientId: client.id });
  },
  async createKey({ model, world, doer, client, hours }: Scene) {
    const created = await doer.keys.create(client.id, hours === 0 ? null : world.time + hours * hour, actor);
    assert.equal(created !== undefined, !client.isDeleted);
    if (!created) return;
    addKey(model, client, created.key, created.token);
    model.events.push({ action: 'api_key.create', clientId: client.id });
  },
  async rotate({ model, world, doer, client, hours }: Scene) {
    const overlap = hours * hour;
    const rotated = await doer.keys.rotate(client.id, { overlap, expiresAt: null }, actor, safeguard);
    assert.equal(rotated !== undefined, !client.isDeleted);
    if (!rotated) return;
    for (const key of client.keys) {
      if (key.isDeleted || key.isRevoked || (key.expiresAt ?? Infinity) <= world.time) continue;
      Object.assign(key, { expiresAt: Math.min(key.expiresAt ?? Infinity, world.time + overlap), isReplaced: true });
    }
    addKey(model, client, rotated.key, rotated.token);
    model.events.push({ action: 'api_key.rotate', clientId: client.id });
  },
  async removeKey({ model, doer, client, key }: Scene) {
    const remove = doer.keys.remove(client.id, key.id, actor, safeguard);
    if (client.isDeleted) {
      assert.equal(await remove, undefined);
    } else if (key.isDeleted) {
      await assert.rejects(remove, UnknownKey);
    } else {
      await remove;
      key.isDeleted = true;
      model.events.push({ action: 'api_key.delete', clientId: client.id });
    }
  },
  async reportLeak({ model, doer, client, key }: Scene) {
    const credential = parseApiKey(key.token);
    assert.ok(credential);
    const isKnown = !client.isDeleted && !key.isDeleted;
    assert.equal(await doer.keys.reportLeak(credential, actor, '192.0.2.1'), isKnown);
    // said again, it is no change
    if (!isKnown || key.isRevoked) return;
    key.isRevoked = true;
    model.events.push({ action: 'api_key.leak', clientId: client.id });
  },
  async applyWhatIsThere({ doer }: Scene) {
    const declared: DeclaredClient[] = [];
    for await (const page of doer.declarations.exportAll()) declared.push(...page);
    const options = { dryRun: false, prune: false, force: true, revision: undefined, areTokensAccepted: false };
    const { changes } = await doer.declarations.apply(declared, options, actor);
    assert.deepEqual(changes, []);
  },
  pass({ world, hours }: Scene) {
    world.time += hours * hour;
    return Promise.resolve();
  },
  async restart({ world, doer }: Scene) {
    await doer.close();
    world.processes[world.processes.indexOf(doer)] = await startProcess(world);
  },
};

async function update(
  { model, doer, client }: Scene,
  changes: Partial<Pick<ModelClient, 'isEnabled' | 'expiresAt'>>,
): Promise<void> {
  const updated = await doer.clients.update(client.id, changes, actor, safeguard);
  assert.equal(updated !== undefined, !client.isDeleted);
  if (!updated) return;
  Object.assign(client, changes);
  model.events.push({ action: 'api_client.update', clientId: client.id });
}

class Step implements fc.AsyncCommand<Model, World> {
  readonly what: keyof typeof steps;
  readonly draw: Draw;

  constructor(what: keyof typeof steps, draw: Draw) {
    this.what = what;
    this.draw = draw;
  }

  check({ clients }: Readonly<Model>): boolean {
    return ['create', 'createNamed'].includes(this.what) || [...clients.values()].some(({ keys }) => keys.length > 0);
  }

  async run(model: Model, world: World): Promise<void> {
    const { process, client: which, key, hours } = this.draw;
    const doer = world.processes[process % world.processes.length];
    assert.ok(doer);
    // another one may have acted before
    await doer.catchUp();
    const withKeys = [...model.clients.values()].filter(({ keys }) => keys.length > 0);
    const client = withKeys[which % withKeys.length] as ModelClient;
    // the first steps make clients, and look at none
    const chosen = (withKeys.length === 0 ? undefined : client.keys[key % client.keys.length]) as ModelKey;
    await steps[this.what]({ model, world, doer, client, key: chosen, hours });
    await compare(model, world, world.processes[process % world.processes.length] as Process);
  }

  toString(): string {
    const { process, client, key, hours } = this.draw;
    return `${this.what}(process ${process}, client ${client}, key ${key}, ${hours} h)`;
  }
}

const draws = fc.record({ process: fc.nat({ max: 1 }), client: fc.nat(), key: fc.nat(), hours: fc.nat({ max: 5 }) });
const whats = Object.keys(steps) as (keyof typeof steps)[];
const lives = fc.commands(
  whats.map((what) => draws.map((draw) => new Step(what, draw))),
  { maxCommands: 30, size: 'max' },
);

for (const kind of databaseKinds) {
  suite(`the store, in ${kind}`, () => {
    test('is what a model says after every step of any life, for two processes and through restarts', async () => {
      let changes = 0;
      const live = () =>
        fc.assert(
          fc.asyncProperty(lives, async (life) => {
            const world: World = { time: Date.UTC(2030, 0, 1), open: await newStore(kind), processes: [] };
            world.processes.push(await startProcess(world), await startProcess(world));
            const model: Model = { clients: new Map(), events: [], largestKeyId: 0 };
            try {
              await fc.asyncModelRun(() => ({ model, real: world }), life);
              changes += model.events.length;
            } finally {
              for (const process of world.processes) await process.close();
            }
          }),
          // to begin anew takes PostgreSQL some seconds
          runs(kind === 'SQLite' ? 14 : 4),
        );
      const expected = ['client_disabled', 'client_expired', 'granted', 'key_expired', 'key_revoked', 'unknown_key'];
      const missing = () => expected.filter((verdict) => !verdicts.has(verdict));
      // lives may be short and alike: until they were varied enough to mean something
      for (let time = 0; time < 10 && (time === 0 || changes < 20 || missing().length > 0); time++) await live();
      assert.ok(changes >= 20, `${changes} changes`);
      assert.deepEqual(missing(), []);
    });
  });
}
