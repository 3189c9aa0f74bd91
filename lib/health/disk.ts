import { lstatSync, readdirSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { shellCommand } from '../command-hint.ts';
import type { Config } from '../config.ts';
import { hasErrno } from '../errors.ts';
import { type Check, checkOf } from './check.ts';

/** Space of one file system that the node writes to. */
export interface Disk {
  /** The first directory of the node on it. */
  path: string;
  /** For users other than root. */
  freeBytes: number;
  /** Inodes; null where the file system has no such limit. */
  freeFiles: number | null;
  /** Content of updates on it, earlier versions that are kept included; 0 too where it cannot be seen. */
  contentBytes: number;
}

const MiB = 2 ** 20;
/** Below this a disk is full: the next announcement may not be kept, and what is downloaded may have holes. */
export const minFreeBytes = 16 * MiB;
/** Below this a common update does not fit. */
const lowFreeBytes = 256 * MiB;
const minFreeFiles = 16;

/** Reads the space of each file system once; a directory that this user may not look at is left out. */
export function readDisks(
  config: Pick<Config, 'stateDir' | 'applyDir' | 'downloadDir' | 'deliveryDir'>,
): Disk[] {
  const { stateDir, applyDir, downloadDir, deliveryDir } = config;
  const disks = new Map<number, Disk>();
  for (const path of [stateDir, applyDir, downloadDir, deliveryDir]) {
    try {
      const at = existingAncestor(path);
      const { dev } = statSync(at);
      const disk = disks.get(dev) ?? readDisk(path, at);
      disks.set(dev, disk);
      if (path === downloadDir) disk.contentBytes = sizeOfContents(at);
    } catch {
      // A directory that this user may not look at.
    }
  }
  return [...disks.values()];
}

function readDisk(path: string, at: string): Disk {
  const { bsize, bavail, files, ffree } = statfsSync(at);
  const freeFiles = files === 0 ? null : ffree;
  return { path, freeBytes: bavail * bsize, freeFiles, contentBytes: 0 };
}

/** Size of the files of updates in the download directory, which others may use as well. */
function sizeOfContents(directory: string): number {
  let bytes = 0;
  for (const name of readdirSync(directory))
    if (/^[0-9a-f]{32}-/.test(name))
      bytes += lstatSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
  return bytes;
}

function existingAncestor(path: string): string {
  try {
    statSync(path);
    return path;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT') || path === dirname(path)) throw error;
    return existingAncestor(dirname(path));
  }
}

const { ok, warn, fail, skipped } = checkOf('disk', 'disk space');

/** Judges the space that is left for updates. */
export function judgeDisks(disks: readonly Disk[]): Check {
  if (disks.length === 0) return skipped('needs root: the directories are closed to this user');
  const free = ({ freeBytes }: Disk): string => `${Math.floor(freeBytes / MiB)} MiB`;
  const place = ({ path, contentBytes }: Disk): string =>
    contentBytes < MiB ? path : `${path} (updates take ${Math.floor(contentBytes / MiB)} MiB)`;
  const isFull = ({ freeBytes, freeFiles }: Disk): boolean =>
    freeBytes < minFreeBytes || (freeFiles !== null && freeFiles < minFreeFiles);
  const look = (found: readonly Disk[]): string[] => {
    const paths = found.map(({ path }) => path);
    return [shellCommand('df', '-h', ...paths), shellCommand('du', '-xhd1', ...paths)];
  };
  const full = disks.filter(isFull);
  if (full.length > 0)
    return fail(
      full
        .map((disk) =>
          disk.freeBytes < minFreeBytes
            ? `disk full: ${free(disk)} left at ${place(disk)}`
            : `disk full: no inode left at ${place(disk)}`,
        )
        .join('; '),
      ...look(full),
    );
  const low = disks.filter(({ freeBytes }) => freeBytes < lowFreeBytes);
  if (low.length > 0)
    return warn(low.map((disk) => `${free(disk)} left at ${place(disk)}`).join('; '), ...look(low));
  return ok(disks.map((disk) => `${free(disk)} left at ${place(disk)}`).join(', '));
}
