import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandHint } from '../../lib/command-hint.ts';
import { hasErrno, UpdateError } from '../../lib/errors.ts';
import { pingMember } from '../../lib/daemons/serf/ping.ts';
import { publicKeyOf } from '../../lib/trust/ed25519.ts';
import { parseInvitation } from '../../lib/trust/invitation.ts';
import { formatKeySet, type KeySet, parseKeySet } from '../../lib/trust/key-set.ts';
import { readPrivateKey } from '../../lib/trust/private-key.ts';
import { makeKey } from '../keygen/make-keys.ts';
import type { FleetRequest } from './arguments.ts';
import { askSecret } from './ask.ts';
import { type PlannedFile, publicFile } from './plan.ts';
import type { Machine } from './rules.ts';

/** Directory of the fleet's private keys on its first node. */
export const keysDirectory = '/etc/p2p-update/keys';
const releaseKeyFile = join(keysDirectory, 'release.key');

const pingTimeoutMs = 5000;

/** The fleet of a node, as set-up is to write it down. */
export interface Fleet {
  name: string;
  /** Null: the one that is in place stays. */
  keySet: string | null;
  /** Null: the one that is in place, or else a new one. */
  gossipKey: string | null;
  /** Null: the members that are named already. */
  join: string[] | null;
  /** Files of a new fleet's keys. */
  keyFiles: PlannedFile[];
  /** The release key of a new fleet, for `signingKeyFiles`. */
  signingKeyFile: string | null;
}

/** The key set in `keySetFile`, as set-up or a person placed it. */
export interface KnownKeySet {
  text: string;
  fleet: string;
}

/**
 * Finds out what fleet is asked for, and refuses one that is not that of the node. A member is pinged, so that
 * an address or a token that does not fit is found before anything is changed.
 *
 * @param known null: the machine has no key set
 * @param root what `readMachine` was given; no member is pinged for an image
 * @param nodeName the name that this machine is to have in Serf
 * @throws UpdateError `refused`, `malformed`, `unavailable`
 */
export async function resolveFleet(
  request: FleetRequest,
  known: KnownKeySet | null,
  machine: Machine,
  root: string,
  nodeName: string,
): Promise<Fleet> {
  if (request.kind === 'new') return newFleet(request.name, known, machine, root);
  const invitation = parseInvitation(readInvitation(request));
  const keySet = parseKeySet(invitation.keySet);
  if (known !== null) requireSameFleet(known, keySet, invitation.keySet);
  const members = [...new Set([...request.addresses, ...invitation.join])];
  if (root === '/') {
    await requireMember(members, invitation.gossipKey);
    // A node that is set up again may be named by itself.
    if (known === null) await requireOtherName(members, invitation.gossipKey, nodeName);
  }
  return {
    name: keySet.fleet,
    keySet: known === null ? invitation.keySet : null,
    gossipKey: invitation.gossipKey,
    join: members,
    ...{ keyFiles: [], signingKeyFile: null },
  };
}

function newFleet(name: string, known: KnownKeySet | null, machine: Machine, root: string): Fleet {
  const without = { name, gossipKey: null, join: null };
  if (known !== null) {
    if (known.fleet !== name) throw otherFleet(known.fleet);
    // A key set that keygen made elsewhere: its private keys are not this node's.
    return { ...without, keySet: null, keyFiles: [], signingKeyFile: null };
  }
  const { keySet, files } = fleetKeys(name, machine, root);
  const text = formatKeySet(keySet);
  return {
    ...without,
    keySet: text,
    keyFiles: [...files, { path: join(keysDirectory, 'keyset.txt'), ownership: publicFile, text }],
    signingKeyFile: releaseKeyFile,
  };
}

