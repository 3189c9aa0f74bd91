import { constants, lstatSync, rmdirSync, rmSync, type Stats, unlinkSync } from 'node:fs';
import { access, copyFile, mkdir, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { contentLocation, contentName, type Update } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { partialSuffix, type Torrent } from '../../daemons/transmission/torrent.ts';
import { hasErrno, UpdateError } from '../../errors.ts';
import { placeOf } from '../../state/content-place.ts';
import { copiesDir, nodeUser } from '../../state/layout.ts';
import { freeBytesIn, listDirectory } from '../../system/directory.ts';
import { printable } from '../../system/printable.ts';

/**
 * State of a torrent's content on disk: all of it by its size, none, all of it in the other directory
 * that it may be in, or another size. `unseen`: this user cannot tell, or something else is there.
 */
export type TorrentData = 'whole' | 'missing' | 'elsewhere' | 'cut' | 'unseen';

/** Looks for the content where the daemon says that it is: the daemon does not notice a deletion. */
export function lookAtData(config: Config, torrent: Torrent, update: Update): TorrentData {
  const file = join(torrent.downloadDir, contentName(update));
  try {
    const stats = look(file);
    if (stats === undefined && look(`${file}${partialSuffix}`) !== undefined) return 'unseen';
    if (stats === undefined) return placeOf(config, update).isThere ? 'elsewhere' : 'missing';
    if (!stats.isFile()) return 'unseen';
    return stats.size === update.length ? 'whole' : 'cut';
  } catch (error) {
    if (hasErrno(error, 'EACCES', 'ENOTDIR', 'ELOOP')) return 'unseen';
    throw error;
  }
}

/** Looks at the space for the rest of a content in a directory, in bytes; undefined where this user cannot tell. */
export function lookAtSpace(
  directory: string,
  update: Update,
): { free: number; missing: number } | undefined {
  try {
    const file = join(directory, contentName(update));
    const stats = look(file) ?? look(`${file}${partialSuffix}`);
    // Blocks, not the length: an unfinished file may have holes.
    const written = (stats?.blocks ?? 0) * 512;
    return { free: freeBytesIn(directory), missing: Math.max(0, update.length - written) };
  } catch (error) {
    if (hasErrno(error, 'EACCES', 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
    throw error;
  }
}

/**
 * Removes the remains of a download that the daemon has forgotten, as after a crash.
 *
 * @returns false when they are still there, since this user may not remove them
 */
export function removeDownloaded(config: Config, update: Update): boolean {
  const { directory, file } = contentLocation(update, config.downloadDir);
  try {
    for (const each of [file, `${file}${partialSuffix}`])
      // Anything but a file is no download, whatever its name.
      if (look(each)?.isFile() === true) unlinkSync(each);
    // A bare torrent has a directory of its own.
    if (directory !== config.downloadDir && look(directory) !== undefined) rmdirSync(directory);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOTEMPTY', 'ENOTDIR', 'ELOOP')) return true;
    if (hasErrno(error, 'EACCES', 'EPERM', 'EROFS')) return false;
    throw error;
  }
}

/**
 * Checks that this user can read content that the daemon has in a directory of somebody else.
 *
 * @throws UpdateError `configuration` otherwise
 */
export async function requireReadable(update: Update, from: string): Promise<void> {
  const source = join(from, contentName(update));
  try {
    // Neither a FIFO, which would block, nor a device.
    if (!(await stat(source)).isFile()) throw new Error('not a regular file');
    await access(source, constants.R_OK);
  } catch (cause) {
    throw new UpdateError(
      'configuration',
      `${printable(source)}, which Transmission has, cannot be read`,
      { hint: `open it to the user ${nodeUser}`, cause },
    );
  }
}

/**
 * Copies content that the daemon has in a directory of somebody else, where it stays, for the apply side.
 *
 * @throws UpdateError `try-later` when it cannot be copied
 */
export async function copyContent(config: Config, update: Update, from: string): Promise<void> {
  const source = join(from, contentName(update));
  const { directory, file } = contentLocation(update, copiesDir(config.stateDir));
  const temporary = join(directory, `.copy-${process.pid}`);
  try {
    await mkdir(directory, { recursive: true, mode: 0o750 });
    await copyFile(source, temporary, constants.COPYFILE_FICLONE);
    await rename(temporary, file);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new UpdateError('try-later', `cannot copy ${printable(source)} to ${directory}`, {
      hint: `free space below ${directory}`,
      cause,
    });
  }
}

/** Removes the copies of {@link copyContent} but those of the given updates. */
export function removeCopies({ stateDir }: Config, wanted: () => readonly Update[]): void {
  const names = listDirectory(copiesDir(stateDir));
  // Most nodes never have one.
  if (names.length === 0) return;
  const stay = new Set(
    wanted().map(({ sha256, infoHash, name }) =>
      sha256 === null ? infoHash : contentName({ sha256, name }),
    ),
  );
  for (const name of names)
    if (!stay.has(name)) rmSync(join(copiesDir(stateDir), name), { recursive: true, force: true });
}

/** Removes submitted content that the daemon, which only reads it, could not delete. */
export function removePublished({ publishDir }: Config, update: Update): void {
  try {
    rmSync(contentLocation(update, publishDir).file, { force: true });
  } catch (error) {
    // The directory is the operator's; where this user may not write, submit cleans it up.
    if (!hasErrno(error, 'EACCES', 'EPERM', 'EROFS')) throw error;
  }
}

function look(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}
