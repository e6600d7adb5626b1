import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { dirname, join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { createTokenVerifier, type Keys } from '../../src/auth/access-token.ts';
import {
  createPolicyCompiler,
  nothingSet,
  type IssuerPolicy,
  type PolicySource,
  type TokenPolicy,
} from '../../src/auth/policy.ts';
import { createIssuer, defaultTimes, type Issuer } from '../../src/oidc/issuer.ts';
import { createIssuers } from '../../src/oidc/issuers.ts';
import { makeToken, startHostileIssuer, type HostileIssuer } from '../support/hostile-issuer.ts';
import { addServer, setSettings } from '../support/settings.ts';
import { makeTempDir, startTestStack, until, type TestStack } from '../support/stack.ts';

const minute = 60_000;

/** An Issuer whose clock is turned by hand, against a real server. */
function follow(hostile: HostileIssuer, change: Partial<IssuerPolicy> = {}, fetchTimeout = 500) {
  let time = 0;
  let version = 0;
  const failures: string[] = [];
  /** The versions that the callback found. */
  const changes: unknown[] = [];
  const policy: IssuerPolicy = {
    key: '',
    discovery: `${hostile.url}/.well-known/openid-configuration`,
    name: hostile.url,
    issuer: undefined,
    verifyCertificate: true,
    caFile: undefined,
    allowInsecureHttp: true,
    ...change,
  };
  const issuer: Issuer = createIssuer({
    policy,
    monotonicNow: () => time,
    nextVersion: () => ++version,
    onFailure: (message) => failures.push(message),
    onLoaded: () => undefined,
    onKeysChanged: () => changes.push(issuer.version()),
    times: { fetchTimeout },
  });
  return {
    issuer,
    failures,
    changes,
    pass: (milliseconds: number) => {
      time += milliseconds;
    },
    fetches: () => hostile.asked.get('/.well-known/openid-configuration') ?? 0,
  };
}

const tokenPolicy: TokenPolicy = {
  id: 'policy',
  issuer: {
    ...{ key: '', discovery: '', name: '', issuer: undefined, caFile: undefined },
    ...{ verifyCertificate: true, allowInsecureHttp: true },
  },
  audiences: ['api'],
  clientIdClaim: ['sub'],
  clientIdPrefix: '',
  clientNameClaim: ['sub'],
  algorithms: ['RS256'],
  requiredClaims: [],
  requiredScopes: [],
  clockTolerance: 30,
  maxLifetime: 86_400,
};

const lookUp = async (issuer: Issuer, kid = 'rsa') => (await issuer.lookUp('RS256', kid)).outcome;
const answer =
  (status: number, body: string, headers: Record<string, string> = {}): RequestListener =>
  (_, response) => {
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(body);
  };

suite('the keys of an issuer', () => {
  let hostile: HostileIssuer;
  before(async () => {
    hostile = await startHostileIssuer();
  });
  after(() => hostile.close());
  const recover = () => {
    hostile.behave('/jwks', undefined);
    hostile.behave('/.well-known/openid-configuration', undefined);
    hostile.asked.clear();
  };

  test('are fetched once for many at the same time, and then remembered', async () => {
    recover();
    const { issuer, fetches } = follow(hostile);
    const outcomes = await Promise.all(Array.from({ length: 100 }, () => lookUp(issuer)));
    assert.ok(outcomes.every((outcome) => outcome === 'found'));
    assert.equal(await lookUp(issuer), 'found');
    assert.equal(fetches(), 1);
  });

  test('are asked for once per cool-down while 10,000 tokens with unknown kids come', async () => {
    recover();
    // this process has the flood and the issuer to serve
    const { issuer, pass, fetches } = follow(hostile, {}, 10_000);
    await lookUp(issuer);
    const flood = () => Promise.all(Array.from({ length: 10_000 }, (_, index) => lookUp(issuer, `unknown-${index}`)));
    assert.ok((await flood()).every((outcome) => outcome === 'unknown'));
    assert.equal(fetches(), 1);
    pass(defaultTimes.coolDown + 1);
    await flood();
    assert.equal(fetches(), 2);
    await flood();
    assert.equal(fetches(), 2);
  });

  test('work through an outage of ten minutes, while unknown ones are "cannot tell"; the limit ends that', async () => {
    recover();
    const { issuer, pass, failures } = follow(hostile);
    assert.equal(await lookUp(issuer), 'found');
    hostile.behave('/.well-known/openid-configuration', answer(503, ''));
    for (let step = 0; step < 10; step++) {
      pass(minute);
      assert.equal(await lookUp(issuer), 'found');
      assert.equal(await lookUp(issuer, 'new'), 'unavailable');
    }
    assert.equal(failures.length, 1);
    assert.match(failures[0] ?? '', /answers 503 where 200 is needed/);
    pass(defaultTimes.staleLimit);
    assert.equal(await lookUp(issuer), 'unavailable');
    assert.equal(issuer.version(), undefined);
    recover();
    pass(defaultTimes.longestPause);
    assert.equal(await lookUp(issuer), 'found');
    assert.deepEqual([issuer.status().reachable, issuer.status().last_error], [true, null]);
  });

  test('are asked for with growing pauses from 1 s to 30 s while the issuer is away', async () => {
    recover();
    hostile.behave('/.well-known/openid-configuration', answer(500, ''));
    const { issuer, pass, fetches } = follow(hostile);
    for (let second = 0; second < 120; second++) {
      await Promise.all([lookUp(issuer), lookUp(issuer, 'other')]);
      pass(1_000);
    }
    // at 0, 1, 3, 7, 15, 31, 61, 91
    assert.ok(fetches() >= 7 && fetches() <= 9, `${fetches()} fetches`);
  });

  test('are fetched anew in the background when they are old, and a change counts', async () => {
    recover();
    const { issuer, pass, fetches } = follow(hostile);
    await lookUp(issuer);
    const before = issuer.version();
    hostile.behave('/jwks', answer(200, JSON.stringify({ keys: hostile.keys.jwks.slice(0, 1) })));
    pass(defaultTimes.refreshAfter + 1);
    assert.equal(await lookUp(issuer), 'found');
    await until('the refresh is done', () => fetches() === 2 && issuer.version() !== before);
  });

  test('that cannot be used spoil no other: weak, symmetric, private, for encryption, of unknown types', async () => {
    recover();
    const { n = 'AQAB', e = 'AQAB' } = hostile.keys.jwks[0] as Record<string, string>;
    const useless = [
      null,
      'x',
      {},
      { kty: 'RSA', kid: 'rsa', n: 'AQAB', e },
      { kty: 'oct', kid: 'rsa', k: 'c2VjcmV0' },
      { kty: 'RSA', kid: 'rsa', n, e, d: 'AQAB' },
      { kty: 'RSA', kid: 'rsa', n, e, use: 'enc' },
      { kty: 'RSA', kid: 'rsa', n, e, key_ops: ['encrypt'] },
      { kty: 'RSA', kid: 'rsa', n, e, alg: 'HS256' },
      { kty: 'EC', kid: 'rsa', crv: 'secp256k1', x: 'AA', y: 'AA' },
      { kty: 'EC', kid: 'rsa', crv: 'P-256', x: 'AA', y: 'AA' },
      { kty: 'new', kid: 'rsa' },
      { kty: 'RSA', kid: 'rsa', n, e: 'AQ' },
      { kty: 'RSA', kid: 'rsa', n, e: 'AQAC' },
      { kty: 'RSA', kid: 'rsa', n: Buffer.alloc(256, 0xfe).toString('base64url'), e },
      { kty: 'RSA', kid: 'rsa', n: Buffer.alloc(1_025, 0xff).toString('base64url'), e },
      { kty: 'RSA', kid: 'rsa', n, e: Buffer.alloc(9, 0xff).toString('base64url') },
      { kty: 'RSA', kid: 'rsa', n, e, alg: 'RS512' },
    ];
    hostile.behave('/jwks', answer(200, JSON.stringify({ keys: [...useless, ...hostile.keys.jwks] })));
    const { issuer } = follow(hostile);
    const lookup = await issuer.lookUp('RS256', 'rsa');
    assert.equal(lookup.outcome === 'found' && lookup.keys.length, 1);
    hostile.behave('/jwks', answer(200, JSON.stringify({ keys: useless })));
    const other = follow(hostile);
    assert.equal(await lookUp(other.issuer), 'unknown');
    assert.deepEqual([other.failures, other.issuer.status().reachable], [[], true]);
  });

  test('that are fetched anew and are the same keep their version, in any order; others are told of', async () => {
    recover();
    const { issuer, pass, fetches, changes } = follow(hostile);
    const [rsa = {}, ec = {}, ...useless] = hostile.keys.jwks;
    const refetch = async (keys: object[], name = hostile.url) => {
      hostile.behave('/jwks', answer(200, JSON.stringify({ keys })));
      const metadata = { issuer: name, jwks_uri: `${hostile.url}/jwks` };
      hostile.behave('/.well-known/openid-configuration', answer(200, JSON.stringify(metadata)));
      pass(defaultTimes.refreshBefore + 1);
      await lookUp(issuer);
      return issuer.version();
    };
    assert.equal(await lookUp(issuer), 'found');
    assert.deepEqual(changes, [1]);
    assert.equal(await refetch([rsa, ec, ...useless]), 1);
    assert.equal(await refetch([{ ...ec, x5t: 'x' }, rsa]), 1);
    assert.equal(issuer.status().age, 0);
    assert.deepEqual(changes, [1]);

    const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' });
    assert.equal(await refetch([rsa, ec, { ...rsa, alg: 'RS256' }]), 2);
    assert.equal(await refetch([{ ...rsa, alg: 'RS256' }, ec]), 3);
    assert.equal(await refetch([{ ...rsa, kid: 'new' }, ec]), 4);
    assert.equal(await refetch([{ ...other, kid: 'new' }, ec]), 5);
    assert.equal(await refetch([{ ...other, kid: 'new' }, ec], `${hostile.url}/`), 6);
    assert.equal(await refetch([]), 7);
    assert.deepEqual(changes, [1, 2, 3, 4, 5, 6, 7]);
    // of more keys than are tried for one token, the order decides which ones are
    const many = Array.from({ length: 11 }, (_, index) => ({ ...rsa, kid: String(index) }));
    assert.deepEqual([await refetch(many), await refetch(many), await refetch(many.toReversed())], [8, 8, 9]);
    assert.equal(fetches(), 12);
  });

  test('that are fetched anew and are the same are not newer: what they refused has a bad signature', async () => {
    recover();
    const { issuer, pass, fetches } = follow(hostile);
    assert.equal(await lookUp(issuer), 'found');
    const version = issuer.version();
    assert.equal((await issuer.lookUp('RS256', 'rsa', version)).outcome, 'unknown');
    pass(defaultTimes.coolDown + 1);
    assert.equal((await issuer.lookUp('RS256', 'rsa', version)).outcome, 'unknown');
    assert.deepEqual([fetches(), issuer.version()], [2, version]);

    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const verify = createTokenVerifier({ findKeys: () => issuer, now: Date.now });
    const policy = { ...tokenPolicy, issuer: { ...tokenPolicy.issuer, discovery: hostile.url } };
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: hostile.url, aud: 'api', sub: 'x', iat: now, exp: now + 60 };
    for (const kid of ['rsa', undefined]) {
      pass(defaultTimes.coolDown + 1);
      const outcome = await verify(policy, makeToken({ alg: 'RS256', kid }, claims, privateKey));
      assert.deepEqual(outcome, { outcome: 'rejected', reason: 'bad_signature', kid });
    }
    assert.equal(fetches(), 4);
  });

  test('are looked up at once when the issuer need not be asked', async () => {
    recover();
    const { issuer, pass } = follow(hostile);
    const isAtOnce = (kid: string) => !(issuer.lookUp('RS256', kid) instanceof Promise);
    assert.equal(isAtOnce('rsa'), false);
    await lookUp(issuer);
    assert.deepEqual([isAtOnce('rsa'), isAtOnce('unknown')], [true, true]);
    pass(defaultTimes.refreshAfter + 1);
    assert.equal(isAtOnce('rsa'), true);
  });

  test('tell of a change through all issuers, by the discovery URL', async () => {
    recover();
    const changed: string[] = [];
    const quiet = { onFailure: () => undefined, onLoaded: () => undefined };
    const onKeysChanged = (discovery: string) => changed.push(discovery);
    const issuers = createIssuers({ monotonicNow: () => 0, ...quiet, onKeysChanged });
    const discovery = `${hostile.url}/.well-known/openid-configuration`;
    await lookUp(issuers.find({ ...tokenPolicy.issuer, discovery, name: hostile.url }));
    assert.deepEqual(changed, [discovery]);
  });

  test('that their issuer has withdrawn are gone: an empty key set is an answer, not an outage', async () => {
    recover();
    const { issuer, pass } = follow(hostile);
    assert.equal(await lookUp(issuer), 'found');
    hostile.behave('/jwks', answer(200, '{"keys":[]}'));
    pass(defaultTimes.refreshBefore + 1);
    assert.equal(await lookUp(issuer), 'unknown');
    assert.deepEqual([issuer.status().reachable, issuer.status().keys], [true, 0]);
  });

  test('are asked for before they are used when nobody has needed them for long', async () => {
    recover();
    const { issuer, pass, fetches } = follow(hostile);
    await lookUp(issuer);
    const before = issuer.version();
    hostile.behave('/jwks', answer(200, JSON.stringify({ keys: hostile.keys.jwks.slice(0, 1) })));
    pass(defaultTimes.refreshBefore + 1);
    const lookup = await issuer.lookUp('RS256', 'rsa');
    assert.equal(lookup.outcome === 'found' && lookup.version !== before, true);
    assert.equal(fetches(), 2);
  });

  test('come back to life by being looked at, without a token', async () => {
    recover();
    hostile.behave('/jwks', answer(500, ''));
    const { issuer, pass } = follow(hostile);
    assert.equal(await lookUp(issuer), 'unavailable');
    hostile.behave('/jwks', undefined);
    pass(defaultTimes.firstPause);
    await until('it is reachable', () => issuer.status().reachable);
  });

  test('may change under the same id, or have none: a bad signature asks once more, and the flood of them rarely', async () => {
    recover();
    const { issuer, pass, fetches } = follow(hostile);
    const verify = createTokenVerifier({ findKeys: () => issuer, now: Date.now });
    const policy = { ...tokenPolicy, issuer: { ...tokenPolicy.issuer, discovery: hostile.url } };
    const sign = (key: KeyObject, kid?: string) => {
      const now = Math.floor(Date.now() / 1000);
      const head = { alg: 'RS256', ...(kid && { kid }) };
      return makeToken(head, { iss: hostile.url, aud: 'api', sub: 'x', iat: now, exp: now + 60 }, key);
    };
    const outcome = async (token: string) => {
      const result = await verify(policy, token);
      return result.outcome === 'rejected' ? result.reason : result.outcome;
    };
    const old = sign(hostile.rsa, 'rsa');
    assert.equal(await outcome(old), 'verified');

    const next = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwk = { ...next.publicKey.export({ format: 'jwk' }), kid: 'rsa', use: 'sig' };
    hostile.behave('/jwks', answer(200, JSON.stringify({ keys: [jwk] })));
    assert.equal(await outcome(sign(next.privateKey, 'rsa')), 'bad_signature');
    assert.equal(fetches(), 1);
    pass(defaultTimes.coolDown + 1);
    assert.equal(await outcome(sign(next.privateKey, 'rsa')), 'verified');
    assert.equal(fetches(), 2);
    // remembered under keys that are gone
    assert.equal(await outcome(old), 'bad_signature');
    await Promise.all(Array.from({ length: 200 }, () => outcome(sign(hostile.rsa, 'rsa'))));
    assert.equal(fetches(), 2);

    hostile.behave('/jwks', answer(500, ''));
    pass(defaultTimes.coolDown + 1);
    assert.equal(await outcome(sign(hostile.rsa)), 'unavailable');
    assert.equal(await outcome(sign(hostile.rsa, 'rsa')), 'bad_signature');
    assert.equal(await outcome(sign(next.privateKey)), 'verified');
  });

  test('are those of the issuer that the document names, a final slash included', async () => {
    recover();
    hostile.behave(
      '/.well-known/openid-configuration',
      answer(200, JSON.stringify({ issuer: `${hostile.url}/`, jwks_uri: `${hostile.url}/jwks` })),
    );
    const lookup = await follow(hostile).issuer.lookUp('RS256', 'rsa');
    assert.equal(lookup.outcome === 'found' && lookup.issuer, `${hostile.url}/`);
  });

  test('of different policies for one issuer are kept apart, and no version is ever used twice', async () => {
    recover();
    const issuers = createIssuers({ monotonicNow: () => 0, onFailure: () => undefined, onLoaded: () => undefined });
    const policy = (key: string): IssuerPolicy => ({
      ...tokenPolicy.issuer,
      key,
      discovery: `${hostile.url}/.well-known/openid-configuration`,
      name: hostile.url,
    });
    const [one, other] = [issuers.find(policy('one')), issuers.find(policy('other'))];
    assert.notEqual(one, other);
    assert.equal(issuers.find(policy('one')), one);
    await Promise.all([lookUp(one), lookUp(other)]);
    assert.notEqual(one.version(), other.version());
    assert.equal(issuers.statuses().length, 2);
  });

  test('are looked at again for a token that was verified a minute ago, or that there was no room to remember', async () => {
    recover();
    const { issuer } = follow(hostile);
    let lookUps = 0;
    const counting: Keys = {
      version: issuer.version,
      lookUp: (...query) => {
        lookUps++;
        return issuer.lookUp(...query);
      },
    };
    let time = Date.now();
    const policy = { ...tokenPolicy, issuer: { ...tokenPolicy.issuer, discovery: hostile.url } };
    const sign = (sub: string) => {
      const now = Math.floor(time / 1000);
      const claims = { iss: hostile.url, aud: 'api', sub, iat: now, exp: now + 600 };
      return makeToken({ alg: 'RS256', kid: 'rsa' }, claims, hostile.rsa);
    };
    const verify = createTokenVerifier({ findKeys: () => counting, now: () => time, capacity: 5_000 });
    const first = sign('first');
    for (let round = 0; round < 3; round++) await verify(policy, first);
    assert.equal(lookUps, 1);
    time += 60_001;
    await verify(policy, first);
    assert.equal(lookUps, 2);
    for (let index = 0; index < 10; index++) await verify(policy, sign(`${'x'.repeat(500)}${index}`));
    await verify(policy, first);
    assert.equal(lookUps, 13);
  });

  test('are remembered for each way to speak to their issuer on its own', () => {
    const compile = createPolicyCompiler({ allowInsecureHttp: false });
    const keyOf = (settings: Partial<PolicySource>) => compile({ ...shipped, ...settings }).tokens?.issuer.key;
    const shipped = {
      ...nothingSet,
      open_id_connect_enabled: 'on',
      oidc_discovery: 'https://issuer.example',
      oidc_audience: 'api',
    };
    const keys = [
      keyOf({}),
      keyOf({ oidc_issuer: 'x' }),
      keyOf({ oidc_ssl_verify: 'no' }),
      keyOf({ oidc_ca_file: '/ca.pem' }),
      keyOf({ oidc_discovery: 'https://other.example' }),
    ];
    assert.equal(new Set(keys).size, keys.length);
    assert.equal(keyOf({ oidc_audience: 'other' }), keys[0]);
  });

  test('with one key id may be several; only a few are tried', async () => {
    recover();
    hostile.behave(
      '/jwks',
      answer(200, JSON.stringify({ keys: Array.from({ length: 50 }, () => hostile.keys.jwks[0]) })),
    );
    const { issuer } = follow(hostile);
    const lookup = await issuer.lookUp('RS256', 'rsa');
    assert.equal(lookup.outcome === 'found' && lookup.keys.length, 10);
  });

  const html = answer(200, '<html></html>', { 'Content-Type': 'text/html' });
  const mistakes: Record<string, { discovery?: RequestListener; jwks?: RequestListener; said: RegExp }> = {
    'HTML in place of the discovery document': { discovery: html, said: /is no discovery document/ },
    'HTML in place of the key set': { jwks: html, said: /\/jwks is not JSON/ },
    'JSON that is cut off': { discovery: answer(200, '{"issuer":'), said: /is no discovery document/ },
    'a redirect': {
      discovery: answer(302, '', { Location: '/elsewhere' }),
      said: /answers 302 .*redirects are not followed, so use the final URL/,
    },
    'a redirect of the key set': { jwks: answer(307, '', { Location: '/elsewhere' }), said: /\/jwks answers 307/ },
    'a wrong path': { discovery: answer(404, ''), said: /answers 404 where 200 is needed/ },
    'another issuer': {
      discovery: answer(200, '{"issuer":"https://other.example","jwks_uri":"https://other.example/jwks"}'),
      said: /says that its issuer is https:\/\/other\.example, not http.*Correct \$oidc_discovery, or set \$oidc_issuer/,
    },
    'no jwks_uri': {
      discovery: (request, response) => {
        answer(200, JSON.stringify({ issuer: `http://${request.headers.host ?? ''}` }))(request, response);
      },
      said: /names no jwks_uri/,
    },
    'a key set that is none': { jwks: answer(200, '[]'), said: /no list of keys/ },
    '101 keys': {
      jwks: answer(200, JSON.stringify({ keys: Array.from({ length: 101 }, () => ({})) })),
      said: /has 101 keys; at most 100/,
    },
    'a socket that hangs': { discovery: () => undefined, said: /did not answer within/ },
    'an answer that hangs in the middle': {
      jwks: (_, response) => void response.writeHead(200).write('{'),
      said: /did not answer within/,
    },
    'a connection that breaks': { jwks: (request) => request.socket.destroy(), said: /cannot be fetched/ },
    'more than 256 KB': { jwks: answer(200, ' '.repeat(300_000)), said: /sends more than 262144 bytes/ },
  };
  for (const [what, { discovery, jwks, said }] of Object.entries(mistakes)) {
    test(`are not had with ${what}, and one sentence says so`, async () => {
      recover();
      hostile.behave('/.well-known/openid-configuration', discovery);
      hostile.behave('/jwks', jwks);
      const { issuer, failures } = follow(hostile);
      assert.equal(await lookUp(issuer), 'unavailable');
      assert.equal(failures.length, 1);
      assert.match(failures[0] ?? '', said);
      assert.equal(issuer.status().last_error, failures[0]);
    });
  }

  test('are not had where nothing listens, or for a host that is not known', async () => {
    recover();
    const nobody = follow(hostile, { discovery: 'http://127.0.0.1:1/.well-known/openid-configuration' });
    assert.equal(await lookUp(nobody.issuer), 'unavailable');
    assert.match(nobody.failures.join(), /cannot be fetched: nothing listens there/);
  });

  test('come from a jwks_uri over HTTP only when that is allowed', async () => {
    recover();
    const tls = await startHostileIssuer({ tls: true });
    tls.behave(
      '/.well-known/openid-configuration',
      answer(200, JSON.stringify({ issuer: tls.url, jwks_uri: `${hostile.url}/jwks` })),
    );
    const { issuer, failures } = follow(tls, { caFile: tls.caFile, allowInsecureHttp: false });
    assert.equal(await lookUp(issuer), 'unavailable');
    assert.match(failures.join(), /names a jwks_uri that is not https/);
    await tls.close();
  });

  test('over TLS need a certificate that is trusted: by the system, by $oidc_ca_file, or not at all if so said', async () => {
    const tls = await startHostileIssuer({ tls: true });
    const untrusted = follow(tls);
    assert.equal(await lookUp(untrusted.issuer), 'unavailable');
    assert.match(untrusted.failures.join(), /self-signed; name its CA in \$oidc_ca_file/);
    assert.equal(await lookUp(follow(tls, { caFile: tls.caFile }).issuer), 'found');
    assert.equal(await lookUp(follow(tls, { verifyCertificate: false }).issuer), 'found');
    const missing = follow(tls, { caFile: '/nowhere.pem' });
    assert.equal(await lookUp(missing.issuer), 'unavailable');
    assert.match(missing.failures.join(), /\$oidc_ca_file cannot be read/);
    for (const text of ['', 'garbage', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n']) {
      const caFile = join(makeTempDir(), 'ca.pem');
      writeFileSync(caFile, text);
      const useless = follow(tls, { caFile });
      assert.equal(await lookUp(useless.issuer), 'unavailable');
      assert.match(useless.failures.join(), /\$oidc_ca_file .* does not begin with a certificate/);
      rmSync(dirname(caFile), { recursive: true });
    }
    const otherName = follow(tls, {
      caFile: tls.caFile,
      discovery: `${tls.url.replace('localhost', '127.0.0.1')}/.well-known/openid-configuration`,
    });
    assert.equal(await lookUp(otherName.issuer), 'unavailable');
    assert.match(otherName.failures.join(), /its certificate is for another host name/);
    await tls.close();
  });

  test('are those of $oidc_issuer when the document names another', async () => {
    recover();
    hostile.behave(
      '/.well-known/openid-configuration',
      answer(200, JSON.stringify({ issuer: 'https://other.example', jwks_uri: `${hostile.url}/jwks` })),
    );
    const { issuer } = follow(hostile, { issuer: 'https://sts.example/v1' });
    const lookup = await issuer.lookUp('RS256', 'rsa');
    assert.equal(lookup.outcome === 'found' && lookup.issuer, 'https://sts.example/v1');
  });
});

suite('an issuer in trouble, behind the real proxy', () => {
  let hostile: HostileIssuer;
  let stack: TestStack;
  before(async () => {
    hostile = await startHostileIssuer();
    hostile.behave('/jwks', flood200MB);
    stack = await startTestStack({
      env: { OIDC_ALLOW_INSECURE_HTTP: 'true' },
      edit: (conf) =>
        setSettings(conf, { open_id_connect_enabled: 'on', oidc_discovery: hostile.url, oidc_audience: 'api' }),
    });
  });
  after(async () => {
    await stack.stop();
    await hostile.close();
  });

  const flood200MB: RequestListener = (_, response) => {
    response.writeHead(200, { 'Content-Type': 'application/json' });
    const chunk = Buffer.alloc(1024 * 1024, 0x20);
    void (async () => {
      for (let megabyte = 0; megabyte < 200 && !response.destroyed; megabyte++) {
        if (!response.write(chunk)) await Promise.race([once(response, 'drain'), once(response, 'close')]);
      }
      response.end();
    })();
  };
  const token = () => {
    const now = Math.floor(Date.now() / 1000);
    return makeToken(
      { alg: 'RS256', kid: 'rsa' },
      { iss: hostile.url, aud: 'api', sub: 'abc123', iat: now, exp: now + 60 },
      hostile.rsa,
    );
  };
  const ask = () => stack.ask('/', { headers: { Authorization: `Bearer ${token()}` } });

  test('that sends 200 MB: tokens are 503, keys work, and the gateway stays under 150 MB', async () => {
    for (let round = 0; round < 3; round++) {
      const { status, json, headers } = await ask();
      assert.deepEqual([status, json['reason'], headers['retry-after']], [503, 'issuer_unavailable', '1']);
    }
    assert.equal((await stack.ask('/', { key: stack.adminKey })).status, 200);
    const status = readFileSync(`/proc/${stack.stack.gateway.pid ?? 0}/status`, 'utf8');
    const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
    assert.ok(peak < 150, `${peak} MB at the peak`);
  });

  test('says what is wrong at /readyz and in the log, and is asked again by itself', async () => {
    const { status, json } = await stack.ask('/readyz');
    assert.equal(status, 200);
    const [state] = (json['open_id_connect'] as { issuers: Record<string, unknown>[] }).issuers;
    assert.equal(state?.['reachable'], false);
    assert.match(state['last_error'] as string, /sends more than 262144 bytes/);
    assert.match(stack.output(), /issuer: .*sends more than 262144 bytes/);
    hostile.behave('/jwks', undefined);
    await until('tokens are decided on', async () => (await ask()).status === 403, 20_000);
  });
});

suite('a mistake in the settings of OpenID Connect', () => {
  const mistakes: [Record<string, string>, RegExp][] = [
    [{ oidc_discovery: '' }, /\$oidc_discovery is "".*allowed: the https URL/],
    [
      { oidc_discovery: 'http://issuer.example' },
      /\$oidc_discovery is "http:\/\/issuer\.example".*OIDC_ALLOW_INSECURE_HTTP=true/,
    ],
    [{ oidc_discovery: 'https://user:hunter2@issuer.example' }, /allowed: the https URL/],
    [{ oidc_audience: '' }, /\$oidc_audience is empty/],
    [{ oidc_algorithms: 'RS256 HS256' }, /\$oidc_algorithms has "HS256"; allowed: RS256/],
    [{ oidc_algorithms: 'none' }, /\$oidc_algorithms has "none"/],
    [{ oidc_required_claims: 'repository' }, /\$oidc_required_claims has "repository"; allowed: claim=value/],
    [{ oidc_clock_tolerance: '1h' }, /\$oidc_clock_tolerance is "1h"; allowed: .*up to 300 seconds/],
    [{ oidc_client_id_claim: '["a"' }, /\$oidc_client_id_claim is/],
  ];
  let stack: TestStack;
  before(async () => {
    const valid = { open_id_connect_enabled: 'on', oidc_discovery: 'https://issuer.example', oidc_audience: 'api' };
    stack = await startTestStack({
      edit: (conf) =>
        mistakes.reduce((text, [settings], index) => addServer(text, hostOf(index), { ...valid, ...settings }), conf),
    });
  });
  after(() => stack.stop());

  const hostOf = (index: number) => `s${index}.example`;
  const unquoted = (text: string) => text.replaceAll('\\"', '"');

  for (const [index, [settings, said]] of mistakes.entries()) {
    test(`${JSON.stringify(settings)}: no token is let in, keys work, and the log and /readyz say what to change`, async () => {
      const headers = { Host: hostOf(index) };
      const before = stack.output().length;
      const { status, json } = await stack.ask('/', { headers: { ...headers, Authorization: 'Bearer a.b.c' } });
      assert.deepEqual([status, json['reason']], [503, 'policy_invalid']);
      assert.equal((await stack.ask('/', { headers, key: stack.adminKey })).status, 200);
      await until('the log says so', () => said.test(unquoted(stack.output().slice(before))));
      const ready = await stack.ask('/readyz', { headers });
      assert.match(unquoted(ready.body), said);
    });
  }
});
