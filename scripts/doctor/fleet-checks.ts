import { commandHint, shellCommand } from '../../lib/command-hint.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import type { Reach } from './handshake.ts';

/** A member's Transmission, as it was called from here. */
export interface CalledPeer {
  name: string;
  address: string;
  port: number;
  reach: Reach;
}

const peersCheck = checkOf('peers', 'peers reachable');

/**
 * Judges whether the Transmission of other members can be called from this node.
 *
 * @param others number of alive members besides this node, of which some were called
 * @param hadTorrent whether the calls offered an info hash
 */
export function judgePeers(
  peers: readonly CalledPeer[],
  others: number,
  hadTorrent: boolean,
): Check {
  const { ok, warn, fail } = peersCheck;
  if (others === 0) return ok('no other member is alive');
  const dead = peers.filter(({ reach }) => reach === 'refused' || reach === 'silent');
  const answered = peers.filter(({ reach }) => reach === 'answered').length;
  const list = dead
    .slice(0, 5)
    .map(({ name, address, port, reach }) => `${name} (${address}:${port} ${reach})`)
    .join(', ');
  const [first] = dead;
  if (first === undefined) {
    const how = hadTorrent ? `${answered} answered a handshake` : 'no torrent to ask for yet';
    return ok(`${peers.length} of ${others} members called, all take connections; ${how}`);
  }
  const test = shellCommand('nc', '-zv', first.address, String(first.port));
  return dead.length === peers.length
    ? fail(`no member's Transmission can be called: ${list}`, test)
    : warn(`${dead.length} of ${peers.length} members cannot be called: ${list}`, test);
}

const fleetCheck = checkOf('fleet', 'software of the fleet');

/** Answers of the members to the summary query. */
export interface FleetAnswers {
  /** Software by the member's name. */
  software: ReadonlyMap<string, string>;
  /** Alive members without a usable answer. */
  silent: readonly string[];
  own: string;
}

/** Judges the versions of the software in the fleet; null: the query did not end in time. */
export function judgeFleetSoftware(answers: FleetAnswers | null): Check {
  const { ok, warn } = fleetCheck;
  if (answers === null) return warn('the members took too long to answer', commandHint('status'));
  const { software, silent, own } = answers;
  const others = new Map<string, string[]>();
  for (const [name, version] of software)
    if (version !== own) others.set(version, [...(others.get(version) ?? []), name]);
  const names = (list: readonly string[]): string =>
    list.length > 5
      ? `${list.slice(0, 5).join(', ')} and ${list.length - 5} more`
      : list.join(', ');
  const findings = [
    ...[...others].map(([version, list]) => `${version} on ${names(list)}, ${own} here`),
    ...(silent.length > 0 ? [`no answer from ${names(silent)}`] : []),
  ];
  return findings.length > 0
    ? warn(findings.join('; '), commandHint('status'))
    : ok(`${own} on ${software.size} of ${software.size}`);
}
