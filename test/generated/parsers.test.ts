import assert from 'node:assert/strict';
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { parseDocument } from 'yaml';
import { parseApiKey } from '../../src/auth/api-key.ts';
import { asLine, findClaim, parseClaimPath } from '../../src/auth/claims.ts';
import { parseCredential } from '../../src/auth/credential.ts';
import { createNetwork, faultOfCidr } from '../../src/auth/network.ts';
import { parseRate } from '../../src/auth/rate-limit.ts';
import { isUnsound, parseStrictObject } from '../../src/auth/strict-json.ts';
import { ConfigError, readConfig, settings, type Config, type Environment } from '../../src/config.ts';
import { parseSeconds } from '../../src/duration.ts';
import { traceSettings } from '../../src/trace-settings.ts';
import { runs } from '../support/runs.ts';

/** What looks right, with at most a few characters of it changed: most of it is not, but nearly. */
function nearly(good: fc.Arbitrary<string>, unit: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const edit = fc.tuple(fc.nat(), fc.nat({ max: 2 }), fc.string({ unit, maxLength: 2 }));
  return fc.tuple(good, fc.array(edit, { maxLength: 2 })).map(([text, edits]) =>
    edits.reduce((changed, [position, removed, added]) => {
      const at = position % (changed.length + 1);
      return changed.slice(0, at) + added + changed.slice(at + removed);
    }, text),
  );
}

const visible = fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code));
const anyCase = (text: string) =>
  fc
    .array(fc.boolean(), { minLength: text.length, maxLength: text.length })
    .map((upper) => Array.from(text, (letter, at) => (upper[at] ? letter.toUpperCase() : letter)).join(''));
const spaces = fc.integer({ min: 1, max: 4 }).map((count) => ' '.repeat(count));
const secrets = fc.stringMatching(/^[A-Za-z0-9]{64}$/);
const ids = fc.oneof(fc.integer({ min: 1, max: 99 }).map(BigInt), fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }));
const keys = fc.tuple(ids, secrets).map(([id, secret]) => `${id}.${secret}`);
const edits = fc.constantFrom(' ', '\t', '\n', '.', ',', '0', '1', 'a', 'Z', '-', '+', '=', '"', '%', 'é', '１', '\0');

suite('a credential', () => {
  const schemes = fc.oneof(anyCase('apk'), anyCase('bearer'), fc.constantFrom('Basic', 'apks', 'ap', 'a,b'));
  const written = fc.tuple(schemes, spaces, fc.oneof(keys, fc.stringMatching(/^[\w~+/.-]{1,40}={0,2}$/)));
  const headers = nearly(
    written.map((parts) => parts.join('')),
    edits,
  );

  test('is what the grammar of RFC 9110 makes of it, read by hand', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(headers, (header) => {
        const credential = parseCredential(header);
        seen.add(credential.scheme);
        assert.deepEqual(credential, readByHand(header));
      }),
      runs(3_000),
    );
    assert.deepEqual([...seen].sort(), ['apk', 'bearer', 'malformed', 'unsupported']);
  });

  /** Character by character: no regular expression, and the id as a number. */
  function readByHand(header: string): ReturnType<typeof parseCredential> {
    const has = (characters: string, text: string) =>
      text !== '' && Array.from(text).every((one) => characters.includes(one));
    const letters = 'abcdefghijklmnopqrstuvwxyz';
    const alphanumeric = `${letters}${letters.toUpperCase()}0123456789`;
    const malformed = { scheme: 'malformed' } as const;
    if (header === '') return { scheme: 'none' };
    const [scheme = '', ...rest] = header.split(' ');
    const value = rest.slice(rest.findIndex((part) => part !== '')).join(' ');
    const [unpadded = ''] = value.split('=', 1);
    const isToken68 = has(`${alphanumeric}-._~+/`, unpadded) && /^=*$/.test(value.slice(unpadded.length));
    if (rest.every((part) => part === '') || !has(`${alphanumeric}!#$%&'*+-.^_\`|~`, scheme) || !isToken68)
      return malformed;
    if (scheme.toLowerCase() === 'bearer') return { scheme: 'bearer', token: value };
    if (scheme.toLowerCase() !== 'apk') return { scheme: 'unsupported' };
    const [clientId = '', secret = '', ...more] = value.split('.');
    const isNumber = has('0123456789', clientId) && String(BigInt(clientId)) === clientId;
    const isInRange = isNumber && BigInt(clientId) >= 1n && BigInt(clientId) < 2n ** 63n;
    if (!isInRange || secret.length !== 64 || !has(alphanumeric, secret) || more.length > 0) return malformed;
    return { scheme: 'apk', clientId, secret };
  }

  test('that is an API key is written back as it was', () => {
    fc.assert(
      fc.property(nearly(keys, edits), (text) => {
        const key = parseApiKey(text);
        if (key) assert.equal(`${key.clientId}.${key.secret}`, text);
      }),
      runs(1_000),
    );
  });
});

