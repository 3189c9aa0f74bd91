import { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';

/** Blocks in which Serf's agent finds its own address (GetPrivateInterfaces in go-sockaddr's ifaddrs.go). */
const privateBlocks = blocks(
  ...['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.168.0.0/16'],
  ...['192.88.99.0/24', '198.18.0.0/15', 'fc00::/7'],
);
const linkLocalBlocks = blocks('169.254.0.0/16', 'fe80::/10');

/** The addresses of a machine, as far as the daemons depend on them. */
export interface Addresses {
  /** Addresses at which other machines could reach it. */
  reachable: string[];
  /** Whether Serf's agent finds one of them by itself. */
  hasPrivate: boolean;
  /**
   * Whether there is an IPv4 address besides 127.0.0.0/8. Transmission does not serve its RPC at 127.0.0.1 on a
   * machine without one (evutil_check_ifaddrs in libevent's evutil.c).
   */
  hasIPv4: boolean;
}

/** Gives a loopback interface an address that is nobody's: the dummy address of RFC 7600. */
export const addDummyIPv4 = 'ip addr add 192.0.0.8/32 dev lo';

/** Looks up the addresses of this machine. */
export function readAddresses(interfaces = networkInterfaces()): Addresses {
  const all = Object.values(interfaces).flatMap((each) => each ?? []);
  const isIn = (list: BlockList, { address, family }: (typeof all)[number]): boolean =>
    list.check(address, family === 'IPv6' ? 'ipv6' : 'ipv4');
  const reachable = all.filter((each) => !each.internal && !isIn(linkLocalBlocks, each));
  return {
    reachable: reachable.map(({ address }) => address),
    hasPrivate: reachable.some((each) => isIn(privateBlocks, each)),
    hasIPv4: all.some(({ family, address }) => family === 'IPv4' && !address.startsWith('127.')),
  };
}

function blocks(...subnets: readonly string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [address = '', bits] = subnet.split('/');
    list.addSubnet(address, Number(bits), address.includes(':') ? 'ipv6' : 'ipv4');
  }
  return list;
}
