import { chmodSync, cpSync } from 'node:fs';
import { join } from 'node:path';
import { distDirectory } from '../../../lib/build.ts';
import { temporaryDirectory } from './temporary.ts';

/**
 * The command of a program of dist/, run by this Node: `handlers/update.cjs`, `p2p-update.cjs apply`.
 *
 * @param dist where its programs are
 */
export function programArgv(program: string, dist = distDirectory()): string[] {
  const [file = '', ...args] = program.split(' ');
  return [process.execPath, join(dist, file), ...args];
}

/** A copy of dist/ that every user can read, wherever the clone lies; removed after the test. */
export function distForOthers(): string {
  const directory = temporaryDirectory();
  cpSync(distDirectory(), directory, { recursive: true });
  chmodSync(directory, 0o755);
  return directory;
}
