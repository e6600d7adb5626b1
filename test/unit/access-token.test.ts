import assert from 'node:assert/strict';
import { constants, generateKeyPairSync, sign as signBytes, type KeyObject } from 'node:crypto';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { errors, jwtVerify } from 'jose';
import {
  createTokenMemory,
  createTokenVerifier,
  type Keys,
  type TokenOutcome,
  type VerifiedToken,
} from '../../src/auth/access-token.ts';
import { createAuthenticator } from '../../src/auth/authenticator.ts';
import { createPolicyCompiler, nothingSet, type Policy, type TokenPolicy } from '../../src/auth/policy.ts';
import { isSignedBy } from '../../src/auth/signature.ts';
import { parseKeySet } from '../../src/oidc/key-set.ts';
import { madeUpKey } from '../support/keys.ts';

const issuer = 'https://issuer.example';
const now = 1_800_000_000;
const pairs: Readonly<Record<string, { readonly publicKey: KeyObject; readonly privateKey: KeyObject }>> = {
  rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  'other-rsa': generateKeyPairSync('rsa', { modulusLength: 2048 }),
  'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'P-521': generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  ed25519: generateKeyPairSync('ed25519'),
};
const keyOf: Readonly<Record<string, string>> = {
  ...{ RS256: 'rsa', RS384: 'rsa', RS512: 'rsa', PS256: 'rsa', PS384: 'rsa', PS512: 'rsa' },
  ...{ ES256: 'P-256', ES384: 'P-384', ES512: 'P-521', EdDSA: 'ed25519', Ed25519: 'ed25519' },
};
const algorithms = Object.keys(keyOf);
const pairOf = (kid: string) => pairs[kid] ?? assert.fail(kid);

/** The keys of an issuer that has been asked a moment ago. */
const keySet = parseKeySet({
  keys: Object.entries(pairs).map(([kid, { publicKey }]) => ({ ...publicKey.export({ format: 'jwk' }), kid })),
});
const keys: Keys = {
  version: () => 1,
  lookUp(alg, kid, refusedBy) {
    const matching = keySet.filter((key) => key.algorithms.includes(alg) && (kid === undefined || key.kid === kid));
    if (refusedBy !== undefined || matching.length === 0) return { outcome: 'unknown' };
    return { outcome: 'found', issuer, version: 1, keys: matching.map(({ key }) => key) };
  },
};

const compile = createPolicyCompiler({ allowInsecureHttp: false });
const policy: Policy = compile({
  ...nothingSet,
  ...{ api_keys_enabled: 'on', open_id_connect_enabled: 'on' },
  ...{ oidc_discovery: issuer, oidc_audience: 'api other-api', oidc_max_lifetime: '366d' },
});
const tokenPolicy: TokenPolicy = policy.tokens ?? assert.fail(policy.problems.join());

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const goodClaims = { iss: issuer, aud: 'api', sub: 'abc123', iat: now, exp: now + 300 };

/** How an honest signer signs, but for what `change` says. */
function sign(alg: string, key: KeyObject, input: string, change: object = {}): Buffer {
  const digest = key.asymmetricKeyType === 'ed25519' ? null : `sha${alg.slice(2)}`;
  const { RSA_PKCS1_PSS_PADDING: padding, RSA_PSS_SALTLEN_DIGEST: saltLength } = constants;
  const pss = alg.startsWith('PS') && { padding, saltLength };
  return signBytes(digest, Buffer.from(input), { key, dsaEncoding: 'ieee-p1363', ...pss, ...change });
}

function makeToken(claims: object, alg = 'ES256', kid = keyOf[alg] ?? ''): string {
  const input = `${encode({ alg, kid })}.${encode(claims)}`;
  return `${input}.${sign(alg, pairOf(kid).privateKey, input).toString('base64url')}`;
}

const createVerifier = (options: Partial<Parameters<typeof createTokenVerifier>[0]> = {}) =>
  createTokenVerifier({ findKeys: () => keys, now: () => now * 1_000, ...options });
const verdictOf = (outcome: TokenOutcome) => (outcome.outcome === 'rejected' ? outcome.reason : outcome.outcome);

