import { lstatSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { commandHint } from '../../command-hint.ts';
import type { Config } from '../../config.ts';
import { hasErrno, UpdateError } from '../../errors.ts';
import { completeDir, trustedApplyDirectories } from '../../state/layout.ts';

const othersWrite = 0o022;
const sticky = 0o1000;

/** Whether a directory is ours to work in: it belongs to this user, or does not exist yet. */
export function isOurs(directory: string): boolean {
  return ownerOf(directory) === undefined || ownerOf(directory)?.uid === process.geteuid?.();
}

/**
 * Whether the directory of the side that talks to the network is gone, and was another user's: root must
 * not make it anew as its own, and do that side's work itself. Told by the directory of the markers,
 * which set-up gives to the group of Transmission's hook.
 */
export function hasLostStateDir({ stateDir, applyDir }: Config): boolean {
  const markers = ownerOf(completeDir(applyDir));
  return (
    ownerOf(stateDir) === undefined && markers !== undefined && markers.gid !== process.getegid?.()
  );
}

/** Owner and group of a directory; undefined when it does not exist. */
export function ownerOf(directory: string): { uid: number; gid: number } | undefined {
  return statSync(directory, { throwIfNoEntry: false });
}

/**
 * Checks that root trusts nothing that a lesser user can write (docs/trust.md#three-users). Where another
 * user runs the side that talks to the network, every path that the apply side relies on has to be
 * root's, with all its parents. Where one user runs both sides, there is no boundary to guard.
 *
 * @param more files and directories besides those that the configuration names
 * @throws UpdateError `configuration` naming the first path that another user can change
 */
export function requireOwnership(config: Config, more: readonly string[]): void {
  if (isOurs(config.stateDir)) return;
  const { keySetFile, applyDir, deliveryDir, puppet } = config;
  const kept = ['', ...trustedApplyDirectories].map((name) => join(applyDir, name));
  const run = [puppet.confDir, puppet.moduleDir, ...puppet.modulePath];
  for (const path of [keySetFile, ...kept, deliveryDir, ...run, ...more]) requireUnwritable(path);
}

/**
 * Checks that no other user can replace or change a path.
 *
 * @throws UpdateError `configuration` naming the path, or the parent, that another user can change
 */
export function requireUnwritable(path: string): void {
  // Links are checked where they lie and where they lead to.
  const targets = [resolve(path), realPath(path)];
  for (const each of new Set(targets.flatMap(ancestry))) {
    const stats = lstatSync(each, { throwIfNoEntry: false });
    if (stats === undefined) continue;
    const isForeign = stats.uid !== 0 && stats.uid !== process.geteuid?.();
    // In a sticky directory only an entry's owner can replace it, but any user adds entries.
    const isShielded = (stats.mode & sticky) !== 0 && !targets.includes(each);
    // A link's own mode says nothing.
    const isOpen = !stats.isSymbolicLink() && (stats.mode & othersWrite) !== 0 && !isShielded;
    if (isForeign || isOpen)
      throw new UpdateError(
        'configuration',
        `${each} ${isForeign ? `belongs to user ${stats.uid}` : 'can be written by others'}, and ${path} is trusted`,
        {
          hint: `give it to root, not writable for anybody else, as set-up does: ${commandHint('setup')}`,
        },
      );
  }
}

function ancestry(path: string): string[] {
  return path === dirname(path) ? [path] : [path, ...ancestry(dirname(path))];
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return resolve(path);
    throw error;
  }
}
