import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  contentLocation,
  idOf,
  isExpired,
  type Update,
  type UpdateId,
  updateKey,
} from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { absentContent, copyVerified, type Mismatch } from '../../content/copy-verified.ts';
import { partialSuffix } from '../../daemons/transmission/torrent.ts';
import { UpdateError } from '../../errors.ts';
import { minFreeBytes } from '../../health/disk.ts';
import { copiesDir, outcomesDir, runsDir, stagingDir } from '../../state/layout.ts';
import { isMarked } from '../../state/markers.ts';
import { newProgress, type Progress, readProgress, writeProgress } from '../../state/progress.ts';
import { isPastContent } from '../../state/states.ts';
import { freeBytesIn } from '../../system/directory.ts';
import { isDelivered } from './install.ts';
import {
  type ApplyDeps,
  isClockBehind,
  lastApplied,
  outcomeMode,
  renumberAheadOfTime,
} from './outcomes.ts';

/** Times that content with the wrong hash is checked again by Transmission, before it is rejected. */
export const maxBadContent = 2;

/** The directory of one update's staged copy, and the copy, which has the announced name. */
export function stagingOf(applyDir: string, update: Update): { directory: string; copy: string } {
  const directory = join(stagingDir(applyDir), updateKey(update));
  return { directory, copy: join(directory, 'content', update.name) };
}

/** Removes the staged copy of an update, if there is one. */
export function removeStaging(applyDir: string, id: UpdateId): void {
  rmSync(join(stagingDir(applyDir), updateKey(id)), { recursive: true, force: true });
}

/**
 * Takes COMPLETE -> STAGED, or the other step that follows from the content that Transmission has.
 *
 * @returns whether the completion marker has served; false while it is missing, or waits for its time
 */
export async function stage(config: Config, deps: ApplyDeps, update: Update): Promise<boolean> {
  const { applyDir } = config;
  const outcome = readProgress(outcomesDir(applyDir), update);
  // Marked again after it was staged: the hook fired twice.
  if (outcome !== undefined && isPastContent(outcome.state)) return true;
  if (outcome?.state === 'EXPIRED' && isExpired(update, deps.nowSeconds())) return true;
  if (outcome === undefined) renumberAheadOfTime(applyDir, update, deps.nowSeconds());
  const settle = (state: Progress['state'], reason: string, more: Partial<Progress> = {}): true => {
    // An outcome begins where advance's record ends; an ended update that counts again begins anew.
    const found = outcome?.state === 'QUEUED' ? outcome : newProgress(update);
    const from = { ...found, state: 'COMPLETE' as const };
    writeProgress(
      outcomesDir(applyDir),
      update,
      from,
      { ...more, state, reason },
      deps.nowSeconds(),
      outcomeMode,
    );
    deps.log({ decision: state.toLowerCase(), reason, ...idOf(update) });
    return true;
  };

  // Puppet's log outlives a lost outcome; a copy would be applied a second time.
  if (outcome === undefined && existsSync(join(runsDir(applyDir), `${updateKey(update)}-1.log`)))
    throw new UpdateError('configuration', `the outcome of ${updateKey(update)} is gone`, {
      hint: 'it was run on this node: submit a newer version (--rerun to have it run again)',
    });
  if (update.kind === 'withdraw') {
    // Nothing to download, and an emergency stop waits for nothing.
    return settle('APPLIED', 'every update of this channel that is not applied is withdrawn');
  }
  const isAwaited =
    !isMarked(applyDir, update.infoHash) ||
    update.notBefore > deps.nowSeconds() ||
    isClockBehind(update, deps);
  // A second download may never come, and the update has to expire all the same.
  if (isAwaited && outcome?.state !== 'QUEUED') return false;
  if (isExpired(update, deps.nowSeconds()))
    return settle('EXPIRED', 'it expired before it could be applied');
  if (isAwaited) return false;
  if (update.length > config.maxContentBytes)
    return settle('REJECTED', `its content has more than ${config.maxContentBytes} bytes`);
  const mayBeApplied = !update.rerun && !update.noop && update.sha256 !== null;
  let verified = 'verified';
  if (mayBeApplied && lastApplied(applyDir, update) === update.sha256) {
    // Of other kinds nothing tells cheaply whether the effects are still there.
    if (update.kind !== 'file')
      return settle('APPLIED', 'this content is applied already; submit --rerun runs it again');
    if (await isDelivered(config.deliveryDir, update))
      return settle('APPLIED', 'this content is applied already');
    verified = 'verified; the delivered file was changed or removed on this node';
  }
  const mismatch = await copyToStaging(config, update);
  if (mismatch === undefined) return settle('STAGED', verified);
  removeStaging(applyDir, update);
  if (mismatch.isIncomplete) {
    // Deleted, or cut by a full disk: advance notices that, has it downloaded again, and marks it again.
    deps.log({ decision: 'wait', reason: `of the download: ${mismatch.reason}`, ...idOf(update) });
    return true;
  }
  const badContent = countBadContent(config, outcome?.badContent ?? 0);
  const reason = `the downloaded content is not what was announced: ${mismatch.reason}`;
  return settle(badContent > maxBadContent ? 'REJECTED' : 'QUEUED', reason, { badContent });
}

/**
 * Counts that content had the wrong hash, which has advance check it, for any other count. On a full disk it is
 * the disk that is at fault, and never a reason to reject an update.
 */
export function countBadContent({ downloadDir }: Config, before: number): number {
  return isFull(downloadDir) ? Number(before === 0) : before + 1;
}

function isFull(directory: string): boolean {
  try {
    return freeBytesIn(directory) < minFreeBytes;
  } catch {
    return false;
  }
}

/**
 * Copies the content from where this node's daemon has it: below the download or the publish directory, or
 * where advance has copied it to from a directory of somebody else.
 * A daemon that was killed before it gave a whole download its name never does: it finds all of it there
 * when it checks, and seeds it under the name of a partial one.
 *
 * @returns the mismatch with the announcement; undefined when it is copied
 */
export async function copyToStaging(config: Config, update: Update): Promise<Mismatch | undefined> {
  const { copy } = stagingOf(config.applyDir, update);
  const [download, publish, copied] = [
    config.downloadDir,
    config.publishDir,
    copiesDir(config.stateDir),
  ].map((base) => contentLocation(update, base).file) as [string, string, string];
  let mismatch = absentContent;
  for (const file of [download, publish, copied, `${download}${partialSuffix}`]) {
    removeStaging(config.applyDir, update);
    mkdirSync(dirname(copy), { recursive: true, mode: 0o700 });
    const found = await copyVerified(file, copy, update);
    if (found === undefined) return undefined;
    // The mismatch of the first place tells more than the others'; a partial download is no fault.
    if (mismatch === absentContent && !file.endsWith(partialSuffix)) mismatch = found;
  }
  return mismatch;
}
