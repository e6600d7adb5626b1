import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { encodeHeaderValue, fitsHeader } from '../../src/auth/header-value.ts';
import { createPolicyCompiler, policySettings, type Policy, type PolicySetting } from '../../src/auth/policy.ts';
import { parseRequestHead } from '../../src/http/request-head.ts';
import { readPolicy } from '../../src/http/request-headers.ts';
import { runs } from '../support/runs.ts';

type Settings = Partial<Record<PolicySetting, string>>;
type Line = readonly [name: string, value: string];

const compile = createPolicyCompiler({ allowInsecureHttp: false });
const headerOf = (setting: string) => `X-Policy-${setting.replaceAll('_', '-')}`;
/** What policy.conf sends for a server. */
const serverLine = (settings: Settings): Line => [
  'X-Policy',
  policySettings.map((name) => `${name}=${settings[name] ?? ''}`).join('\t'),
];
const linesOf = (settings: Settings): Line[] =>
  Object.entries(settings).map(([setting, value]) => [headerOf(setting), value]);

/** The policy of a question that nginx asks with these header lines. */
function policyOf(lines: readonly Line[]): Policy {
  const text = ['GET /decision HTTP/1.1', 'Host: gateway', ...lines.map(([name, value]) => `${name}: ${value}`)];
  const head = parseRequestHead(text.join('\r\n'));
  assert.ok(head, text.join('\n'));
  return compile(readPolicy(head.policyLines));
}

const setOf = (list: Iterable<string>) => [...new Set(list)].sort();

/** All that decides, but for the digest of the text that it was written as. */
function meaningOf({ tokens, problems, ...policy }: Policy): unknown {
  return {
    ...policy,
    requiredScopes: setOf(policy.requiredScopes),
    allowedClients: policy.allowedClients && setOf(policy.allowedClients),
    isMistaken: problems.length > 0,
    tokens: tokens && {
      ...tokens,
      id: undefined,
      audiences: tokens.audiences && setOf(tokens.audiences),
      algorithms: setOf(tokens.algorithms),
      requiredScopes: setOf(tokens.requiredScopes),
      requiredClaims: setOf(tokens.requiredClaims.map((rule) => JSON.stringify(rule))),
    },
  };
}

const isSubset = <T>(some: Iterable<T>, all: Iterable<T>) => new Set([...all, ...some]).size === new Set(all).size;

/** Whether everybody whom the one lets in is let in by the other: told by what each of the settings is for. */
function expectNoWider(one: Policy, other: Policy): void {
  if (!one.apiKeysEnabled && !one.tokens) return;
  assert.ok(!one.apiKeysEnabled || other.apiKeysEnabled, 'API keys');
  if (other.requireAdmin) assert.ok(one.requireAdmin, 'administrators');
  assert.ok(isSubset(other.requiredScopes, one.requiredScopes), 'scopes of the client');
  if (other.allowedClients) {
    assert.ok(one.allowedClients, 'clients that are allowed');
    assert.ok(isSubset(one.allowedClients, other.allowedClients), 'clients that are allowed');
  }
  if (!one.tokens) return;
  const { tokens } = other;
  assert.ok(one.openIdConnectEnabled && other.openIdConnectEnabled && tokens, 'access tokens');
  const lists = (policy: typeof tokens) => ({
    scopes: policy.requiredScopes,
    claims: policy.requiredClaims.map((rule) => JSON.stringify(rule)),
  });
  assert.ok(isSubset(lists(tokens).scopes, lists(one.tokens).scopes), 'scopes of the token');
  assert.ok(isSubset(lists(tokens).claims, lists(one.tokens).claims), 'claims of the token');
  assert.ok(isSubset(one.tokens.algorithms, tokens.algorithms), 'algorithms');
  if (tokens.audiences) assert.ok(one.tokens.audiences && isSubset(one.tokens.audiences, tokens.audiences), 'audience');
  assert.ok(one.tokens.clockTolerance <= tokens.clockTolerance, 'tolerance');
  assert.ok(one.tokens.maxLifetime <= tokens.maxLifetime, 'lifetime');
  assert.ok(one.tokens.issuer.verifyCertificate || !tokens.issuer.verifyCertificate, 'certificates');
  for (const same of ['discovery', 'issuer', 'caFile'] as const)
    assert.equal(one.tokens.issuer[same], tokens.issuer[same], same);
}

const flag = fc.constantFrom('on', 'on', 'ON', 'true', 'off', 'no', '', 'onn', 'of', '0', '1');
const spans = fc.constantFrom('', '0', '10s', '30s', '5m', '10m', '1h', '24h', '48h', '400d', 'soon', '-1', ',');
const some = (...words: readonly string[]) =>
  fc.array(fc.constantFrom(...words), { maxLength: 3 }).map((list) => list.join(' '));