suite('strict JSON', () => {
  interface Written {
    readonly text: string;
    /** Some object of it has a name twice. */
    readonly isAmbiguous: boolean;
    readonly depth: number;
  }
  const blank = fc.constantFrom('', '', '', ' ', '\n', '\t\r\n');
  const names = fc.constantFrom(
    'a',
    'A',
    'b',
    '',
    '__proto__',
    'constructor',
    '"',
    '\\',
    '{',
    '},',
    '[',
    'é',
    '\u2028',
  );
  /** One name in several spellings. */
  const spell = (name: string) =>
    fc.constantFrom(
      JSON.stringify(name),
      `"${Array.from(name, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`,
    );
  const { tree } = fc.letrec<{ tree: Written; object: Written; list: Written; leaf: Written }>((tie) => ({
    leaf: fc
      .oneof(
        fc.jsonValue({ maxDepth: 0 }).map((value) => JSON.stringify(value)),
        names.chain(spell),
      )
      .map((text) => ({ text, isAmbiguous: false, depth: 0 })),
    list: fc.tuple(blank, fc.array(tie('tree'), { maxLength: 3 })).map(([space, members]) => ({
      text: `[${space}${members.map(({ text }) => text + space).join(`,${space}`)}]`,
      isAmbiguous: members.some((member) => member.isAmbiguous),
      depth: 1 + Math.max(0, ...members.map(({ depth }) => depth)),
    })),
    object: fc
      .tuple(
        blank,
        fc.array(
          fc.tuple(
            names.chain((name) => fc.tuple(fc.constant(name), spell(name))),
            tie('tree'),
          ),
          { maxLength: 4 },
        ),
      )
      .map(([space, members]) => ({
        text: `{${members.map(([[, name], { text }]) => `${space}${name}${space}:${space}${text}`).join(',')}${space}}`,
        isAmbiguous:
          new Set(members.map(([[name]]) => name)).size < members.length ||
          members.some(([, { isAmbiguous }]) => isAmbiguous),
        depth: 1 + Math.max(0, ...members.map(([, { depth }]) => depth)),
      })),
    tree: fc.oneof({ depthSize: 'medium' }, tie('leaf'), tie('object'), tie('list')),
  }));
  /** Wrapped until it is about as deep as is allowed. */
  const deep = fc.tuple(tree, fc.nat({ max: 36 })).map(([{ text, isAmbiguous, depth }, more]) => ({
    text: '{"a":'.repeat(more) + text + '}'.repeat(more),
    isAmbiguous,
    depth: depth + more,
  }));

  test('is what JSON.parse makes of it, unless a name comes twice or it is nested more than 32 deep', () => {
    const seen = new Set<boolean>();
    fc.assert(
      fc.property(fc.oneof({ arbitrary: tree, weight: 4 }, deep), ({ text, isAmbiguous, depth }) => {
        assert.equal(isUnsound(text), isAmbiguous || depth > 32);
        const parsed: unknown = JSON.parse(text);
        const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
        const isGood = isObject && !isAmbiguous && depth <= 32;
        seen.add(isGood);
        assert.deepEqual(parseStrictObject(Buffer.from(text)), isGood ? parsed : undefined);
      }),
      runs(1_500),
    );
    assert.equal(seen.size, 2);
  });

  test('of damaged text is what JSON.parse takes and another library finds no name twice in', () => {
    const damaged = nearly(
      fc.oneof(tree, tree).map(({ text }) => `{"x":${text}}`),
      fc.constantFrom('"', '\\', ',', ':', '{', '}', '[', ']', 'a', ' ', '1', '\u2028'),
    );
    fc.assert(
      fc.property(damaged, (text) => {
        const ours = parseStrictObject(Buffer.from(text));
        let parsed: unknown;
        try {
          parsed = JSON.parse(text);
        } catch {
          assert.equal(ours, undefined);
          return;
        }
        // to that library a lone carriage return is no white space
        const { errors } = parseDocument(text.replaceAll('\r', ' '), { schema: 'json', uniqueKeys: true });
        const isAmbiguous = errors.some(({ code }) => code === 'DUPLICATE_KEY');
        const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
        assert.deepEqual(ours, isObject && !isAmbiguous ? parsed : undefined);
      }),
      runs(600),
    );
  });

  test('is UTF-8 and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
        const document = Buffer.concat([Buffer.from('{"a":"'), bytes, Buffer.from('"}')]);
        const isWritten = Buffer.from(document.toString()).equals(document);
        const parsed = parseStrictObject(document);
        if (parsed) assert.ok(isWritten);
      }),
      runs(1_000),
    );
  });

  test('has strings of any length: one as long as a body may be is no fault', () => {
    assert.equal(isUnsound(`{"a":"${'\\"x'.repeat(5_000_000)}"}`), false);
    assert.equal(isUnsound(`{"a":"${'x'.repeat(15_000_000)}","a":1}`), true);
  });
});

