import { lstatSync, opendirSync, readdirSync, statfsSync } from 'node:fs';
import { chmod, mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { commandHint } from '../command-hint.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { fsyncDirectory } from './durable-write.ts';

/**
 * Creates a directory and those above it with mode 0755, whatever the umask is, and flushes each to
 * disk; an existing one is left as it is.
 */
export async function makePublicDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, 0o700);
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return;
    if (!hasErrno(error, 'ENOENT')) throw error;
    await makePublicDirectory(dirname(path));
    await mkdir(path, 0o700);
  }
  await chmod(path, 0o755);
  fsyncDirectory(dirname(path));
}

/** Flushes a whole tree to disk, bottom up. */
export async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) {
      const file = await open(path, 'r');
      await file.sync().finally(() => file.close());
    }
  }
  fsyncDirectory(directory);
}

/** Free bytes of the file system of a directory, for users other than root. */
export function freeBytesIn(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}

/** Lists each file's name and time of change. */
export function describeFiles(directory: string, names: readonly string[]): string[] {
  return names.map((name) => {
    const stats = lstatSync(join(directory, name), { throwIfNoEntry: false });
    return `${name} ${stats?.mtimeMs ?? 'gone'}`;
  });
}

/** Entries that are read from a directory in one go. */
const bufferSize = 1024;

/**
 * The names in a directory, in no order, without holding all of them in memory: a lesser user may have
 * made any number. None when the directory is not there yet.
 *
 * @throws UpdateError `configuration` when it is no directory, or closed to this user
 */
export function* namesIn(directory: string): Generator<string, void> {
  const opened = openOrNone(() => opendirSync(directory, { bufferSize }), directory);
  if (opened === undefined) return;
  try {
    for (let entry = opened.readSync(); entry !== null; entry = opened.readSync()) yield entry.name;
  } finally {
    opened.closeSync();
  }
}

/** The names in a directory, which its owner keeps few; throws as {@link namesIn} does. */
export function listDirectory(directory: string): string[] {
  return openOrNone(() => readdirSync(directory), directory) ?? [];
}

function openOrNone<T>(open: () => T, directory: string): T | undefined {
  try {
    return open();
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    if (!hasErrno(error, 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM')) throw error;
    const why = hasErrno(error, 'EACCES', 'EPERM') ? 'closed to this user' : 'not a directory';
    throw new UpdateError('configuration', `${directory} is ${why}`, {
      hint: `find out who changed it, move away what is no directory, then: ${commandHint('setup')}`,
      cause: error,
    });
  }
}
