import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { createTokenVerifier, type Keys } from '../../src/auth/access-token.ts';
import { createAuthenticator, type Authenticate } from '../../src/auth/authenticator.ts';
import { encodeHeaderValue, fitsHeader } from '../../src/auth/header-value.ts';
import { createPolicyCompiler, nothingSet } from '../../src/auth/policy.ts';
import { createApiClients, nothingParticular } from '../../src/clients/api-clients.ts';
import { createClientDirectory } from '../../src/clients/client-directory.ts';
import { runs } from '../support/runs.ts';
import { root } from '../support/stack.ts';
import { newStore, type OpenedStore } from '../support/stores.ts';

const issuer = 'https://issuer.example';
const now = 1_800_000_000;

suite('a credential that is not exactly the one that was given out', () => {
  const pair = generateKeyPairSync('ed25519');
  const keysOfIssuer: Keys = {
    version: () => 1,
    lookUp: (alg, _, refusedBy) =>
      alg === 'EdDSA' && refusedBy === undefined
        ? { outcome: 'found', issuer, version: 1, keys: [pair.publicKey] }
        : { outcome: 'unknown' },
  };
  const policy = createPolicyCompiler({ allowInsecureHttp: false })({
    ...nothingSet,
    ...{ api_keys_enabled: 'on', open_id_connect_enabled: 'on', oidc_discovery: issuer, oidc_audience: 'api' },
  });
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${encode({ alg: 'EdDSA', kid: 'one' })}.${encode({ iss: issuer, aud: 'api', sub: 'abc123', exp: now + 60 })}`;
  const token = `${signed}.${sign(null, Buffer.from(signed), pair.privateKey).toString('base64url')}`;

  let opened: OpenedStore;
  let authenticate: Authenticate;
  let hasImportedKeys = false;
  const keys: string[] = [];
  before(async () => {
    opened = await (await newStore('SQLite'))();
    const { store } = opened;
    const domain = {
      store,
      now: Date.now,
      onChange: () => undefined,
      flushUses: () => Promise.resolve(new Set<number>()),
    };
    const clients = createApiClients(domain);
    // with ids of one and of two digits, so that one is another with a digit more
    for (let count = 1; count <= 12; count++)
      keys.push((await clients.create(nothingParticular, { clientId: null, requestId: null })).token ?? '');
    await clients.create({ ...nothingParticular, apiClientId: 'abc123' }, { clientId: null, requestId: null });
    const directory = createClientDirectory({ store, monotonicNow: () => 0 });
    authenticate = createAuthenticator({
      hasImportedKeys: () => hasImportedKeys,
      findClient: directory.find,
      findClientByApiClientId: directory.findByApiClientId,
      verifyToken: createTokenVerifier({ findKeys: () => keysOfIssuer, now: () => now * 1_000 }),
      now: () => now * 1_000,
      onUsed: () => undefined,
    });
  });
  after(() => opened.close());

  const decide = async (authorization: string) =>
    (await authenticate(policy, { authorization, clientAddress: '' })).outcome;

  test('is refused with any character of an API key changed, added, left out or moved, also without its checksum', async () => {
    const edits = fc.record({
      key: fc.nat({ max: 11 }),
      at: fc.nat({ max: 66 }),
      removed: fc.nat({ max: 2 }),
      added: fc.string({
        unit: fc.constantFrom('a', 'Z', '0', '1', '9', '.', '-', '_', '=', '+', '/', ' '),
        maxLength: 2,
      }),
      isSwapped: fc.boolean(),
      isImported: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(edits, async ({ key, at, removed, added, isSwapped, isImported }) => {
        const good = keys[key] ?? '';
        hasImportedKeys = isImported;
        assert.equal(await decide(`apk ${good}`), 'granted');
        const [one = '', other = ''] = good.slice(at, at + 2);
        const changed = isSwapped
          ? good.slice(0, at) + other + one + good.slice(at + 2)
          : good.slice(0, at) + added + good.slice(at + removed);
        // spaces before a key belong to nobody
        if (changed.trimStart() !== good) assert.equal(await decide(`apk ${changed}`), 'unauthenticated', changed);
      }),
      runs(1_500),
    );
  });

  test('is refused with any bit of an access token turned', async () => {
    assert.equal(await decide(`Bearer ${token}`), 'granted');
    const bits = fc.tuple(fc.nat({ max: token.length - 1 }), fc.nat({ max: 7 }));
    const seen = new Set<string>();
    const refuse = async (at: number, bit: number) => {
      const bytes = Buffer.from(token);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      const decision = await authenticate(policy, {
        authorization: `Bearer ${bytes.toString('latin1')}`,
        clientAddress: '',
      });
      assert.equal(decision.outcome, 'unauthenticated');
      if ('reason' in decision) seen.add(decision.reason);
    };
    await fc.assert(
      fc.asyncProperty(bits, async ([at, bit]) => refuse(at, bit)),
      runs(600),
    );
    // also in the last character, some of whose bits encode nothing
    for (let bit = 0; bit < 8; bit++) await refuse(token.length - 1, bit);
    assert.ok(seen.has('bad_signature') && seen.has('malformed_token') && seen.has('malformed_credential'));
  });

  test('is refused with any byte of what the token says changed, however it is written as text again', async () => {
    const [head = '', payload = '', signature = ''] = token.split('.');
    const parts = [head, payload, signature].map((part) => Buffer.from(part, 'base64url'));
    const change = fc.record({
      part: fc.nat({ max: 2 }),
      at: fc.nat(),
      removed: fc.nat({ max: 3 }),
      added: fc.oneof(
        fc.uint8Array({ maxLength: 3 }),
        fc.constantFrom('"', ' ', ',"x":1', '0').map((text) => Buffer.from(text)),
      ),
    });
    await fc.assert(
      fc.asyncProperty(change, async ({ part, at, removed, added }) => {
        const changed = parts.map((bytes, index) => {
          const cut = at % (bytes.length + 1);
          return index === part ? Buffer.concat([bytes.subarray(0, cut), added, bytes.subarray(cut + removed)]) : bytes;
        });
        const text = changed.map((bytes) => bytes.toString('base64url')).join('.');
        if (text !== token) assert.equal(await decide(`Bearer ${text}`), 'unauthenticated');
      }),
      runs(600),
    );
  });
});

suite('a value in a header, decoded as docs/protect.md says', () => {
  const documented = /\| JavaScript \| `(decodeURIComponent\(value\))` \|/.exec(
    readFileSync(join(root, 'docs/protect.md'), 'utf8'),
  )?.[1];
  const decode = runInNewContext(`(value) => ${documented ?? 'undefined'}`) as (value: string) => string;
  // of half a surrogate pair there is no UTF-8, so it is the replacement character (WHATWG Encoding)
  const wellFormed = (text: string) => Buffer.from(text).toString();
  const texts = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.string({ unit: 'grapheme', maxLength: 300 }),
    fc.string({ unit: fc.constantFrom(' ', '%', 'a', '\ud800', '\udc00', '\r', '\n', 'é', '😀', '\0'), maxLength: 40 }),
    fc.string({ unit: fc.constantFrom('a', ' ', 'é', '語', '😀'), minLength: 100, maxLength: 1_100 }),
  );

  test('is the text, or as many whole characters from its beginning as fit, in visible ASCII and at most 1 KB', () => {
    let cut = 0;
    fc.assert(
      fc.property(texts, (text) => {
        const value = encodeHeaderValue(text);
        assert.match(value, /^(?:[!-~](?:[ -~]*[!-~])?)?$/);
        assert.ok(value.length <= 1024);
        const decoded = decode(value);
        const whole = wellFormed(text);
        assert.equal(fitsHeader(text), decoded === text);
        if (decoded === whole) return;
        cut++;
        assert.ok(whole.startsWith(decoded) && wellFormed(decoded) === decoded);
        // one more character, and it would have been too long; spaces are cut off with it, and the text's last one is %20
        const rest = whole.slice(decoded.length);
        const [missing = ''] = /^ *[^ ]?/u.exec(rest) ?? [];
        const end = missing === rest ? '' : 'a';
        const needed = encodeHeaderValue(`a${missing}${end}`).length - `a${end}`.length;
        assert.ok(value.length + needed > 1024);
      }),
      runs(1_000),
    );
    assert.ok(cut > 5, `${cut} were cut`);
  });

  test('is one of its own for each text that fits', () => {
    fc.assert(
      fc.property(texts, texts, (one, other) => {
        if (!fitsHeader(one) || !fitsHeader(other)) return;
        assert.equal(encodeHeaderValue(one) === encodeHeaderValue(other), one === other);
      }),
      runs(500),
    );
  });
});
