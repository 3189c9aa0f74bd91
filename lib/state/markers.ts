import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  openSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from '../errors.ts';
import { fsyncDirectory } from '../system/durable-write.ts';
import { applyDirectories, completeDir } from './layout.ts';

/** Names listed in one go: a flood of markers must not keep root busy. */
const maxListed = 1000;
/** Directories listed in one go: those that are not empty stay, and must not crowd out the markers. */
const maxListedDirectories = 100;
/** Entries read in one go, the skipped directories included. */
const maxScanned = 200_000;

/** Path of a torrent's completion marker. */
export function completionMarker(applyDir: string, infoHash: string): string {
  return join(completeDir(applyDir), infoHash);
}

/** Marks a torrent as complete; marking it again wakes the apply side again. */
export function markComplete(applyDir: string, infoHash: string): void {
  const directory = completeDir(applyDir);
  const marker = completionMarker(applyDir, infoHash);
  let descriptor: number;
  try {
    descriptor = openSync(marker, 'a', 0o640);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    // This may be the first wake-up of a new node.
    mkdirSync(directory, { recursive: true, mode: applyDirectories.complete.mode });
    descriptor = openSync(marker, 'a', 0o640);
  }
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  try {
    fsyncDirectory(directory);
  } catch (error) {
    // A user that may not list a directory cannot open it either; the file itself is flushed.
    if (!hasErrno(error, 'EACCES')) throw error;
  }
}

/** Whether a torrent is marked; needs no permission to list the markers. */
export function isMarked(applyDir: string, infoHash: string): boolean {
  return lstatSync(completionMarker(applyDir, infoHash), { throwIfNoEntry: false }) !== undefined;
}

/**
 * Lists up to 1,000 names in the directory of the markers, valid or not; none without permission to list
 * it. A name need not be UTF-8: each character is one of its bytes.
 */
export function listMarkers(applyDir: string): string[] {
  try {
    const options = { encoding: 'latin1', bufferSize: maxListed } as const;
    const directory = opendirSync(completeDir(applyDir), options);
    try {
      const names: string[] = [];
      let directories = 0;
      for (let scanned = 0; scanned < maxScanned && names.length < maxListed; scanned += 1) {
        const entry = directory.readSync();
        if (entry === null) break;
        if (entry.isDirectory()) directories += 1;
        if (!entry.isDirectory() || directories <= maxListedDirectories) names.push(entry.name);
      }
      return names;
    } finally {
      directory.closeSync();
    }
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EACCES')) return [];
    throw error;
  }
}

/**
 * Removes a marker without following a link; a directory that is not empty stays.
 *
 * @param name as {@link listMarkers} gives it
 */
export function removeMarker(applyDir: string, name: string): void {
  const marker = Buffer.concat([
    Buffer.from(`${completeDir(applyDir)}/`),
    Buffer.from(name, 'latin1'),
  ]);
  try {
    unlinkSync(marker);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return;
    if (!hasErrno(error, 'EISDIR', 'EPERM')) throw error;
    removeEmptyDirectory(marker);
  }
}

/** Not recursive: root must not walk through a tree that another user can change. */
function removeEmptyDirectory(directory: Buffer): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    if (!hasErrno(error, 'ENOTEMPTY', 'ENOENT', 'EPERM')) throw error;
  }
}
