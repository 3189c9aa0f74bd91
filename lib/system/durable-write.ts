import {
  closeSync,
  constants,
  fchmodSync,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { hasErrno } from '../errors.ts';

/** Prefix of a file that is still being written; one left over may be deleted. */
const temporaryPrefix = '.tmp-';
const leftOverAfterMs = 600_000;

const { O_CREAT, O_EXCL, O_WRONLY, O_NOFOLLOW } = constants;

/** Flushes a directory: without this a power cut loses a rename or link (docs/reliability.md). */
export function fsyncDirectory(directory: string): void {
  const descriptor = openSync(directory, constants.O_RDONLY);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

let temporaries = 0;

/** Writes a new, flushed temporary file beside `file`, and returns its path. */
function writeTemporary(file: string, content: string | Uint8Array, mode: number): string {
  temporaries += 1;
  // The time keeps the name apart from one that a killed process of the same id left behind.
  const unique = `${process.pid}-${Date.now().toString(36)}-${temporaries}`;
  const temporary = join(dirname(file), `${temporaryPrefix}${unique}`);
  const descriptor = openSync(temporary, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, mode);
  try {
    // The mode must not depend on the umask of a unit.
    fchmodSync(descriptor, mode);
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    for (let offset = 0; offset < bytes.length;) offset += writeSync(descriptor, bytes, offset);
    fsyncSync(descriptor);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  } finally {
    closeSync(descriptor);
  }
  return temporary;
}

/**
 * Creates `file` with this content so that it survives power loss, or leaves an existing one alone. Of
 * many writers at once exactly one creates it: link(2) fails where the name exists.
 *
 * @returns whether this call created it
 */
export function createDurably(file: string, content: string | Uint8Array, mode = 0o640): boolean {
  const temporary = writeTemporary(file, content, mode);
  try {
    linkSync(temporary, file);
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    throw error;
  } finally {
    unlinkSync(temporary);
  }
  fsyncDirectory(dirname(file));
  return true;
}

/** Replaces `file` whole: after power loss it has either its old content or the new one. */
export function replaceDurably(file: string, content: string | Uint8Array, mode = 0o640): void {
  const temporary = writeTemporary(file, content, mode);
  try {
    renameSync(temporary, file);
  } catch (error) {
    unlinkSync(temporary);
    throw error;
  }
  fsyncDirectory(dirname(file));
}

/**
 * Removes the names that {@link createDurably} gave a file, beside its own, when it was killed before it took
 * them away. A name elsewhere is another matter, and stays.
 */
export function removeTemporaryNames(file: string): void {
  const stats = lstatSync(file, { throwIfNoEntry: false });
  if (stats === undefined || stats.nlink === 1) return;
  const directory = dirname(file);
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const other = lstatSync(join(directory, name), { throwIfNoEntry: false });
    if (other?.ino === stats.ino && other.dev === stats.dev)
      rmSync(join(directory, name), { force: true });
  }
}

/**
 * Removes the temporary files that killed writers left in a directory: those of more than ten minutes
 * ago, or to come, by a clock that was wrong; a younger one may be in use.
 */
export function removeLeftOvers(directory: string, nowMs: number): void {
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(temporaryPrefix)) continue;
    const file = join(directory, name);
    const stats = statSync(file, { throwIfNoEntry: false });
    if (stats !== undefined && Math.abs(nowMs - stats.mtimeMs) > leftOverAfterMs)
      rmSync(file, { force: true });
  }
}
