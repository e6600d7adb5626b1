import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { createNetwork, faultOfCidr } from '../../src/auth/network.ts';

suite('the network of a client', () => {
  const network = createNetwork(['192.0.2.0/24', '198.51.100.7/32', '2001:db8::/32', '::1/128']);
  for (const address of ['192.0.2.0', '192.0.2.255', '198.51.100.7', '2001:db8:ffff::1', '::1', '::ffff:192.0.2.9']) {
    test(`has ${address}`, () => {
      assert.equal(network.has(address), true);
    });
  }
  for (const address of [
    ...['192.0.3.0', '198.51.100.8', '2001:db9::', '::', '::ffff:198.51.100.8'],
    ...['', 'unix:', 'localhost', '192.0.2', '192.0.2.1, 192.0.2.2', '0xc0.0.2.1', '192.0.2.1/24', '192.000.2.1'],
  ]) {
    test(`has not ${JSON.stringify(address)}`, () => {
      assert.equal(network.has(address), false);
    });
  }

  test('has no address with a zone, whatever the zone is', () => {
    const everywhere = createNetwork(['0.0.0.0/0', '::/0']);
    for (const address of ['fe80::1%eth0', '::1%a-b', '::ffff:192.0.2.9%1'])
      assert.equal(everywhere.has(address), false, address);
  });

  test('does not take the IPv6 address ::192.0.2.9 for the IPv4 address', () => {
    assert.equal(network.has('::192.0.2.9'), false);
    assert.equal(createNetwork(['::/0']).has('::192.0.2.9'), true);
  });

  test('is nobody when it has a block that is none', () => {
    const broken = createNetwork(['anywhere']);
    for (const address of ['192.0.2.1', '::1', '']) assert.equal(broken.has(address), false);
  });

  test('is everybody of one family with the prefix 0', () => {
    assert.equal(createNetwork(['0.0.0.0/0']).has('203.0.113.9'), true);
    assert.equal(createNetwork(['0.0.0.0/0']).has('2001:db8::1'), false);
    assert.equal(faultOfCidr('::/0'), undefined);
  });
});
