import type { NetworkInterfaceInfo } from 'node:os';
import { expect, it } from 'vitest';
import { readAddresses } from '../../../scripts/doctor/addresses.ts';

const loopback = ['127.0.0.1', '::1'];

/** Interfaces as os.networkInterfaces() gives them. */
function interfacesOf(eth: readonly string[], lo: readonly string[] = loopback) {
  const of = (addresses: readonly string[], internal: boolean): NetworkInterfaceInfo[] =>
    addresses.map((address) => ({
      ...{ address, netmask: '', mac: '', cidr: null, internal },
      ...(address.includes(':')
        ? { family: 'IPv6' as const, scopeid: 0 }
        : { family: 'IPv4' as const }),
    }));
  return { lo: of(lo, true), eth0: of(eth, false) };
}

it.each([
  ['10.0.0.1', true],
  ['172.31.255.1', true],
  ['172.32.0.1', false],
  ['192.168.1.2', true],
  ['100.64.0.1', true],
  ['203.0.113.5', false],
  ['fd00::1', true],
  ['2001:db8::1', false],
])('Serf finds %s by itself: %s', (address, hasPrivate) => {
  const found = readAddresses(interfacesOf([address]));
  expect(found).toMatchObject({ reachable: [address], hasPrivate });
});

it.each([[[]], [['169.254.1.1', 'fe80::1']]])('%j reaches nobody', (addresses) => {
  const found = readAddresses(interfacesOf(addresses));
  expect(found).toMatchObject({ reachable: [], hasPrivate: false });
});

it.each([
  [['fd00::1'], loopback, false],
  [['fd00::1'], [...loopback, '192.0.0.8'], true],
  [['fd00::1', '169.254.1.1'], loopback, true],
  [['10.0.0.1'], loopback, true],
])('%j, with %j at the loopback, has IPv4: %s', (eth, lo, hasIPv4) => {
  expect(readAddresses(interfacesOf(eth, lo))).toMatchObject({ hasIPv4 });
});