const values: Record<PolicySetting, fc.Arbitrary<string>> = {
  api_keys_enabled: flag,
  open_id_connect_enabled: flag,
  require_admin: flag,
  required_scopes: some('a', 'b', 'c'),
  // a comma alone stands for nobody
  allowed_clients: fc.oneof(some('a', 'b', 'caf%C3%A9', '%63', 'c', '%zz'), fc.constant(',')),
  oidc_discovery: fc.constantFrom('https://issuer.example', 'https://other.example', '', 'ftp://x', 'http://x'),
  oidc_issuer: fc.constantFrom('', 'https://issuer.example', 'x'),
  oidc_audience: fc.constantFrom('api', 'api', 'any', 'api other', ''),
  oidc_client_id_claim: fc.constantFrom('', 'sub', 'azp', '["a","b"]', 'a b'),
  oidc_client_id_prefix: fc.constantFrom('', 'p:', 'q:'),
  oidc_client_name_claim: fc.constantFrom('', 'sub', 'name', '[]'),
  oidc_algorithms: some('RS256', 'ES256', 'EdDSA', 'HS256', 'none', ','),
  oidc_required_claims: some('a=1', 'b=2', 'c', '=', '["x","y"]=z'),
  oidc_required_scopes: some('a', 'b', 'c'),
  oidc_clock_tolerance: spans,
  oidc_max_lifetime: spans,
  oidc_ssl_verify: flag,
  oidc_ca_file: fc.constantFrom('', '/ca.pem', 'ca.pem'),
};
/** A few settings, whatever is right with them. */
const settings = (names: readonly PolicySetting[] = policySettings): fc.Arbitrary<Settings> =>
  fc.record(Object.fromEntries(names.map((name) => [name, values[name]])), { requiredKeys: [], noNullPrototype: true });
/** Both methods on, and mostly nothing wrong, so that there is something to let in. */
const servers = settings().map((more) => ({
  ...{ api_keys_enabled: 'on', open_id_connect_enabled: 'on' },
  ...{ oidc_discovery: 'https://issuer.example', oidc_audience: 'api' },
  ...more,
}));
const mostlyGood = fc.oneof(
  fc.tuple(servers, fc.subarray([...policySettings], { maxLength: 3 })).map(([all, kept]): Settings => ({
    ...{ api_keys_enabled: 'on', open_id_connect_enabled: 'on' },
    ...{ oidc_discovery: 'https://issuer.example', oidc_audience: 'api' },
    ...Object.fromEntries(kept.map((name) => [name, all[name] ?? ''])),
  })),
  servers,
);

/** What a location may ask for beside its server. The others say who the issuer is, and what its tokens mean. */
const requirements: readonly PolicySetting[] = [
  ...(['api_keys_enabled', 'open_id_connect_enabled', 'require_admin', 'required_scopes', 'allowed_clients'] as const),
  ...(['oidc_algorithms', 'oidc_required_claims', 'oidc_required_scopes'] as const),
  ...(['oidc_clock_tolerance', 'oidc_max_lifetime', 'oidc_ssl_verify'] as const),
];

