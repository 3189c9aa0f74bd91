import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, stateError, UpdateError } from '../../lib/errors.ts';
import { readAccounts } from '../../lib/system/accounts.ts';

const workPrefix = '.submit-';
const oldAfterMs = 86_400_000;

/**
 * Runs an action with a private directory on the file system of the publish directory, so that
 * publishing is a rename; removes it afterwards.
 *
 * @throws UpdateError `try-later` when the disk is full or may not be written
 */
export function withWorkDirectory<T>(
  publishDir: string,
  action: (workDir: string) => Promise<T>,
): Promise<T> {
  return explained(publishDir, async () => {
    mkdirSync(publishDir, { recursive: true, mode: 0o755 });
    removeOldWork(publishDir);
    return withDirectoryIn(publishDir, action);
  });
}

/** Runs an action with a private directory below `parent`; throws as {@link withWorkDirectory}. */
export function withDirectoryIn<T>(
  parent: string,
  action: (workDir: string) => Promise<T>,
): Promise<T> {
  return explained(parent, async () => {
    const workDir = await makeIn(parent);
    try {
      return await action(workDir);
    } finally {
      await rm(workDir, { recursive: true, force: true });
    }
  });
}

async function makeIn(parent: string): Promise<string> {
  try {
    return await mkdtemp(join(parent, workPrefix));
  } catch (cause) {
    if (!hasErrno(cause, 'EACCES', 'EPERM')) throw cause;
    const { uid } = statSync(parent);
    const owner = [...readAccounts().users].find(([, user]) => user.uid === uid)?.[0] ?? uid;
    throw new UpdateError(
      'configuration',
      `${parent} belongs to ${owner}, and you may not write it`,
      {
        hint: `run this as ${owner}, or name a directory of yours as "publishDir"`,
        cause,
      },
    );
  }
}

async function explained<T>(directory: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw stateError(error, directory);
  }
}

/** Removes work directories that a killed submit left a day ago or more: content can be large. */
function removeOldWork(publishDir: string): void {
  for (const name of readdirSync(publishDir)) {
    const directory = join(publishDir, name);
    if (!name.startsWith(workPrefix)) continue;
    // By a distance: one that a wrong clock made may be of a time to come.
    if (Math.abs(Date.now() - statSync(directory).mtimeMs) < oldAfterMs) continue;
    rmSync(directory, { recursive: true, force: true });
  }
}