/** New keys, or those that an interrupted set-up has left. */
function fleetKeys(
  fleet: string,
  machine: Machine,
  root: string,
): { keySet: KeySet; files: PlannedFile[] } {
  const there = machine.read(join(keysDirectory, 'keyset.txt'));
  if (there !== undefined && parseKeySet(there).fleet !== fleet)
    throw new UpdateError(
      'refused',
      `${keysDirectory} has the keys of ${parseKeySet(there).fleet}`,
      {
        hint: 'move them away: a key that nodes trust must not be lost, and two fleets share none',
      },
    );
  const files: PlannedFile[] = [];
  const publicKeyFor = (name: string) => {
    const path = join(keysDirectory, `${name}.key`);
    if (machine.look(path) !== undefined) {
      const hint = `move ${keysDirectory} away if it is of no use: a key that nodes trust must not be lost`;
      const key = readPrivateKey(root === '/' ? path : join(root, path), hint);
      return publicKeyOf(createPublicKey(key));
    }
    const made = makeKey(keysDirectory, name);
    for (const { path: file, content, mode } of made.files)
      files.push({ path: file, text: content, ownership: { owner: 'root', group: 'root', mode } });
    return made.publicKey;
  };
  const rootKeys = [publicKeyFor('root')];
  const releaseKeys = [{ key: publicKeyFor('release'), channels: null }];
  const keySet = { fleet, epoch: 1, rootThreshold: 1, rootKeys, releaseThreshold: 1, releaseKeys };
  return { keySet, files };
}

function requireSameFleet(known: KnownKeySet, { fleet, epoch }: KeySet, text: string): void {
  if (fleet !== known.fleet) throw otherFleet(known.fleet);
  // Of the same epoch there is one key set; of another epoch the node's own chain of key sets decides.
  if (epoch === parseKeySet(known.text).epoch && text !== known.text)
    throw new UpdateError('refused', `the invitation is of another fleet that is named ${fleet}`, {
      hint: 'is it the right invitation? The key set in place stays as it is',
    });
}

function otherFleet(fleet: string): UpdateError {
  return new UpdateError('refused', `this machine is a node of the fleet ${fleet}`, {
    hint: `to take it out of that fleet: ${commandHint('setup', '--remove')}, then run setup again`,
  });
}

function readInvitation({ from }: FleetRequest & { kind: 'join' }): string {
  if (from === 'terminal') return askSecret('Invitation (it is not shown): ');
  const name = from === 'standard input' ? from : from.file;
  try {
    return readFileSync(from === 'standard input' ? 0 : from.file, 'utf8');
  } catch (cause) {
    if (hasErrno(cause, 'EAGAIN')) return '';
    throw new UpdateError('usage', `cannot read the invitation, ${name}`, {
      hint: `make it on a node of the fleet: ${commandHint('invite', '--out', 'FILE')}`,
      cause,
    });
  }
}

/** Requires that a member answers, and takes the gossip key. */
async function requireMember(addresses: readonly string[], gossipKey: string): Promise<void> {
  const answers = await Promise.all(
    addresses.map((address) => pingMember(address, gossipKey, pingTimeoutMs)),
  );
  if (answers.includes('same key')) return;
  const refusing = addresses.filter((_, index) => answers[index] === 'other key');
  if (refusing.length > 0)
    throw new UpdateError(
      'refused',
      `the member at ${refusing.join(', ')} has another gossip key than the invitation`,
      {
        hint: `the key was changed since, or the address is of another fleet: take a new line, p2p-update invite, on a node of the fleet`,
      },
    );
  throw new UpdateError('unavailable', `no member answers at ${addresses.join(', ')}`, {
    hint: 'is it up, is the address right, is its port 7946 (TCP and UDP) open to this machine? Nothing was changed',
  });
}

/**
 * Refuses the name of a member that is joined: of two agents of one name both end where no third one votes
 * (resolveNodeConflict in serf/serf/serf.go), the member too.
 */
async function requireOtherName(
  addresses: readonly string[],
  gossipKey: string,
  name: string,
): Promise<void> {
  const answers = await Promise.all(
    addresses.map((address) => pingMember(address, gossipKey, pingTimeoutMs, name)),
  );
  const [taken] = addresses.filter((_, index) => answers[index] === 'same key');
  if (taken !== undefined) throw nameIsTaken(name, `the member at ${taken}`);
}

export function nameIsTaken(name: string, by: string): UpdateError {
  return new UpdateError('refused', `${by} has the name ${name} too, and names are unique`, {
    hint: 'give this machine another one: run setup again with --node-name NAME',
  });
}