suite('a policy', () => {
  test('never lets in more for a requirement that is added, whatever its value', () => {
    let withTokens = 0;
    fc.assert(
      fc.property(mostlyGood, settings(requirements), (server, location) => {
        const before = policyOf([serverLine(server)]);
        const after = policyOf([serverLine(server), ...linesOf(location)]);
        if (after.tokens) withTokens++;
        expectNoWider(after, before);
      }),
      runs(3_000),
    );
    assert.ok(withTokens > 20, `${withTokens} accepted tokens`);
  });

  test('never lets in more for any header that is added', () => {
    const others: readonly PolicySetting[] = policySettings.filter((name) => !requirements.includes(name));
    // what the server leaves open is for the location to say
    const whole = fc.tuple(mostlyGood, settings(others)).map(([server, location]) => ({
      server,
      location: Object.fromEntries(
        Object.entries(location).filter(([name]) => (server[name as PolicySetting] ?? '') !== ''),
      ),
    }));
    fc.assert(
      fc.property(whole, ({ server, location }) => {
        const before = policyOf([serverLine(server)]);
        const after = policyOf([serverLine(server), ...linesOf(location)]);
        expectNoWider(after, before);
      }),
      runs(1_500),
    );
  });

  test('means the same whatever the order, the case and the white space of its headers, also of those that come twice', () => {
    const shuffled = fc
      .tuple(mostlyGood, settings(), settings())
      .map(([server, one, other]) => [serverLine(server), ...linesOf(one), ...linesOf(other)])
      .chain((lines) =>
        fc.record({
          lines: fc.constant(lines),
          shuffled: fc.shuffledSubarray(lines, { minLength: lines.length }),
          blanks: fc.array(fc.constantFrom('', ' ', '\t', '  \t'), { minLength: 4, maxLength: 4 }),
          isUpper: fc.boolean(),
        }),
      );
    fc.assert(
      fc.property(shuffled, ({ lines, shuffled, blanks, isUpper }) => {
        const rewritten = shuffled.map(([name, value], at): Line => {
          const [before = '', after = ''] = [blanks[at % 4], blanks[(at + 1) % 4]];
          return [isUpper ? name.toUpperCase() : name.toLowerCase(), `${before}${value}${after}`];
        });
        assert.deepEqual(meaningOf(policyOf(rewritten)), meaningOf(policyOf(lines)));
      }),
      runs(1_500),
    );
  });

  test('never lets in more for a header whose name is misspelt, in one character or by another separator', () => {
    const narrowing: Settings = {
      ...{ api_keys_enabled: 'off', open_id_connect_enabled: 'off', require_admin: 'on' },
      ...{ required_scopes: 'z', allowed_clients: 'nobody', oidc_required_claims: 'z=1', oidc_required_scopes: 'z' },
      ...{ oidc_algorithms: 'ES512', oidc_clock_tolerance: '0', oidc_max_lifetime: '1m', oidc_ssl_verify: 'yes' },
    };
    const edit = fc.record({
      setting: fc.constantFrom(...requirements),
      at: fc.nat(),
      removed: fc.nat({ max: 1 }),
      added: fc.constantFrom('', 'a', 's', 'x', '-', '_', '.', 'E', '1'),
      separator: fc.constantFrom('-', '-', '_', '.', ''),
      prefix: fc.constantFrom('X-Policy-', 'X-Policy-', 'Policy-', 'X-'),
    });
    const server = { api_keys_enabled: 'on', open_id_connect_enabled: 'on', oidc_ssl_verify: 'no' };
    const token = { oidc_discovery: 'https://issuer.example', oidc_audience: 'api' };
    fc.assert(
      fc.property(edit, ({ setting, at, removed, added, separator, prefix }) => {
        const name = `${prefix}${setting.replaceAll('_', '-')}`.replaceAll('-', separator);
        const cut = at % name.length;
        const written = prefix === 'X-' ? name : name.slice(0, cut) + added + name.slice(cut + removed);
        const value = narrowing[setting] ?? '';
        const meant = policyOf([serverLine({ ...server, ...token }), [headerOf(setting), value]]);
        expectNoWider(policyOf([serverLine({ ...server, ...token }), [written, value]]), meant);
      }),
      runs(2_000),
    );
  });

  test('never lets in more for a setting of the server whose name is misspelt', () => {
    const edit = fc.tuple(fc.constantFrom(...requirements), fc.nat(), fc.constantFrom('', 'x', '-', ' ', '='));
    fc.assert(
      fc.property(edit, mostlyGood, ([setting, at, added], server) => {
        const cut = at % setting.length;
        const written = setting.slice(0, cut) + added + setting.slice(cut + 1);
        const line = serverLine(server);
        const misspelt: Line = [line[0], line[1].replace(`${setting}=`, `${written}=`)];
        expectNoWider(policyOf([misspelt]), policyOf([line]));
      }),
      runs(1_000),
    );
  });

  test('lets in by name exactly those whose api_client_id it names', () => {
    const plain = fc.string({
      unit: fc.constantFrom('a', 'b', 'é', '語', '-', '%', ' ', ':'),
      minLength: 1,
      maxLength: 6,
    });
    const long = fc.nat({ max: 4 }).map((more) => 'a'.repeat(1022 + more));
    fc.assert(
      fc.property(
        fc.array(fc.oneof(plain, long), { minLength: 1, maxLength: 3 }),
        fc.oneof(plain, long),
        (named, who) => {
          const words = named.map((name) => encodeURIComponent(name)).join(' ');
          const { allowedClients } = policyOf([['X-Policy-Allowed-Clients', words]]);
          assert.ok(allowedClients);
          // one that no client can have is a mistake, and lets nobody in
          const isGood = named.every(fitsHeader);
          if (fitsHeader(who)) assert.equal(allowedClients.has(encodeHeaderValue(who)), isGood && named.includes(who));
        },
      ),
      runs(1_000),
    );
  });
});
