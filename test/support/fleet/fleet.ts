import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../../../lib/config.ts';
import { formatKeySet } from '../../../lib/trust/key-set.ts';
import { makeKeys, pemOf, type TestKeys } from './announce.ts';
import { FleetNode } from './fleet-node.ts';
import { type Layout, layNetwork } from './network.ts';
import { waitFor } from '../run/wait-for.ts';

/** The product's timer. */
const timerMs = 60_000;

/** The fleet id in the key set of every test fleet. */
export const fleetId = 'test-fleet';

export interface FleetOptions {
  nodes: number;
  /** Of the network, see `layNetwork`; 1: one switch, the default. */
  layout?: Layout;
  /** The number of release keys, which all have to sign; the operator's node has them. */
  signers?: 1 | 2 | 3;
  /** Number of the operator's node; 1: n1, the default. */
  operator?: number;
  /** Members of p2p-update's configuration that differ from a test fleet's own. */
  config?: Partial<Config>;
  /** Members of Serf's configuration that differ from serf.json. */
  serf?: Record<string, unknown>;
  /** Whether nodes notice joins; without that only events change their state. */
  joins?: boolean;
  /** Whether to start Transmission. */
  transmission?: boolean;
  /** Nodes whose daemons are not started: they are for the test to start, when it wants them. */
  absent?: readonly string[];
  /**
   * `given`, the default: Puppet reads few facts from a file; collecting them takes a third of each run.
   * `collected`: as in life, with the facts about the update.
   */
  facts?: 'collected' | 'given';
  /** Runs a daemon, such as `n1-serf`, by another command, such as strace. */
  daemonCommand?: (command: readonly string[], name: string) => readonly string[];
  /** Directory for its files, which stay; without it they are temporary. */
  keepIn?: string;
}

/** A running test fleet. */
export interface Fleet {
  /** Has every file of the fleet; its path contains a space. */
  directory: string;
  /** n1, n2 and so on. */
  nodes: FleetNode[];
  /** The operator's node has the private ones below its etc/: release-1.pem and so on, and root-1.pem. */
  keys: TestKeys;
  /**
   * Asks until a condition holds; the error shows the tail of every log. Meanwhile each node that is up reconciles
   * once a minute, as it does by its timer: on a busy machine that is what heals an answer, or a connection, that
   * came too late.
   */
  waitFor<T>(
    description: string,
    condition: () => T | Promise<T>,
    timeoutMs?: number,
  ): Promise<Exclude<T, false | undefined>>;
  /** The tail of every log. */
  logs(): string;
  /** Ends every process at once, and removes the network and the files. */
  stop(): void;
}

/**
 * Brings up real Serf agents and Transmission daemons that know each other, each node in a network
 * namespace and a directory of its own. Works in test/support/run/sandbox.sh only.
 */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  const names = Array.from({ length: options.nodes }, (_, index) => `n${index + 1}`);
  const network = layNetwork(names, options.layout ?? 1);
  // The space is on purpose: every path must survive one.
  const directory = options.keepIn ?? mkdtempSync(join(tmpdir(), 'p2p fleet-'));
  const stop = (): void => {
    network.remove();
    if (options.keepIn === undefined) rmSync(directory, { recursive: true, force: true });
  };
  try {
    const keys = makeKeys(fleetId, options.signers ?? 1);
    const secrets = {
      encryptKey: randomBytes(32).toString('base64'),
      rpcKey: randomBytes(16).toString('hex'),
      rpcPassword: randomBytes(16).toString('hex'),
      keySet: formatKeySet(keys.keySet),
    };
    const operatorIndex = (options.operator ?? 1) - 1;
    const nodes = network.places.map((place, index) => {
      const name = names[index] ?? '';
      return new FleetNode({
        name,
        place,
        directory: join(directory, name),
        secrets,
        signingKeys: index === operatorIndex ? keys.releaseKeys.map(pemOf) : [],
        rootKeys: index === operatorIndex ? keys.rootKeys.map(pemOf) : [],
        join: network.places.map(({ address }) => address),
        config: options.config ?? {},
        serf: options.serf ?? {},
        joins: options.joins ?? true,
        facts: options.facts ?? 'given',
        daemonCommand: options.daemonCommand ?? ((command) => command),
      });
    });
    const logs = (): string => nodes.map((node) => node.logs()).join('\n');
    const reconcile = (): void => {
      for (const node of nodes)
        // Its failures are in its log: a test may have taken anything from the node.
        if (node.serf.isRunning) node.script('reconcile', ['--no-wait']).catch(() => undefined);
    };
    const fleet: Fleet = {
      directory,
      keys,
      nodes,
      waitFor: (description, condition, timeoutMs) => {
        const timer = options.joins === false ? undefined : setInterval(reconcile, timerMs);
        return waitFor(description, condition, timeoutMs, logs).finally(() => {
          clearInterval(timer);
        });
      },
      logs,
      stop,
    };
    const present = nodes.filter(({ name }) => options.absent?.includes(name) !== true);
    await startDaemons(fleet, present, options.transmission ?? true);
    return fleet;
  } catch (error) {
    stop();
    throw error;
  }
}

async function startDaemons(
  fleet: Fleet,
  nodes: readonly FleetNode[],
  transmission: boolean,
): Promise<void> {
  const startSerf = async (): Promise<void> => {
    // The others find the first one at their first attempt to join.
    await nodes[0]?.serf.start();
    await Promise.all(nodes.slice(1).map((node) => node.serf.start()));
    await fleet.waitFor('every agent knows every node', async () => {
      const alive = await Promise.all(nodes.map((node) => node.aliveMembers()));
      return alive.every((members) => members.length === nodes.length);
    });
  };
  await Promise.all([
    startSerf(),
    ...(transmission ? nodes.map((node) => node.transmission.start()) : []),
  ]);
}