/** What jose says under the same policy, in our words. */
async function judgeByJose(token: string, key: KeyObject): Promise<string> {
  try {
    await jwtVerify(token, key, {
      algorithms: [...tokenPolicy.algorithms],
      issuer,
      audience: [...(tokenPolicy.audiences ?? [])],
      requiredClaims: ['exp', 'aud'],
      clockTolerance: tokenPolicy.clockTolerance,
      currentDate: new Date(now * 1_000),
    });
    return 'verified';
  } catch (error) {
    if (error instanceof errors.JWTExpired) return 'token_expired';
    if (!(error instanceof errors.JWTClaimValidationFailed)) return 'refused';
    if (error.claim === 'aud') return 'wrong_audience';
    if (error.claim === 'iss') return 'wrong_issuer';
    return error.claim === 'nbf' && error.reason === 'check_failed' ? 'token_not_yet_valid' : 'invalid_claim';
  }
}

suite('an access token is verified as jose would', () => {
  const verify = createVerifier();
  const absent = fc.constant(undefined);
  const odd = fc.constantFrom(null, '', '0', true, [], {}, [1]);
  const near = fc.integer({ min: now - 40, max: now + 40 });
  const time = fc.oneof(near, near, absent, odd, fc.double({ min: now - 40, max: now + 40, noNaN: true }));
  const claimSets = fc.record({
    iss: fc.oneof(fc.constant(issuer), fc.constant(issuer), absent, odd, fc.constantFrom(`${issuer}/`, [issuer])),
    aud: fc.oneof(
      fc.constantFrom<unknown>('api', 'other-api', ['x', 'api'], ['api', 1], [null, 'other-api']),
      absent,
      odd,
      fc.constantFrom<unknown>('ap', 'api ', 'API', ['x'], [['api']], { api: 'api' }),
    ),
    exp: fc.oneof(fc.constant(now + 300), time, fc.constantFrom(0, -1)),
    nbf: fc.oneof(absent, time),
    iat: fc.oneof(fc.constant(now), time),
    sub: fc.constant('abc123'),
  });

  test('whatever its claims are, and for the same reason', async () => {
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(claimSets, fc.constantFrom('ES256', 'EdDSA'), async (claims, alg) => {
        const token = makeToken(claims, alg);
        const byJose = await judgeByJose(token, pairOf(keyOf[alg] ?? '').publicKey);
        // jose looks at an iat only where tokens have a greatest age
        const isEarly = byJose === 'verified' && Number(claims.iat ?? 0) > now + tokenPolicy.clockTolerance;
        const verdict = verdictOf(await verify(tokenPolicy, token));
        seen.add(verdict);
        assert.equal(verdict, isEarly ? 'token_not_yet_valid' : byJose);
      }),
      { numRuns: 1_000 },
    );
    for (const verdict of ['verified', 'token_expired', 'wrong_audience', 'wrong_issuer', 'invalid_claim'])
      assert.ok(seen.has(verdict), `none was ${verdict}`);
  });

  const mutations: Readonly<Record<string, (signature: Buffer, at: number) => Buffer>> = {
    flipped: (signature, at) => {
      const changed = Buffer.from(signature);
      const index = at % Math.max(changed.length, 1);
      changed[index] = (changed[index] ?? 0) ^ (1 << (at % 8));
      return changed;
    },
    shortened: (signature, at) => signature.subarray(0, -1 - (at % 3)),
    lengthened: (signature, at) => Buffer.concat([signature, Buffer.alloc(1 + (at % 3))]),
    'with a zero in front': (signature) => Buffer.concat([Buffer.alloc(1), signature]),
    zero: (signature) => Buffer.alloc(signature.length),
    'all ones': (signature) => Buffer.alloc(signature.length, 0xff),
    doubled: (signature) => Buffer.concat([signature, signature]),
    'one byte': () => Buffer.alloc(1),
    'with its halves exchanged': (signature) =>
      Buffer.concat([signature.subarray(signature.length / 2), signature.subarray(0, signature.length / 2)]),
  };
  const untouched = (signature: Buffer) => signature;

  test('whatever signed it, with whatever algorithm, and whatever happened to the signature', async () => {
    let accepted = 0;
    const cases = fc.record({
      alg: fc.constantFrom(...algorithms),
      // told of the algorithm, the key that is named and the key that signs, none need fit another
      signedAs: fc.option(fc.constantFrom(...algorithms), { nil: undefined, freq: 2 }),
      kid: fc.option(fc.constantFrom(...Object.keys(pairs)), { nil: undefined, freq: 2 }),
      signer: fc.option(fc.constantFrom(...Object.keys(pairs)), { nil: undefined, freq: 2 }),
      change: fc.constantFrom<object>({}, {}, {}, { saltLength: 0 }, { saltLength: 20 }, { dsaEncoding: 'der' }),
      mutate: fc.oneof(fc.constant(untouched), fc.constantFrom(...Object.values(mutations))),
      at: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ alg, signedAs = alg, change, mutate, at, ...named }) => {
        const { kid = keyOf[alg] ?? '' } = named;
        const { signer = keyOf[signedAs] ?? '' } = named;
        const input = `${encode({ alg, kid })}.${encode(goodClaims)}`;
        const { privateKey } = pairOf(signer);
        // a digest for a key that has its own says nothing
        const digestOf = signedAs.startsWith('Ed') ? 'ES256' : signedAs;
        const isRsa = privateKey.asymmetricKeyType === 'rsa';
        const as = isRsa ? digestOf.replace('ES', 'RS') : digestOf.replace('PS', 'RS');
        const signature = mutate(sign(as, privateKey, input, change), at);
        const token = `${input}.${signature.toString('base64url')}`;
        const isVerified = (await judgeByJose(token, pairOf(kid).publicKey)) === 'verified';
        if (isVerified) accepted++;
        const verdict = verdictOf(await verify(tokenPolicy, token));
        assert.equal(verdict === 'verified', isVerified, `${verdict} in place of ${String(isVerified)}`);
      }),
      { numRuns: 1_500 },
    );
    assert.ok(accepted > 50, `${accepted} were accepted`);
  });

  for (const alg of algorithms) {
    test(`with ${alg}: a good signature is one, and no mutation of it is`, async () => {
      const token = makeToken(goodClaims, alg);
      assert.equal(verdictOf(await verify(tokenPolicy, token)), 'verified');
      const [head = '', payload = '', text = ''] = token.split('.');
      const signature = Buffer.from(text, 'base64url');
      for (const [how, mutate] of Object.entries(mutations)) {
        const mutated = `${head}.${payload}.${mutate(signature, 7).toString('base64url')}`;
        assert.equal(verdictOf(await verify(tokenPolicy, mutated)), 'bad_signature', how);
      }
    });
  }

  test('and no key is used with an algorithm of another kind, whoever asks', () => {
    const input = Buffer.from('input');
    for (const [kid, { publicKey, privateKey }] of Object.entries(pairs)) {
      const own = algorithms.filter(
        (alg) => pairOf(keyOf[alg] ?? '').publicKey.asymmetricKeyType === publicKey.asymmetricKeyType,
      );
      for (const alg of [...algorithms.filter((name) => !own.includes(name)), 'none', 'HS256', '__proto__']) {
        const signature = sign('ES256', privateKey, 'input');
        assert.equal(isSignedBy(alg, publicKey, input, signature), false, `${kid} ${alg}`);
      }
    }
  });
});

