import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { checksumOf, digestSecret, generateSecret, isId, isIntact, parseApiKey } from '../../src/auth/api-key.ts';
import { parseCredential } from '../../src/auth/credential.ts';

const secret = 'a'.repeat(64);

suite('the Authorization header', () => {
  test('is an API key when it is exactly one, with the scheme in any case', () => {
    for (const scheme of ['apk', 'APK', 'Apk']) {
      assert.deepEqual(parseCredential(`${scheme} 7.${secret}`), { scheme: 'apk', clientId: '7', secret });
    }
    assert.deepEqual(parseCredential(`apk   9223372036854775807.${secret}`), {
      scheme: 'apk',
      clientId: '9223372036854775807',
      secret,
    });
  });

  test('is no credential when it is absent or empty', () => {
    assert.equal(parseCredential(undefined).scheme, 'none');
    assert.equal(parseCredential('').scheme, 'none');
  });

  test('keeps other schemes apart', () => {
    assert.deepEqual(parseCredential('bearer a.b.c'), { scheme: 'bearer', token: 'a.b.c' });
    assert.equal(parseCredential('Basic dXNlcjpwYXNz').scheme, 'unsupported');
  });

  const ids = [
    '01',
    '+1',
    '-1',
    '1e0',
    '0x1',
    '0',
    '',
    '1 ',
    '9223372036854775808',
    `1${'0'.repeat(100)}`,
    '１',
    '١',
    '1_0',
    '1,0',
  ];
  for (const id of ids) {
    test(`refuses the id ${JSON.stringify(id)} as text, before any lookup`, () => {
      assert.equal(parseCredential(`apk ${id}.${secret}`).scheme, 'malformed');
      assert.equal(isId(id), false);
    });
  }

  const malformed: Record<string, string> = {
    'a secret of 63 characters': `apk 1.${'a'.repeat(63)}`,
    'a secret of 65 characters': `apk 1.${'a'.repeat(65)}`,
    'a character outside A-Z a-z 0-9': `apk 1.${'a'.repeat(63)}-`,
    'a final line feed': `apk 1.${secret}\n`,
    'two credentials with a comma': `apk 1.${secret}, apk 2.${secret}`,
    'two credentials with a space': `apk 1.${secret} apk 2.${secret}`,
    'a tab for the space': `apk\t1.${secret}`,
    'no scheme': `1.${secret}`,
    'a scheme alone': 'apk',
    'a scheme and a space': 'apk ',
    'a leading space': ` apk 1.${secret}`,
    'what nginx sends for control bytes': 'not-printable',
    'what stands for two header lines': ',',
  };
  for (const [what, header] of Object.entries(malformed)) {
    test(`is malformed with ${what}`, () => {
      assert.equal(parseCredential(header).scheme, 'malformed');
    });
  }

  test('never throws, and finds a key only in its canonical form', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 120 }), (text) => {
        const credential = parseCredential(text);
        if (credential.scheme !== 'apk') return;
        assert.match(text, /^apk +[1-9][0-9]*\.[A-Za-z0-9]{64}$/i);
      }),
    );
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }), (id) => {
        assert.equal(parseApiKey(`${id.toString()}.${secret}`)?.clientId, id.toString());
      }),
    );
    fc.assert(
      fc.property(fc.bigInt({ min: 2n ** 63n, max: 2n ** 70n }), (id) => {
        assert.equal(parseApiKey(`${id.toString()}.${secret}`), undefined);
      }),
    );
  });
});

suite('a generated secret', () => {
  test('has 58 random characters of A-Z a-z 0-9, all of them equally likely', () => {
    const counts = new Map<string, number>();
    const secrets = Array.from({ length: 2_000 }, () => generateSecret('1'));
    for (const one of secrets) assert.match(one, /^[A-Za-z0-9]{64}$/);
    const random = secrets.map((one) => one.slice(0, 58));
    for (const character of random.join('')) counts.set(character, (counts.get(character) ?? 0) + 1);
    assert.equal(new Set(random).size, secrets.length);
    // 116,000 draws from 62: chi-square with 61 degrees of freedom is beyond 150 once in some 10^9 runs
    const expected = (secrets.length * 58) / 62;
    const chiSquare = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    assert.equal(counts.size, 62);
    assert.ok(chiSquare < 150, `chi-square ${chiSquare}`);
  });

  test('ends with a checksum that finds a wrong character, two that changed places, and another id', () => {
    const key = (clientId: string, text: string) => isIntact({ scheme: 'apk', clientId, secret: text });
    const one = generateSecret('42');
    assert.ok(key('42', one));
    assert.equal(key('43', one), false);
    for (let at = 0; at < 64; at++) {
      const wrong = `${one.slice(0, at)}${one[at] === 'x' ? 'y' : 'x'}${one.slice(at + 1)}`;
      assert.equal(key('42', wrong), false, `character ${at}`);
      const [first = '', second = ''] = one.slice(at, at + 2);
      if (second === '' || first === second) continue;
      const swapped = `${one.slice(0, at)}${second}${first}${one.slice(at + 2)}`;
      assert.equal(key('42', swapped), false, `characters ${at} and the next`);
    }
  });

  test('has a checksum that others can compute: CRC-32 in base 62', () => {
    // the check value of CRC-32 for these nine digits is cbf43926
    assert.equal(checksumOf('123456789'), 'DtjbWO');
  });

  test('is kept as its SHA-256', () => {
    assert.equal(digestSecret('abc'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  });
});
