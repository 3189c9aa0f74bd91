import { chmod, mkdir, open, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fsyncDirectory } from './durable-write.ts';
import { hasErrno } from '../errors.ts';

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
