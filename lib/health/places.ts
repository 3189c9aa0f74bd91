import { accessSync, constants, lstatSync } from 'node:fs';
import { join } from 'node:path';
import { commandHint, shellCommand } from '../command-hint.ts';
import type { Config } from '../config.ts';
import { hasErrno } from '../errors.ts';
import {
  applyDirectories,
  applyDirOwnership,
  completeDir,
  deliveryDirOwnership,
  formatMode,
  hasOwnership,
  nodeUser,
  type Ownership,
  stateDirectories,
  stateDirOwnership,
  transmissionUser,
} from '../state/layout.ts';
import { type Accounts, readAccounts } from '../system/accounts.ts';
import { type Check, checkOf } from './check.ts';

/** A directory of the node: as set-up makes it, and as it is. */
export interface Place {
  path: string;
  wanted: Ownership;
  /** `closed`: this user may not look. */
  found: FoundPlace | 'missing' | 'closed';
}

export interface FoundPlace {
  isDirectory: boolean;
  uid: number;
  gid: number;
  mode: number;
  /** Result of access(2) for writing, by this user. */
  write: 'allowed' | 'denied' | 'read-only';
}

export interface PlacesInput {
  places: readonly Place[];
  accounts: Accounts;
  /** Whether users share the work as set-up arranges it; else one user does all, as in a lab. */
  isSplit: boolean;
  /** The user that looks. */
  uid: number;
}

/** Reads the directories of the node, as far as this user can see them. */
export function readPlaces(config: Config): PlacesInput {
  const { stateDir, applyDir, deliveryDir } = config;
  const wanted: [path: string, Ownership][] = [
    [stateDir, stateDirOwnership],
    ...below(stateDir, stateDirectories),
    [applyDir, applyDirOwnership],
    ...below(applyDir, applyDirectories),
    [deliveryDir, deliveryDirOwnership],
  ];
  const accounts = readAccounts();
  return {
    places: wanted.map(([path, ownership]) => ({ path, wanted: ownership, found: look(path) })),
    accounts,
    isSplit: isSplit(config, accounts),
    uid: process.geteuid?.() ?? 0,
  };
}

function below(parent: string, directories: Record<string, Ownership>): [string, Ownership][] {
  return Object.entries(directories).map(([name, ownership]) => [join(parent, name), ownership]);
}

function look(path: string): Place['found'] {
  try {
    const stats = lstatSync(path);
    const { uid, gid, mode } = stats;
    const isDirectory = stats.isDirectory();
    return { isDirectory, uid, gid, mode: mode & 0o7777, write: writeAccess(path) };
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return 'missing';
    return 'closed';
  }
}

function writeAccess(path: string): FoundPlace['write'] {
  try {
    accessSync(path, constants.W_OK);
    return 'allowed';
  } catch (error) {
    return hasErrno(error, 'EROFS') ? 'read-only' : 'denied';
  }
}

/**
 * Whether set-up made this node: by its place, or by the owners that set-up gives, either of which may
 * have been spoilt since.
 */
export function isSplit(config: Config, { users, groups }: Accounts): boolean {
  const user = users.get(nodeUser);
  if (user === undefined || config.trigger !== 'spool') return false;
  const [state, complete] = [look(config.stateDir), look(completeDir(config.applyDir))];
  const transmission = groups.get(transmissionUser)?.gid;
  return (
    config.stateDir.startsWith('/var/lib/p2p-update/') ||
    (typeof state === 'object' && state.uid === user.uid) ||
    (typeof complete === 'object' && complete.gid === transmission)
  );
}

const { ok, fail, skipped } = checkOf('places', 'owners and modes');

/** Judges owners, modes and write access of the node's directories. */
export function judgePlaces(input: PlacesInput): Check {
  const { places, isSplit: split } = input;
  const problems = places.flatMap((place) => problemOf(place, input) ?? []);
  const [first, ...more] = problems;
  if (first !== undefined) {
    const rest = more.length > 0 ? ` (and ${more.length} more)` : '';
    return fail(`${first.what}${rest}`, ...new Set(problems.flatMap(({ fix }) => fix)));
  }
  const closed = places.filter(({ found }) => found === 'closed').length;
  if (closed === places.length)
    return skipped('needs root: the directories are closed to this user');
  const seen = `${places.length - closed} directories`;
  return ok(split ? `${seen} as set-up made them` : `${seen}, all of one user`);
}

interface Problem {
  what: string;
  fix: string[];
}

function problemOf({ path, wanted, found }: Place, input: PlacesInput): Problem | undefined {
  const setup = [commandHint('setup')];
  if (found === 'closed') return undefined;
  if (found === 'missing')
    // One user's programs make what they need.
    return input.isSplit ? { what: `${path} is missing`, fix: setup } : undefined;
  if (!found.isDirectory)
    return { what: `${path} is not a directory`, fix: [shellCommand('mv', path, `${path}.old`)] };
  const { uid, gid, mode, write } = found;
  if (write === 'read-only')
    return {
      what: `${path} lies on a read-only file system`,
      fix: [shellCommand('findmnt', '-T', path), 'dmesg | tail'],
    };
  if (input.isSplit) {
    if (hasOwnership(found, wanted, input.accounts)) return undefined;
    const is = `${uid}:${gid} ${formatMode(mode)}`;
    const should = `${wanted.owner}:${wanted.group} ${formatMode(wanted.mode)}`;
    return { what: `${path} is ${is}, not ${should}`, fix: setup };
  }
  if ((mode & 0o002) !== 0)
    return {
      what: `${path} can be written by every user`,
      fix: [shellCommand('chmod', 'o-w', path)],
    };
  if (write === 'denied' && input.uid === uid)
    return { what: `${path} cannot be written`, fix: [shellCommand('chmod', 'u+rwx', path)] };
  return undefined;
}
