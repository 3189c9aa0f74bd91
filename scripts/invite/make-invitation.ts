import { shellCommand } from '../../lib/command-hint.ts';
import type { Config } from '../../lib/config.ts';
import { UpdateError } from '../../lib/errors.ts';
import type { Member } from '../../lib/daemons/serf/members.ts';
import { gossipPort } from '../../lib/daemons/serf/ping.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { findDaemon } from '../../lib/system/daemon-process.ts';
import { formatInvitation } from '../../lib/trust/invitation.ts';
import { formatKeySet } from '../../lib/trust/key-set.ts';
import { readSerfConfig, serfDirectoryOf } from '../doctor/serf-config.ts';
import { readMachine } from '../setup/machine.ts';

/**
 * Makes the invitation of this node's fleet: its newest key set, and the gossip key that Serf's files have.
 *
 * @param join addresses of members
 * @throws UpdateError `configuration`
 */
export function makeInvitation(
  config: Pick<Config, 'keySetFile' | 'applyDir'>,
  join: string[],
): { join: string[]; token: string } {
  const agent = findDaemon('serf', (argv) => argv[1] === 'agent');
  const directory = serfDirectoryOf(agent);
  const { encryptKey } = readSerfConfig(readMachine('/'), directory);
  if (encryptKey === undefined)
    throw new UpdateError('configuration', `there is no encrypt_key in ${directory}`, {
      hint: 'gossip is not encrypted, or this user may not read the key: run it as root; docs/serf.md',
    });
  const keySet = formatKeySet(currentKeySet(config));
  return { join, token: formatInvitation({ keySet, gossipKey: encryptKey, join }) };
}

/** Address at which another machine joins a member. */
export function joinAddressOf({ address, port }: Pick<Member, 'address' | 'port'>): string {
  const host = address.includes(':') ? `[${address}]` : address;
  return port === gossipPort ? host : `${host}:${port}`;
}

/**
 * The line to paste on the next machine. The token goes to standard input by a here-string of bash, so that ps(1)
 * does not show it; and the line takes itself out of the shell's history before anything else.
 */
export function pasteLine({ join, token }: { join: readonly string[]; token: string }): string {
  const members = join.flatMap((address) => ['--join', address]);
  const command = shellCommand('p2p-update', 'setup', ...members, '--token', '-');
  return `history -d -1; ${command} <<< ${token}`;
}
