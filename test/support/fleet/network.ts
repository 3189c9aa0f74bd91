import { mustRun, runSync } from '../run/command.ts';

/** Place of one machine in the network. */
export interface Place {
  /** The name of its network namespace, for `ip netns exec`. */
  namespace: string;
  address: string;
}

/** A private network of machines, each a network namespace. */
export interface Network {
  places: Place[];
  /** Ends every process in it, by SIGKILL, and removes it. */
  remove(): void;
}

/** See {@link layNetwork}. */
export type Layout = 1 | 2 | 'IPv6';

/**
 * Lays a network.
 *
 * @param names of the machines, at most 6 characters each
 * @param layout 1: one switch; IPv6: one too, and IPv4 reaches nobody; 2: two subnets, machines alternate, with a
 *   router between them and no multicast anywhere
 * @throws Error when not in the sandbox
 */
export function layNetwork(names: readonly string[], layout: Layout): Network {
  if (process.env['P2P_UPDATE_SANDBOX'] !== 'inside') {
    throw new Error(
      'network namespaces are made in the sandbox only: sh test/support/run/sandbox.sh COMMAND',
    );
  }
  const id = claimBridge();
  const subnets = layout === 2 ? 2 : 1;
  const namespaces: string[] = [];
  const bridges = [`p2p${id}`];
  const ports: string[] = [];
  const remove = (): void => {
    for (const namespace of namespaces) killAll(namespace);
    // The kernel deletes what is in a namespace some time later, and until then its ports' names are taken.
    for (const port of ports) ip(['link', 'delete', port]);
    for (const namespace of namespaces) ip(['netns', 'delete', namespace]);
    for (const bridge of bridges) ip(['link', 'delete', bridge]);
  };
  const plug = (machine: string, port: string, device: string, bridge: string): void => {
    ip(['link', 'add', port, 'type', 'veth', 'peer', 'name', device, 'netns', machine]);
    ports.push(port);
    ip(['link', 'set', port, 'master', bridge, 'up']);
  };

  try {
    if (subnets === 2) {
      ip(['link', 'add', `p2p${id}b`, 'type', 'bridge']);
      bridges.push(`p2p${id}b`);
    }
    for (const bridge of bridges) ip(['link', 'set', bridge, 'up']);

    const places = names.map((name, index) => {
      const subnet = index % subnets;
      const namespace = `p2p${id}-${name}`;
      const host = index + 1;
      const address = layout === 'IPv6' ? `fd00:${id}::${host}` : `10.${id}.${subnet}.${host}`;
      // Nothing else may be reachable, and at once so: Facter asks a cloud's metadata server, and waits.
      const more = {
        1: `addr add ${address}/24 dev eth0
            route add 224.0.0.0/4 dev eth0`,
        2: `addr add ${address}/24 dev eth0
            route add default via 10.${id}.${subnet}.254
            route add unreachable 224.0.0.0/4`,
        // Usable at once: without duplicate address detection. Without an IPv4 address besides 127.0.0.1
        // Transmission does not serve its RPC there (docs/transmission.md#ipv6).
        IPv6: `addr add ${address}/64 dev eth0 nodad
               addr add 192.0.0.8/32 dev lo`,
      };
      ip(['netns', 'add', namespace]);
      namespaces.push(namespace);
      plug(namespace, `p2p${id}-${index}`, 'eth0', bridges[subnet] ?? '');
      batch(
        ['-n', namespace],
        `link set lo up
         link set eth0 up
         ${more[layout]}`,
      );
      return { namespace, address };
    });

    if (subnets === 2) {
      const router = `p2p${id}-router`;
      ip(['netns', 'add', router]);
      namespaces.push(router);
      bridges.forEach((bridge, i) => {
        plug(router, `p2p${id}-r${i}`, `eth${i}`, bridge);
      });
      batch(
        ['-n', router],
        bridges
          .map((_, i) => `link set eth${i} up\naddr add 10.${id}.${i}.254/24 dev eth${i}`)
          .join('\n'),
      );
      ip(['netns', 'exec', router, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward']);
    }
    return { places, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** Makes a bridge with the first free number: making one is atomic, so two networks never share it. */
function claimBridge(): number {
  for (let id = 1; id < 255; id += 1) {
    const { status, stderr } = runSync(['ip', 'link', 'add', `p2p${id}`, 'type', 'bridge']);
    if (status === 0) return id;
    if (!stderr.includes('File exists')) throw new Error(`ip link add p2p${id}: ${stderr}`);
  }
  throw new Error('254 networks are in use');
}

function killAll(namespace: string): void {
  // A process can have a child just before it dies: look again until none is left.
  for (;;) {
    const pids = runSync(['ip', 'netns', 'pids', namespace])
      .stdout.split('\n')
      .filter((pid) => pid !== '');
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
  }
}

/** Runs `ip` commands, one a line. */
function batch(options: readonly string[], commands: string): void {
  ip([...options, '-batch', '-'], commands);
}

function ip(args: readonly string[], input = ''): void {
  mustRun(['ip', ...args], { input });
}
