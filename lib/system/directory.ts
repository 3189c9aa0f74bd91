import { lstatSync, readdirSync } from 'node:fs';
import { chmod, mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { commandHint } from '../command-hint.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { fsyncDirectory } from './durable-write.ts';

/**
 * Creates a directory, and those above it, which everybody may read whatever the umask is, and
 * flushes each to disk; leaves what exists as it is.
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

/** Each file's name and time of change. */
export function describeFiles(directory: string, names: readonly string[]): string[] {
  return names.map((name) => {
    const stats = lstatSync(join(directory, name), { throwIfNoEntry: false });
    return `${name} ${stats?.mtimeMs ?? 'gone'}`;
  });
}

/** The names in a directory; none when it is not there yet. */
export function listDirectory(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    if (!hasErrno(error, 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM')) throw error;
    const why = hasErrno(error, 'EACCES', 'EPERM') ? 'closed to this user' : 'not a directory';
    throw new UpdateError('configuration', `${directory} is ${why}`, {
      hint: `find out who changed it, move away what is no directory, then: ${commandHint('setup')}`,
      cause: error,
    });
  }
}
