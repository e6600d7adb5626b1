import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import fc from 'fast-check';
import { startGateway, stopGateway, type GatewayProcess } from '../support/gateway.ts';
import { runs } from '../support/runs.ts';

type Json = Record<string, unknown>;

suite('a body that is sent to the management API', () => {
  let gateway: GatewayProcess;
  let key: string;
  before(async () => {
    gateway = await startGateway(undefined, { API_KEY_CREATE: 'true' });
    key = gateway.firstKey();
  });
  after(() => stopGateway(gateway));

  const text = fc.oneof(
    fc.string({ unit: fc.constantFrom('a', 'Z', ' ', 'é', '語', '1', '-', ':'), maxLength: 8 }),
    fc.constantFrom('', ' a', 'a\n', 'a\u200b', '🤖', 'e\u0308', '\ud800', 'a'.repeat(1025), '語'.repeat(114)),
  );
  const time = fc.constantFrom(
    ...['2099-01-01T00:00:00Z', '2099-12-31T23:59:59.123456+14:00', '2020-01-01T00:00:00Z', '9999-12-31T23:59:59Z'],
    ...['9999-12-31T23:59:59-01:00', '0000-01-01T00:00:00Z', '0000-01-01T00:00:00+23:59', '2099-02-30T00:00:00Z'],
    ...['tomorrow', '2099-01-01', '2099-01-01T00:00:00'],
  );
  const flag = fc.constantFrom<unknown>(true, false, 'true', 'false', 'yes', 1, null);
  const rate = fc.constantFrom<unknown>('100/s', '1/d', '0/s', '1/y', '999999999/h', '1000000000/s', null, 5);
  const list = (item: fc.Arbitrary<unknown>) => fc.oneof(fc.array(item, { maxLength: 3 }), fc.constant<unknown>(null));
  const members: Record<string, fc.Arbitrary<unknown>> = {
    name: text,
    api_client_id: text,
    description: fc.option(text),
    tags: list(text),
    scopes: list(fc.constantFrom<unknown>('a', 'orders.read', 'a b', '"', '', 7)),
    allowed_cidrs: list(
      fc.constantFrom(
        '192.0.2.0/24',
        '192.0.2.1/24',
        '::/0',
        '::1%a-b/128',
        '::192.0.2.1/128',
        '::ffff:1.2.3.4/128',
        'x',
      ),
    ),
    is_admin: flag,
    enabled: flag,
    expires_at: fc.option(time),
    rate_limit: rate,
    rate_limit_burst: fc.constantFrom<unknown>(1, 0, -1, 1.5, '1', null, 999_999_999),
    quota: rate,
    'a/b~c': fc.constant(1),
    id: fc.constant(1),
  };
  const bodies = fc.oneof(
    { arbitrary: fc.record(members, { requiredKeys: [], noNullPrototype: true }), weight: 1 },
    {
      // few members, so that many bodies are right
      arbitrary: fc
        .tuple(fc.record(members, { noNullPrototype: true }), fc.subarray(Object.keys(members), { maxLength: 2 }))
        .map(([all, names]): Json => Object.fromEntries(names.map((name) => [name, all[name]]))),
      weight: 3,
    },
  );

  /** All clients as they are, but for what using the administrator's key leaves. */
  async function stored(): Promise<unknown> {
    const { json } = await gateway.manage('GET', '', key);
    return (json as unknown as Json[]).map((client) => ({ ...client, last_used_at: null }));
  }

  /** RFC 6901: the member is there, or is one that the body lacks. */
  function follow(body: unknown, pointer: string): boolean {
    const path = pointer
      .split('/')
      .slice(1)
      .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    return path.reduce<unknown>((value, name) => (value as Json | undefined)?.[name], body) !== undefined;
  }

  const toMoment = (value: unknown) => (typeof value === 'string' ? Date.parse(value) : value);

  /** Every member of the body is in the client, in the one form that the API shows it in. */
  function expectMembers(client: Json, body: Json, isUpdate: boolean): void {
    for (const [name, value] of Object.entries(body)) {
      const shown = client[name];
      if (name === 'expires_at') assert.equal(toMoment(shown), toMoment(value));
      else if (name === 'is_admin' || name === 'enabled') assert.equal(shown, String(value) === 'true');
      else if (isUpdate && value === null && ['tags', 'scopes', 'allowed_cidrs'].includes(name))
        assert.deepEqual(shown, []);
      else assert.deepEqual(shown, value, name);
    }
  }

  test('is stored as it is and read back so, or refused with pointers that lead into it, and nothing is stored', async () => {
    const counts = { stored: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(bodies, bodies, async (first, second) => {
        const before = await stored();
        const created = await gateway.manage('POST', '', key, first);
        const { id } = created.json;
        if (created.status !== 201) {
          expectRefusal(created, first);
          counts.refused++;
          assert.deepEqual(await stored(), before);
          return;
        }
        counts.stored++;
        const read = await gateway.manage('GET', `/${String(id)}`, key);
        expectMembers(read.json, first, false);
        const updated = await gateway.manage('PUT', `/${String(id)}?force=true`, key, second);
        const after = await gateway.manage('GET', `/${String(id)}`, key);
        if (updated.status === 200) {
          expectMembers(after.json, second, true);
          // what is shown can be sent again, and changes nothing
          const settable = Object.fromEntries(
            Object.keys(members).flatMap((name) =>
              name in after.json && name !== 'id' ? [[name, after.json[name]]] : [],
            ),
          );
          const again = await gateway.manage('PUT', `/${String(id)}?force=true`, key, settable);
          assert.equal(again.status, 200, JSON.stringify(again.json));
          assert.deepEqual({ ...again.json, updated_at: null }, { ...after.json, updated_at: null });
        } else {
          expectRefusal(updated, second);
          assert.deepEqual(after.json, read.json);
        }
        // the bootstrap key counts for no administrator, so this may be the last one
        assert.equal((await gateway.manage('DELETE', `/${String(id)}?force=true`, key)).status, 204);
      }),
      runs(60),
    );
    assert.ok(counts.stored > 5 && counts.refused > 5, JSON.stringify(counts));
  });

  function expectRefusal({ status, json }: { status: number; json: Json }, body: Json): void {
    assert.ok(status === 400 || status === 409, `${status} for ${JSON.stringify(body)}`);
    const errors = json['errors'] as { pointer: string }[];
    assert.ok(errors.length > 0);
    for (const { pointer } of errors) assert.ok(follow(body, pointer), `${pointer} in ${JSON.stringify(body)}`);
  }
});
