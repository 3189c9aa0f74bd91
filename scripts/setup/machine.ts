import {
  accessSync,
  constants,
  lstatSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  type Stats,
} from 'node:fs';
import { hasErrno } from '../../lib/errors.ts';
import { parseAccounts } from '../../lib/system/accounts.ts';
import type { Found, Machine } from './rules.ts';

/** Reads the machine below `root` as it is now; `/` is this machine. */
export function readMachine(root: string): Machine {
  const at = (path: string): string => (root === '/' ? path : `${root}${path}`);
  const read = (path: string): string | undefined =>
    orUndefined(() => readFileSync(at(path), 'utf8'));
  return {
    // From the files of the image: its names and ids are not those of this machine.
    ...parseAccounts(read('/etc/passwd') ?? '', read('/etc/group') ?? ''),
    look: (path) => {
      const stats = orUndefined(() => lstatSync(at(path)));
      if (stats === undefined) return undefined;
      return { type: typeOf(stats), uid: stats.uid, gid: stats.gid, mode: stats.mode & 0o7777 };
    },
    read,
    isReadOnly: (path) => {
      try {
        accessSync(at(path), constants.W_OK);
        return false;
      } catch (error) {
        return hasErrno(error, 'EROFS');
      }
    },
    follow: (path) => orUndefined(() => readlinkSync(at(path))),
    list: (path) => orUndefined(() => readdirSync(at(path)).sort()) ?? [],
  };
}

function typeOf(stats: Stats): Found['type'] {
  if (stats.isDirectory()) return 'directory';
  if (stats.isFile()) return 'file';
  return stats.isSymbolicLink() ? 'link' : 'special file';
}

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    // EINVAL: no link. EISDIR, ENOTDIR: another type, which `look` reports and the plan refuses.
    if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'EISDIR', 'EINVAL')) return undefined;
    throw error;
  }
}
