import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { UpdateError } from '../errors.ts';
import type { Accounts } from '../system/accounts.ts';

/** User of Serf's agent, its handlers and advance; it owns `stateDir`. */
export const nodeUser = 'p2p-update';
/** User of Transmission, as Debian's package makes it. */
export const transmissionUser = 'debian-transmission';

/** Owner and permission bits of a file or directory, as set-up makes them. */
export interface Ownership {
  owner: string;
  group: string;
  mode: number;
}

/** True when owner, group and mode are as they should be; a user yet to be made owns nothing. */
export function hasOwnership(
  found: { uid: number; gid: number; mode: number },
  { owner, group, mode }: Ownership,
  { users, groups }: Accounts,
): boolean {
  const uid = owner === 'root' ? 0 : users.get(owner)?.uid;
  const gid = group === 'root' ? 0 : groups.get(group)?.gid;
  return found.uid === uid && found.gid === gid && found.mode === mode;
}

/** A file mode as four octal digits. */
export function formatMode(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

const nodes: Ownership = { owner: nodeUser, group: nodeUser, mode: 0o750 };
const published: Ownership = { owner: 'root', group: 'root', mode: 0o755 };
const roots: Ownership = { owner: 'root', group: 'root', mode: 0o700 };

/** Ownership of `stateDir` itself, and of each directory in it. */
export const stateDirOwnership = nodes;
export const stateDirectories = {
  /** `<channel>@<version>`: accepted, created once, never changed. */
  announcements: nodes,
  /** `<channel>`: verified, waiting for a plausible clock. */
  pending: nodes,
  /** `<channel>@<version>`: progress as advance recorded it. */
  updates: nodes,
  /** `<channel>-<version>.torrent`. */
  torrents: nodes,
  /** `<info hash>`: a member's request to add that torrent anew (lib/state/reseeds.ts). */
  reseeds: nodes,
} satisfies Record<string, Ownership>;
/** Directories of `stateDir` that are made when the first file comes. */
export const rareStateDirectories = {
  /** `<channel>`: proof that one version was signed twice. */
  equivocations: nodes,
  /** Copies of content that Transmission has in a directory of somebody else, until it is staged. */
  copies: nodes,
} satisfies Record<string, Ownership>;

/** Ownership of `deliveryDir`. */
export const deliveryDirOwnership = published;

/** Ownership of `applyDir` itself, and of each directory in it. */
export const applyDirOwnership = published;
export const applyDirectories = {
  /** `<channel>@<version>`: progress as the apply side recorded it. */
  outcomes: published,
  /** `<epoch>`: the chain of key sets since set-up. */
  keysets: published,
  /** Installed Puppet modules, which the module path's links point to. */
  modules: published,
  /** `<channel>@<version>/`: the verified copy that is applied. */
  staging: roots,
  /** `<channel>@<version>-<try>.log`: output of Puppet. */
  runs: roots,
  /** `<info hash>`: completion markers; its users can add names, and cannot list them. */
  complete: { owner: 'root', group: transmissionUser, mode: 0o730 },
} satisfies Record<string, Ownership>;

type StateDirectory = keyof typeof stateDirectories | keyof typeof rareStateDirectories;
type ApplyDirectory = keyof typeof applyDirectories;

/** Directories of `applyDir` whose content is trusted, or run, without another check. */
export const trustedApplyDirectories = (Object.keys(applyDirectories) as ApplyDirectory[]).filter(
  (name) => applyDirectories[name].group === 'root',
);

const stateDirectory =
  (name: StateDirectory) =>
  (stateDir: string): string =>
    join(stateDir, name);
const applyDirectory =
  (name: ApplyDirectory) =>
  (applyDir: string): string =>
    join(applyDir, name);

export const announcementsDir = stateDirectory('announcements');
export const pendingDir = stateDirectory('pending');
export const updatesDir = stateDirectory('updates');
export const torrentsDir = stateDirectory('torrents');
export const reseedsDir = stateDirectory('reseeds');
export const copiesDir = stateDirectory('copies');
export const equivocationsDir = stateDirectory('equivocations');
export const outcomesDir = applyDirectory('outcomes');
export const keySetsDir = applyDirectory('keysets');
export const modulesDir = applyDirectory('modules');
export const stagingDir = applyDirectory('staging');
export const runsDir = applyDirectory('runs');
export const completeDir = applyDirectory('complete');

/** File whose time of change says when members joined last. */
export const joinedFile = (stateDir: string): string => join(stateDir, 'joined');
/** Record of the last catch-up (lib/reconciler/catch-up/due.ts). */
export const catchUpFile = (stateDir: string): string => join(stateDir, 'catch-up');
/** Lock of advance. */
export const advanceLock = (stateDir: string): string => join(stateDir, 'advance.lock');
/** Lock of the apply side; also the proof that it was at work here before. */
export const applyLock = (applyDir: string): string => join(applyDir, 'apply.lock');
/** Process group of the Puppet that runs, or ran when its apply was killed. */
export const runFile = (applyDir: string): string => join(applyDir, 'run');

/** Creates the directories that are missing below the state directory. */
export function prepareStateDir(stateDir: string): void {
  for (const [name, { mode }] of Object.entries(stateDirectories))
    mkdirSync(join(stateDir, name), { recursive: true, mode });
}

/**
 * Creates the directories that are missing below the apply side's directory.
 *
 * @throws UpdateError `configuration` when the outcomes of a node that has applied are gone
 */
export function prepareApplyDir(applyDir: string): void {
  if (existsSync(applyLock(applyDir)) && !existsSync(outcomesDir(applyDir)))
    throw new UpdateError(
      'configuration',
      `the record of applied updates is gone: ${applyDir}/outcomes`,
      {
        hint: `bring it back, or remove ${applyDir} to have it all applied again, as on a new node`,
      },
    );
  for (const [name, { mode }] of Object.entries({ '': applyDirOwnership, ...applyDirectories })) {
    const directory = join(applyDir, name);
    // Modes do not depend on the umask; a group that set-up gave stays.
    if (mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined)
      chmodSync(directory, mode);
  }
}
