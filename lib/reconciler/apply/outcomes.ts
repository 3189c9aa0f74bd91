import { idOf, type Update, type UpdateId } from '../../announcement/update.ts';
import type { EndedUpdate } from '../../state/candidates.ts';
import { maxClockLeadSeconds } from '../../state/decide.ts';
import { outcomesDir } from '../../state/layout.ts';
import {
  isAppliedContent,
  isRecordAheadOfTime,
  listRecords,
  type Progress,
  readIfIntact,
  readProgress,
  writeProgress,
} from '../../state/progress.ts';
import { renumberOutcome } from '../../state/retention.ts';
import { isoTime } from '../../system/iso-time.ts';
import type { LoggedEvent } from '../../system/event-log.ts';

export interface ApplyDeps {
  /** Unix seconds. */
  nowSeconds: () => number;
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
}

/** Published: the other users of the node read outcomes, and only the apply side writes them. */
export const outcomeMode = 0o644;

/**
 * Whether this node has begun a newer update on the channel, so that announcements were rolled back. The
 * outcomes are the apply side's own high-water mark, independent of any offer.
 */
export function isRollback(applyDir: string, update: Update, nowSeconds: number): boolean {
  // Key sets are ordered by their chain of epochs.
  if (update.kind === 'keyset') return false;
  const newer = outcomesOf(applyDir, update.channel).filter((id) => id.version > update.version);
  return newer.some((id) => {
    const outcome = readIfIntact(outcomesDir(applyDir), id);
    if (isRecordAheadOfTime(id, outcome, nowSeconds)) return false;
    // A damaged outcome counts by its name.
    return update.noop || outcome?.noop !== true;
  });
}

/**
 * Files the outcomes of a time when this node's clock was far ahead under the version before an update that
 * follows them: they are no marks, but tell which content was applied last. Their time would come otherwise.
 */
export function renumberAheadOfTime(applyDir: string, update: Update, nowSeconds: number): void {
  if (update.kind === 'keyset') return;
  const directory = outcomesDir(applyDir);
  for (const id of outcomesOf(applyDir, update.channel)) {
    const outcome = readIfIntact(directory, id);
    if (outcome === undefined || id.version <= update.version) continue;
    if (isRecordAheadOfTime(id, outcome, nowSeconds))
      renumberOutcome(applyDir, id, update.version - 1, outcome, outcomeMode);
  }
}

/**
 * Whether the clock is earlier than an update's own creation, so that it cannot tell whether the update has
 * expired, nor its time to be applied; logs that. A key set has no such times.
 */
export function isClockBehind(update: Update, { nowSeconds, log }: ApplyDeps): boolean {
  const now = nowSeconds();
  if (update.kind === 'keyset' || update.created <= now + maxClockLeadSeconds) return false;
  const reason = `the clock says ${isoTime(now)}, before the update was signed: it waits for the right time`;
  log({ decision: 'wait', reason, ...idOf(update) });
  return true;
}

/** SHA-256 of the content that this channel applied last; undefined when there is none, or it cannot be told. */
export function lastApplied(applyDir: string, update: Update): string | null | undefined {
  return (
    outcomesOf(applyDir, update.channel)
      .filter(({ version }) => version < update.version)
      .sort((a, b) => b.version - a.version)
      .map((id) => readIfIntact(outcomesDir(applyDir), id))
      // A damaged outcome may have been that of the last one.
      .find((outcome) => outcome === undefined || isAppliedContent(outcome))?.sha256
  );
}

/**
 * Ends an update that is staged, or waits for another try, and must not go on.
 *
 * @returns whether there was something to end
 */
export function endOutcome(
  applyDir: string,
  { id, state, reason }: EndedUpdate,
  { nowSeconds, log }: ApplyDeps,
): boolean {
  const directory = outcomesDir(applyDir);
  const write = (from: Progress, to: Progress['state'], why: string): Progress =>
    writeProgress(directory, id, from, { state: to, reason: why }, nowSeconds(), outcomeMode);
  let outcome = readProgress(directory, id);
  // Interrupted: this process holds the lock.
  if (outcome?.state === 'APPLYING') outcome = write(outcome, 'FAILED', 'interrupted');
  if (outcome?.state === 'FAILED') outcome = write(outcome, 'STAGED', 'not tried again');
  if (outcome?.state !== 'STAGED' && outcome?.state !== 'QUEUED') return false;
  write(outcome, state, reason);
  log({ decision: state.toLowerCase(), reason, ...id });
  return true;
}

function outcomesOf(applyDir: string, channel: string): UpdateId[] {
  return listRecords(outcomesDir(applyDir)).filter((id) => id.channel === channel);
}
