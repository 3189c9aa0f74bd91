import { lstatSync, realpathSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Config } from './config.ts';
import { UpdateError, hasErrno } from './errors.ts';

const othersWrite = 0o022;
const sticky = 0o1000;

/** Whether a directory is ours to work in: when it belongs to us, or is not there yet. */
export function isOurs(directory: string): boolean {
  return ownerOf(directory) === undefined || ownerOf(directory)?.uid === process.geteuid?.();
}

/** Who owns a directory; undefined when there is none. */
export function ownerOf(directory: string): { uid: number; gid: number } | undefined {
  return statSync(directory, { throwIfNoEntry: false });
}

/**
 * Root trusts nothing that a lesser user can write (design: section 6). Where another user runs the
 * side that talks to the network, whatever the apply side relies on has to be root's, all the way
 * up. Where one user runs everything, there is nobody to guard against.
 *
 * @param more files and directories besides those that the configuration names
 * @throws UpdateError `configuration` naming the first path that somebody else can change
 */
export function requireOwnership(config: Config, more: readonly string[]): void {
  if (isOurs(config.stateDir)) return;
  const { keySetFile, applyDir, deliveryDir, puppet } = config;
  const ours = [keySetFile, applyDir, deliveryDir, puppet.confDir, puppet.moduleDir, ...more];
  for (const path of ours) requireUnwritable(path);
}

/** @throws UpdateError `configuration` when somebody else could replace or change `path` */
export function requireUnwritable(path: string): void {
  // Links are looked at where they lie and where they lead to.
  for (const each of new Set([...ancestry(resolve(path)), ...ancestry(realPath(path))])) {
    const stats = lstatSync(each, { throwIfNoEntry: false });
    if (stats === undefined) continue;
    const isForeign = stats.uid !== 0 && stats.uid !== process.geteuid?.();
    // In a sticky directory only an entry's owner can replace it; a link's own mode says nothing.
    const isOpen =
      !stats.isSymbolicLink() && (stats.mode & othersWrite) !== 0 && (stats.mode & sticky) === 0;
    if (isForeign || isOpen)
      throw new UpdateError(
        'configuration',
        `${each} ${isForeign ? `belongs to user ${stats.uid}` : 'can be written by others'}, and ${path} is trusted`,
        { hint: 'give it to root, not writable for anybody else: scripts/setup.ts does so' },
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