suite('the path of a claim', () => {
  const names = fc.constantFrom('sub', 'a', 'b', 'a.b', 'b.a', 'a.b.a', '__proto__', 'constructor', 'length', '0', '');
  const claims = fc.letrec<{ value: unknown; object: Record<string, unknown> }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constantFrom<unknown>('x', 'y', 1, true, null),
      tie('object'),
      fc.array(tie('value'), { maxLength: 2 }),
    ),
    object: fc.dictionary(names, tie('value'), { maxKeys: 4, noNullPrototype: true }),
  })).object;

  test('leads through own members to what is really there, or to nothing', () => {
    let found = 0;
    // a path that leads somewhere, or any
    const cases = fc.tuple(claims, fc.array(names, { minLength: 1, maxLength: 3 }), fc.nat()).map(([all, path, at]) => {
      const places = pathsOf(all).map(([place]) => JSON.parse(place) as string[]);
      return { all, path: (at % 3 > 0 ? places[at % places.length] : undefined) ?? path };
    });
    fc.assert(
      fc.property(cases, fc.boolean(), ({ all, path }, isArray) => {
        const text = isArray ? JSON.stringify(path) : path.join('.');
        const parsed = parseClaimPath(text);
        assert.equal(parsed !== undefined, isArray ? !path.includes('') : text !== '');
        if (!parsed) return;
        const value = findClaim(all, parsed);
        if (value !== undefined) found++;
        // by a list of all that there is, with each of its paths
        const places = new Map(pathsOf(all));
        const candidates = isArray && path.length > 1 ? [path] : [[text], text.split('.')];
        const single = isArray && path.length === 1 ? [[path[0] ?? ''], (path[0] ?? '').split('.')] : candidates;
        const place = single.map((one) => JSON.stringify(one)).find((one) => places.has(one));
        assert.deepEqual(value, place === undefined ? undefined : places.get(place));
      }),
      runs(2_000),
    );
    assert.ok(found > 200, `${found} claims were found`);
  });

  function pathsOf(value: unknown, path: readonly string[] = []): [string, unknown][] {
    if (typeof value !== 'object' || value === null) return [];
    return Object.getOwnPropertyNames(value).flatMap((name): [string, unknown][] => {
      const member = Object.getOwnPropertyDescriptor(value, name)?.value as unknown;
      const here = [...path, name];
      return [[JSON.stringify(here), member], ...pathsOf(member, here)];
    });
  }

  test('is no path with white space, or when it is JSON of anything but names', () => {
    const texts = fc.oneof(fc.json(), fc.string({ unit: 'binary' }), nearly(fc.constant('["a","b"]'), visible));
    fc.assert(
      fc.property(texts, (text) => {
        const path = parseClaimPath(text);
        if (!path) return;
        assert.ok(path.length > 0 && path.every((name) => name !== ''));
        if (text.startsWith('[')) assert.deepEqual(path, JSON.parse(text));
        else assert.ok(path.length === 1 && path[0] === text && text.trim() === text);
      }),
      runs(1_000),
    );
  });

  test('ends at a line of text, or at nothing', () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.string({ unit: 'binary' }), fc.double()), (claim) => {
        const line = asLine(claim);
        if (line === undefined) return;
        assert.equal(line, String(claim));
        assert.doesNotMatch(line, /[\p{Cc}\u2028\u2029]/u);
        assert.ok(Buffer.from(line).toString() === line && line.length >= 1 && line.length <= 1024);
      }),
      runs(2_000),
    );
  });
});

