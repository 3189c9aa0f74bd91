import { chmodSync, cpSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './repository.ts';
import { temporaryDirectory } from './temporary.ts';

/** A copy of dist/, for one test, that every user can read: the repository may lie below /root. */
export function readableDist(): string {
  const directory = temporaryDirectory();
  chmodSync(directory, 0o755);
  cpSync(join(repository, 'dist'), join(directory, 'dist'), { recursive: true });
  return join(directory, 'dist');
}
