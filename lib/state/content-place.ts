import { lstatSync } from 'node:fs';
import { join, resolve } from 'node:path';
import {
  contentDirectory,
  contentLocation,
  contentName,
  type Update,
} from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { hasErrno } from '../errors.ts';
import { copiesDir } from './layout.ts';

/** Directories in which the daemon may have the content of an update: download first, then publish. */
export function dataDirectories(
  { downloadDir, publishDir }: Pick<Config, 'downloadDir' | 'publishDir'>,
  update: Pick<Update, 'infoHash' | 'sha256'>,
): [download: string, publish: string] {
  return [contentDirectory(update, downloadDir), contentDirectory(update, publishDir)];
}

/** Whether two absolute paths are the same after `resolve`; links are not followed. */
export function isSamePath(a: string, b: string): boolean {
  return resolve(a) === resolve(b);
}

/** Directory in which to have the daemon look for the content: where all of it is, or else where it may write. */
export function placeOf(config: Config, update: Update): { directory: string; isThere: boolean } {
  const directories = dataDirectories(config, update);
  const there = directories.find((directory) =>
    isWhole(join(directory, contentName(update)), update),
  );
  return { directory: there ?? directories[0], isThere: there !== undefined };
}

/** Whether there is a copy of content that the daemon has in a directory of somebody else. */
export function isCopied({ stateDir }: Pick<Config, 'stateDir'>, update: Update): boolean {
  return isWhole(contentLocation(update, copiesDir(stateDir)).file, update);
}

function isWhole(file: string, { length }: Update): boolean {
  try {
    const stats = lstatSync(file, { throwIfNoEntry: false });
    return stats?.isFile() === true && stats.size === length;
  } catch (error) {
    if (hasErrno(error, 'EACCES', 'ENOTDIR', 'ELOOP')) return false;
    throw error;
  }
}
