/** The time of the sources: the same sources give the same programs, whenever they are built. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { root } from './bundle.mjs';

/**
 * SOURCE_DATE_EPOCH (reproducible-builds.org), or the time of the last commit, in unix seconds; undefined
 * where there is neither, as in an unpacked archive.
 *
 * @throws Error with hint and exit status for a SOURCE_DATE_EPOCH that is no time
 */
export async function sourceTime() {
  const given = process.env['SOURCE_DATE_EPOCH'];
  if (given !== undefined) {
    // Not 0 either, which says that the software runs from source (lib/build.ts).
    if (/^[1-9]\d{0,10}$/.test(given)) return Number(given);
    const message = `SOURCE_DATE_EPOCH is no time in unix seconds: ${JSON.stringify(given)}`;
    throw Object.assign(new Error(message), {
      hint: 'unset SOURCE_DATE_EPOCH',
      status: 64,
    });
  }
  // An archive that was unpacked below somebody's repository has none of its commits.
  if (!existsSync(join(root, '.git'))) return undefined;
  try {
    const argv = ['-c', 'log.showSignature=false', 'log', '-1', '--format=%ct'];
    const { stdout } = await promisify(execFile)('git', argv, { cwd: root });
    if (/^\d+\n$/.test(stdout)) return Number(stdout);
  } catch {
    // No git, no commit, or a tree of another user, which git refuses to read.
  }
  return undefined;
}