suite('addresses', () => {
  const v4 = fc.oneof(fc.ipV4(), fc.constantFrom('10.0.0.1', '10.0.0.255', '255.255.255.255', '0.0.0.0'));
  const v6 = fc.oneof(fc.ipV6(), fc.constantFrom('::', '::1', '2001:db8::1', '2001:db8:ffff::'));
  const cidrs = fc.oneof(
    fc.tuple(v4, fc.integer({ min: 0, max: 32 })).map(([address, prefix]) => `${address}/${prefix}`),
    fc.tuple(v6, fc.integer({ min: 0, max: 128 })).map(([address, prefix]) => `${address}/${prefix}`),
  );
  const blocks = cidrs.map((cidr) => /did you mean (\S+)\?/.exec(faultOfCidr(cidr) ?? '')?.[1] ?? cidr);

  const familyOf = (address: string) => (isIPv4(address) ? 'ipv4' : 'ipv6');

  /** Some address of the block: the network's, with some of its last bits turned. */
  const inside = (cidr: string, bits: number): string => {
    const [address = '', prefix = ''] = cidr.split('/');
    if (!isIPv4(address)) return address;
    const number = address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
    const turned = Number(prefix) === 32 ? 0 : bits % 2 ** Math.min(31, 32 - Number(prefix));
    return [24, 16, 8, 0].map((shift) => Math.floor((number + turned) / 2 ** shift) % 256).join('.');
  };

  test('are in a network when Node says so as well', () => {
    const seen = new Set<boolean>();
    fc.assert(
      fc.property(fc.array(blocks, { minLength: 1, maxLength: 4 }), fc.oneof(v4, v6), fc.nat(), (list, any, bits) => {
        const good = list.filter((cidr) => faultOfCidr(cidr) === undefined);
        // one for each family: Node's takes every IPv4 address for one in ::/0 as well
        const oracles = { ipv4: new BlockList(), ipv6: new BlockList() };
        for (const cidr of good) {
          const [address = '', prefix = ''] = cidr.split('/');
          oracles[familyOf(address)].addSubnet(address, Number(prefix), familyOf(address));
        }
        const network = createNetwork(good);
        for (const address of [any, ...good.map((cidr) => inside(cidr, bits))]) {
          // an IPv4 address in IPv6 form is told apart elsewhere
          if (address.startsWith('::ffff:')) continue;
          const isIn = network.has(address);
          seen.add(isIn);
          assert.equal(
            isIn,
            oracles[familyOf(address)].check(address, familyOf(address)),
            `${address} in ${good.join(' ')}`,
          );
        }
        for (const address of [any].filter(isIPv4))
          assert.equal(network.has(`::ffff:${address}`), network.has(address), 'in IPv6 form');
      }),
      runs(1_000),
    );
    assert.equal(seen.size, 2);
  });

  test('that are none are in no network, and are no fault', () => {
    const everywhere = createNetwork(['0.0.0.0/0', '::/0']);
    const zones = fc
      .tuple(v6, fc.stringMatching(/^[0-9a-zA-Z.:-]{1,8}$/))
      .map(([address, zone]) => `${address}%${zone}`);
    const texts = fc.oneof(
      nearly(fc.oneof(v4, v6), fc.constantFrom('.', ':', '%', '-', '/', '0', 'f', 'g', ' ')),
      zones,
    );
    fc.assert(
      fc.property(texts, (text) => {
        // with a zone (RFC 4007 11) it is an address of this machine's own view, and of no network
        assert.equal(everywhere.has(text), isIP(text) !== 0 && !text.includes('%'));
      }),
      runs(1_500),
    );
  });

  test('of a block are refused with the block that was meant, which is good', () => {
    fc.assert(
      fc.property(nearly(cidrs, fc.constantFrom('.', ':', '/', '0', '1', 'a', '-', ' ')), (text) => {
        const fault = faultOfCidr(text);
        const meant = /did you mean (\S+)\?/.exec(fault ?? '')?.[1];
        if (meant !== undefined) assert.equal(faultOfCidr(meant), undefined);
        const [address = '', prefix = ''] = text.split('/');
        if (fault === undefined) assert.ok(isIP(address) !== 0 && String(Number(prefix)) === prefix);
      }),
      runs(1_000),
    );
  });
});

