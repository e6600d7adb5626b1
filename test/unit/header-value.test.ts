import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { encodeHeaderValue } from '../../src/auth/header-value.ts';

suite('a value in a header', () => {
  test('is printable ASCII, at most 1,024 bytes, and decodes to the text or to its beginning', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 600 }), (text) => {
        const encoded = encodeHeaderValue(text);
        assert.match(encoded, /^(?:[!-~](?:[ -~]*[!-~])?)?$/);
        assert.ok(encoded.length <= 1024);
        const decoded = decodeURIComponent(encoded);
        assert.ok(text.startsWith(decoded));
        if (encodeURIComponent(text).length <= 1024) assert.equal(decoded, text);
      }),
    );
  });

  test('is left as it is when it is plain', () => {
    assert.equal(encodeHeaderValue('billing service (eu-1)'), 'billing service (eu-1)');
  });

  const examples: [string, string][] = [
    ['Zoë', 'Zo%C3%AB'],
    ['100 %', '100 %25'],
    ['a\r\nX-Client-Id: 1', 'a%0D%0AX-Client-Id: 1'],
    [' padded ', '%20padded%20'],
  ];
  for (const [text, encoded] of examples) {
    test(`${JSON.stringify(text)} becomes ${encoded}`, () => {
      assert.equal(encodeHeaderValue(text), encoded);
    });
  }

  test('is cut between characters when it is too long', () => {
    assert.equal(encodeHeaderValue('é'.repeat(400)), '%C3%A9'.repeat(170));
    assert.equal(encodeHeaderValue('a'.repeat(1025)), 'a'.repeat(1024));
  });
});