suite('access tokens that are new', () => {
  /** A verifier that counts the signatures it has verified. */
  function count(options: Partial<Parameters<typeof createTokenVerifier>[0]> = {}) {
    const counted = { verifications: 0 };
    const verify = createVerifier({
      ...options,
      isSignedBy: (...question) => {
        counted.verifications++;
        return isSignedBy(...question);
      },
    });
    return { counted, verify };
  }
  const newTokens = (number: number) =>
    Array.from({ length: number }, (_, index) => makeToken({ ...goodClaims, jti: String(index) }));

  test('let an API key pass: while 200 wait, it is decided on after one verification at most', async () => {
    const { counted, verify } = count();
    const turn = () => new Promise<undefined>((resolve) => setImmediate(resolve, undefined));
    const authenticate = createAuthenticator({
      hasImportedKeys: () => false,
      // the database answers in a later turn of the event loop
      findClient: turn,
      findClientByApiClientId: () => undefined,
      verifyToken: verify,
      now: () => now * 1_000,
      onUsed: () => undefined,
    });
    const decisions = newTokens(200).map(async (token) =>
      authenticate(policy, { authorization: `Bearer ${token}`, clientAddress: '' }),
    );
    assert.equal(counted.verifications, 0);
    await turn();
    const before = counted.verifications;
    const decision = await authenticate(policy, { authorization: `apk ${madeUpKey(1)}`, clientAddress: '' });
    assert.deepEqual(decision, { outcome: 'unauthenticated', reason: 'unknown_key' });
    assert.ok(counted.verifications - before <= 1, `${counted.verifications - before} verifications came first`);
    await Promise.all(decisions);
    assert.equal(counted.verifications, 200);
  });

  test('let each other pass: one with many candidate keys takes a turn for each of them', async () => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const lookUp: Keys['lookUp'] = (alg, kid, refusedBy) => {
      if (kid !== undefined || refusedBy !== undefined) return keys.lookUp(alg, kid, refusedBy);
      return { outcome: 'found', issuer, version: 1, keys: Array.from({ length: 10 }, () => pair.publicKey) };
    };
    const { counted, verify } = count({ findKeys: () => ({ ...keys, lookUp }) });
    const input = `${encode({ alg: 'ES256' })}.${encode(goodClaims)}`;
    const greedy = verify(tokenPolicy, `${input}.${Buffer.alloc(64, 1).toString('base64url')}`);
    assert.equal(verdictOf(await verify(tokenPolicy, makeToken(goodClaims))), 'verified');
    assert.ok(counted.verifications <= 3, `${counted.verifications} verifications`);
    assert.equal(verdictOf(await greedy), 'bad_signature');
    assert.equal(counted.verifications, 11);
  });

  test('are verified once for all that ask at the same time, and not again', async () => {
    const { counted, verify } = count();
    const token = makeToken(goodClaims);
    const outcomes = await Promise.all(Array.from({ length: 100 }, async () => verify(tokenPolicy, token)));
    assert.ok(outcomes.every(({ outcome }) => outcome === 'verified'));
    assert.equal(verdictOf(await verify(tokenPolicy, token)), 'verified');
    assert.equal(counted.verifications, 1);
  });

  test('are verified under the keys of now, not with a verification that began under others', async () => {
    let version = 1;
    const { counted, verify } = count({ findKeys: () => ({ ...keys, version: () => version }) });
    const token = makeToken(goodClaims);
    const before = verify(tokenPolicy, token);
    version++;
    await Promise.all([before, verify(tokenPolicy, token)]);
    assert.equal(counted.verifications, 2);
  });

  test('wait up to 250; one more is told so, and the others are verified', async () => {
    const { counted, verify } = count();
    const tokens = newTokens(251);
    const outcomes = await Promise.all(tokens.map(async (token) => verify(tokenPolicy, token)));
    const last = outcomes.pop();
    assert.deepEqual(last, { outcome: 'unavailable', cause: '250 access tokens wait to be verified already.' });
    assert.ok(outcomes.every(({ outcome }) => outcome === 'verified'));
    assert.equal(counted.verifications, 250);
    assert.equal(verdictOf(await verify(tokenPolicy, tokens.at(-1) ?? '')), 'verified');
  });

  test('cost no verification when their form, their algorithm or their key id is refused', async () => {
    const { counted, verify } = count();
    const [head = '', payload = '', signature = ''] = makeToken(goodClaims).split('.');
    const refused: [string, string][] = [
      ['opaque', 'opaque_token'],
      [`${head}.${payload}.${signature}=`, 'malformed_token'],
      [`${head}.${encode('x')}.${signature}`, 'malformed_token'],
      [`${encode({ alg: 'HS256', kid: 'P-256' })}.${payload}.${signature}`, 'algorithm_not_allowed'],
      [`${encode({ alg: 'ES256', kid: 'P-256', crit: ['x'] })}.${payload}.${signature}`, 'unsupported_token'],
    ];
    for (const [token, reason] of refused) {
      const outcome = verify(tokenPolicy, token);
      assert.ok(!(outcome instanceof Promise));
      assert.equal(verdictOf(outcome), reason);
    }
    const unknown = `${encode({ alg: 'ES256', kid: 'unknown' })}.${payload}.${signature}`;
    assert.equal(verdictOf(await verify(tokenPolicy, unknown)), 'unknown_signing_key');
    const otherKind = `${encode({ alg: 'RS256', kid: 'P-256' })}.${payload}.${signature}`;
    assert.equal(verdictOf(await verify(tokenPolicy, otherKind)), 'unknown_signing_key');
    assert.equal(counted.verifications, 0);
  });

  test('are remembered while they count, and as many as there is room for', () => {
    const verified = { outcome: 'verified', clientId: 'abc123' } as VerifiedToken;
    const memory = createTokenMemory(512 * 1_000 * 2);
    // ten a second, for a minute each
    for (let index = 0; index < 10_000; index++) {
      const since = index * 100;
      memory.set(`${index}`, { verified, version: 1, since, until: since + 60_000 });
      assert.ok(memory.count() <= 602, `${memory.count()}`);
    }
    assert.ok(memory.get('9999') && memory.get('9500'));
    for (let index = 0; index < 10_000; index++)
      memory.set(`at once ${index}`, { verified, version: 1, since: 1e6, until: 1e6 + 60_000 });
    const most = memory.count();
    assert.ok(most > 1_900 && most < 2_000, `${most}`);
    for (let index = 0; index < most + 1_200; index++) {
      const since = 2e6 + index * 100;
      memory.set(`later ${index}`, { verified, version: 1, since, until: since + 60_000 });
    }
    assert.ok(memory.count() <= 602, `${memory.count()}`);
  });
});
