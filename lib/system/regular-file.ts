import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { commandHint } from '../command-hint.ts';
import { UpdateError, hasErrno } from '../errors.ts';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;

/**
 * Reads a file that a lesser user may have placed, or a damaged disk changed: no pipe is waited for, no
 * link is followed, and a file that is too long is not read.
 *
 * @param options.maxBytes more than any genuine content
 * @param options.followLinks for a file that a person places, and may keep elsewhere
 * @returns 'absent', or 'invalid' when it is of another type or too long
 * @throws UpdateError `configuration` when this user may not read it; `try-later` for an I/O error
 */
export function readRegularFile(
  file: string,
  { maxBytes, followLinks = false }: { maxBytes: number; followLinks?: boolean },
): Buffer | 'absent' | 'invalid' {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, O_RDONLY | O_NONBLOCK | (followLinks ? 0 : O_NOFOLLOW));
    const stats = fstatSync(descriptor);
    if (!stats.isFile() || stats.size > maxBytes) return 'invalid';
    return readFileSync(descriptor);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 'absent';
    if (hasErrno(error, 'ELOOP', 'ENXIO')) return 'invalid';
    if (hasErrno(error, 'EACCES', 'EPERM'))
      throw new UpdateError('configuration', `cannot read ${file}`, {
        hint: `correct its owner and mode; what they should be: ${commandHint('setup', '--dry-run')}`,
        cause: error,
      });
    if (hasErrno(error, 'EIO'))
      throw new UpdateError('try-later', `cannot read ${file}`, {
        hint: 'check the disk',
        cause: error,
      });
    throw error;
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
