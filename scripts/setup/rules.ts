import { dirname, join } from 'node:path';
import { type Config, defaultConfigFile } from '../../lib/config.ts';
import { UpdateError } from '../../lib/errors.ts';
import { formatMode, nodeUser } from '../../lib/state/layout.ts';
import type { Accounts } from '../../lib/system/accounts.ts';
import { parseKeySet } from '../../lib/trust/key-set.ts';

/** The entry at a path, links not followed. */
export interface Found {
  type: 'directory' | 'file' | 'link' | 'special file';
  uid: number;
  gid: number;
  mode: number;
}

/** The machine, or the image of one, as far as the plan looks at it. Paths are the machine's own. */
export interface Machine extends Accounts {
  /** Undefined when nothing is there. */
  look: (path: string) => Found | undefined;
  /** The text of a file, undefined when it is missing. */
  read: (path: string) => string | undefined;
  /** Where a link leads, as it says; undefined when there is none. */
  follow: (path: string) => string | undefined;
  /** Whether it lies on a file system that even root may not write to. */
  isReadOnly: (path: string) => boolean;
  /** The names in a directory, none when it is missing. */
  list: (path: string) => string[];
}

/** `/`, `/a` and `/a/b` for `/a/b/c`. */
export function ancestorsOf(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [] : [...ancestorsOf(parent), parent];
}

/**
 * Refuses a path that a user other than root can change or replace, since root is about to work in it or
 * to run it. A directory that such a user can write to is enough, since its entries can then be renamed.
 *
 * @throws UpdateError `configuration`
 */
export function requireRootOnly(path: string, { type, uid, mode }: Found): void {
  if (type === 'link')
    throw new UpdateError('configuration', `${path} is a symbolic link`, {
      hint: 'name the real path, or mount the directory there (mount --bind)',
    });
  if (uid === 0 && (mode & 0o022) === 0) return;
  throw new UpdateError(
    'configuration',
    `${path} can be changed by a user other than root (owner ${uid}, mode ${formatMode(mode)})`,
    { hint: `correct it with chown root ${path}; chmod go-w ${path}, or choose another place` },
  );
}

/** Refuses an entry of another type; throws UpdateError `configuration`. */
export function requireType(path: string, found: Found, type: Found['type']): void {
  if (found.type === type) return;
  throw new UpdateError('configuration', `${path} must be a ${type}, but is a ${found.type}`, {
    hint: 'move it away, then run setup again',
  });
}

/** Refuses paths with characters that have a meaning in units, cron lines or shell commands. */
export function requireSafePath(path: string): void {
  if (/^(\/[\w.@+-]+)+$/.test(path) && !/\/\.\.?(\/|$)/.test(path)) return;
  throw new UpdateError('configuration', `${JSON.stringify(path)} cannot be written into a unit`, {
    hint: 'choose a path of letters, digits and . _ @ + - only, without a slash at its end',
  });
}

/** Refuses an applyDir or deliveryDir in stateDir: root works there, and p2p-update could rename it. */
export function requireApart({ stateDir, applyDir, deliveryDir }: Config): void {
  for (const path of [applyDir, deliveryDir])
    if (`${path}/`.startsWith(`${stateDir}/`))
      throw new UpdateError('configuration', `${path} lies in stateDir, which is ${nodeUser}'s`, {
        hint: `choose another directory in ${defaultConfigFile}`,
      });
}

/** Refuses files of other users in a directory whose markers, keys and modules are trusted as root's. */
export function requireRootsContent(directory: string, { look, list }: Machine): void {
  const foreign = list(directory).find((name) => look(join(directory, name))?.uid !== 0);
  if (foreign === undefined) return;
  throw new UpdateError('configuration', `${join(directory, foreign)} does not belong to root`, {
    hint: `its owner can have forged it: move ${directory} away, then run setup again`,
  });
}

/**
 * Refuses a malformed key set, and one that would replace another (`current`) in `file`.
 *
 * @throws UpdateError `malformed`, `refused`
 */
export function requireSameKeySet(
  file: string,
  text: string,
  current: string | undefined,
  applyDir: string,
): void {
  const { fleet, epoch } = parseKeySet(text);
  if (current === undefined || current === text) return;
  throw new UpdateError('refused', `${file} is another key set than ${fleet}, epoch ${epoch}`, {
    hint: `newer key sets arrive by themselves; to start again, remove it and ${applyDir}/keysets`,
  });
}
