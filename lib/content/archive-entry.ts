import { UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';

/** One entry as a tar or zip reader finds it, unchecked. */
export interface ArchiveEntry {
  name: string;
  /** `file`, `directory`, or another type, in words. */
  type: string;
  /** Unix permission bits, set-id bits included; 0 when the archive has none. */
  mode: number;
  /** The bytes; those that the consumer leaves unread are skipped. */
  content: AsyncIterable<Uint8Array>;
  /** For a symbolic link of a tar archive where it leads. */
  linkTarget?: string;
}

const repack = 'pack it again from plain files and directories, without links, and publish that';

/** The error for an archive that is damaged, hostile or not of its kind. */
export function badArchive(reason: string, hint = repack): UpdateError {
  return new UpdateError('malformed', `the archive cannot be used: ${reason}`, { hint });
}

const maxPathBytes = 1024;
const maxNameBytes = 255; // NAME_MAX, limits.h(0p)

/** The error for a name that no honest archive has. */
export class BadName extends Error {
  readonly why: string;
  /** Whether tar(1) makes an honest name of it. */
  readonly isUnpacked: boolean;

  constructor(name: string, why: string, isUnpacked = false) {
    super(`the name "${printable(name)}" ${why}`);
    this.why = why;
    this.isUnpacked = isUnpacked;
  }
}

/**
 * The canonical relative path of an entry, without `.`, doubled or trailing slashes; '' for the
 * archive's own top.
 *
 * @throws BadName for a name that could leave the destination or that no honest archive has: absolute,
 *   with `..`, a backslash, control characters or broken UTF-8, or too long
 */
export function entryPath(name: string): string {
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) throw new BadName(name, 'has control characters');
  // The separator of zip archives made on Windows.
  if (name.includes('\\')) throw new BadName(name, 'has a backslash');
  if (name.includes('\ufffd')) throw new BadName(name, 'is not UTF-8');
  if (name.startsWith('/')) throw new BadName(name, 'is absolute', true);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new BadName(name, 'leads out of the archive');
  if (parts.some((part) => Buffer.byteLength(part) > maxNameBytes))
    throw new BadName(name, 'is too long');
  const path = parts.join('/');
  if (Buffer.byteLength(path) > maxPathBytes) throw new BadName(name, 'is too long');
  return path;
}