suite('spans of time and rates', () => {
  const inSeconds = { '': 1, s: 1, m: 60, h: 3_600, d: 86_400 };
  const unit = fc.constantFrom(...(Object.keys(inSeconds) as (keyof typeof inSeconds)[]));

  test('are a number and a unit, and nothing else', () => {
    const number = fc.oneof(fc.nat().map(String), fc.constantFrom('0', '00', '007', '999999999', '1000000000'));
    fc.assert(
      fc.property(
        nearly(
          fc.tuple(number, unit).map((parts) => parts.join('')),
          visible,
        ),
        (text) => {
          const [digits, letter] = /[smhd]$/.test(text) ? [text.slice(0, -1), text.slice(-1)] : [text, ''];
          const isNumber =
            digits !== '' && digits.length <= 9 && Array.from(digits).every((one) => one >= '0' && one <= '9');
          assert.equal(parseSeconds(text), isNumber ? Number(digits) * inSeconds[letter as 's'] : undefined);
        },
      ),
      runs(1_500),
    );
    fc.assert(
      fc.property(
        nearly(
          fc.tuple(number, unit).map((parts) => parts.join('/')),
          visible,
        ),
        (text) => {
          const [digits = '', letter = '', ...more] = text.split('/');
          const isNumber = String(Math.trunc(Number(digits))) === digits && Number(digits) >= 1 && digits.length <= 9;
          const isGood = isNumber && /^[smhd]$/.test(letter) && more.length === 0;
          assert.deepEqual(
            parseRate(text),
            isGood ? { requests: Number(digits), seconds: inSeconds[letter as 's'] } : undefined,
          );
        },
      ),
      runs(1_500),
    );
  });
});

suite('the environment', () => {
  const addresses = fc.oneof(
    fc
      .tuple(
        fc.oneof(
          fc.domain(),
          fc.ipV4(),
          fc.ipV6().map((one) => `[${one}]`),
        ),
        fc.nat({ max: 70_000 }),
      )
      .map(([host, port]) => `${host}:${port}`),
    fc.webPath({ size: 'xsmall' }).map((path) => `unix:/${path}`),
  );
  const value = fc.oneof(
    fc.constantFrom('', 'true', 'FALSE', '0', '1', '64', '1000', '24h', '90m', 'info', 'gzip', 'http/json', '0.5'),
    fc.constantFrom('sqlite:/data/x.db', 'otlp', 'a=b,c=d', 'https://collector:4318/', 'none', 'console,otlp', '/'),
    nearly(addresses, visible),
    fc.string({ unit: 'binary', maxLength: 10 }),
  );
  const all = [...Object.keys(settings), ...Object.keys(traceSettings)];
  const environments = fc.dictionary(fc.constantFrom(...all), value, { maxKeys: 6, noNullPrototype: true });
  const read = (env: Environment): Config | readonly string[] => {
    try {
      return readConfig(env);
    } catch (error) {
      assert.ok(error instanceof ConfigError, String(error));
      return error.problems;
    }
  };
  const isRefused = (config: Config | readonly string[]): config is readonly string[] => Array.isArray(config);

  test('is read, or each mistake is named once, and what is one alone is one among others', () => {
    const seen = new Set<boolean>();
    fc.assert(
      fc.property(environments, (env) => {
        const config = read(env);
        seen.add(isRefused(config));
        const problems = isRefused(config) ? config : [];
        const named = problems.map((problem) => problem.split(/[ :]/)[0] ?? '');
        assert.ok(named.every((name) => name in env) && new Set(named).size === named.length, problems.join('\n'));
        for (const name of Object.keys(settings).filter((one) => one in env))
          assert.equal(named.includes(name), isRefused(read({ [name]: env[name] })), name);
      }),
      runs(1_500),
    );
    assert.equal(seen.size, 2);
  });

  test('that has a secret where one may be is refused without showing it', () => {
    const secret = 'hunter2hunter2';
    const around = fc.tuple(fc.string({ unit: visible, maxLength: 6 }), fc.string({ unit: visible, maxLength: 6 }));
    const holders = ['DATABASE_URL', 'OTEL_EXPORTER_OTLP_HEADERS', 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'];
    fc.assert(
      fc.property(fc.constantFrom(...holders), around, (name, [before, after]) => {
        const config = read({ OTEL_TRACES_EXPORTER: 'otlp', [name]: `${before}${secret}${after}` });
        if (isRefused(config)) assert.doesNotMatch(config.join('\n'), new RegExp(secret));
      }),
      runs(500),
    );
  });

  test('names an address that there can be, and it is written back as it was', () => {
    let taken = 0;
    fc.assert(
      fc.property(nearly(addresses, fc.constantFrom(':', '[', ']', '.', '/', 'a', '1', ' ')), (text) => {
        const config = read({ APIGW_DECISION_LISTEN: text });
        if (isRefused(config)) return;
        taken++;
        const { decisionListen: address } = config;
        if (address.kind === 'unix') assert.equal(`unix:${address.path}`, text);
        else if (text.startsWith('[')) assert.ok(isIPv6(address.host), `${address.host} is no IPv6 address`);
        else assert.ok(text.startsWith(`${address.host}:`) && Number(text.split(':')[1]) === address.port);
      }),
      runs(1_500),
    );
    assert.ok(taken > 100);
  });
});
