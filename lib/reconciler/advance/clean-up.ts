import type { Attempt } from './advance.ts';
import { readUnverified } from '../../state/candidates.ts';
import type { Config } from '../../config.ts';
import { UpdateError } from '../../errors.ts';
import {
  outcomesDir,
  readIfIntact,
  readProgress,
  updatesDir,
  type Progress,
} from '../../state/progress.ts';
import { listOrphans, pruneAnnouncements, removeUpdateRecord } from '../../state/prune.ts';
import { release, wantedBy, type Daemon } from './release.ts';
import { announcementsThatStay, type HeldAnnouncement } from '../../state/retention.ts';
import { listAccepted, readAccepted } from '../../state/facts.ts';
import { updateKey, type Update, type UpdateId } from '../../announcement/update.ts';

/** An update that must not go on; see EndedUpdate. */
export interface PastUpdate {
  id: UpdateId;
  isRevoked?: boolean;
  isForOthers?: boolean;
}

/**
 * Takes what nothing current refers to out of Transmission, with its data, and then removes its records
 * (docs/reliability.md, "What stays on a node"). Marks never fall by it.
 *
 * @param current what goes on
 * @param past what was ended, or was never for this node
 * @param now unix seconds
 */
export async function cleanUp(
  config: Config,
  daemon: Daemon,
  current: readonly Update[],
  past: readonly PastUpdate[],
  now: number,
  attempt: Attempt,
): Promise<void> {
  const held = await listHeld(config);
  const stay = announcementsThatStay(held);
  const spared: Update[] = [];
  const leaving: { id: UpdateId; what: Update | Progress | undefined }[] = [];
  for (const { id, isRevoked, isForOthers } of past) {
    const update = await readUnverified(config, id);
    const progress = readIfIntact(updatesDir(config.stateDir), id);
    // Submitted here for others, who get it from here.
    const isServed = isForOthers === true && progress === undefined && stay.has(updateKey(id));
    // Signed again by other keys (submit --renew), it must be downloaded nowhere again.
    const isRenewable = isRevoked === true && isApplied(config, id);
    if (update !== undefined && (isServed || isRenewable)) spared.push(update);
    else leaving.push({ id, what: update ?? progress });
  }

  const wanted = wantedBy([...current, ...spared]);
  const isReleased = async (id: UpdateId, what: Update | Progress | undefined): Promise<boolean> =>
    what === undefined ||
    (await release(config, daemon, wanted, what, newestAcceptedAt(config, held, id), now));
  const gone: UpdateId[] = [];
  for (const { id, what } of leaving) {
    const isGone = await attempt(id, () => isReleased(id, what));
    if (isGone === true && !stay.has(updateKey(id))) gone.push(id);
  }
  pruneAnnouncements(config, gone);
  for (const id of listOrphans(config)) {
    // Until then its record is the mark (lib/state/high-water-mark.ts).
    if (!held.some((each) => isAbove(each, id))) continue;
    const record = readIfIntact(updatesDir(config.stateDir), id);
    if ((await attempt(id, () => isReleased(id, record))) === true)
      removeUpdateRecord(config.stateDir, id);
  }
}

async function listHeld(config: Config): Promise<HeldAnnouncement[]> {
  const held: HeldAnnouncement[] = [];
  for (const id of listAccepted(config.stateDir)) {
    const update = await readUnverified(config, id);
    held.push({ id, target: update?.target, noop: update?.noop === true });
  }
  return held;
}

/** Whether an announcement raises the mark above an update, whatever this node's tags are. */
function isAbove({ id, target, noop }: HeldAnnouncement, other: UpdateId): boolean {
  return id.channel === other.channel && id.version > other.version && target === '' && !noop;
}

/** Unix seconds; 0 when nobody can tell. */
function newestAcceptedAt(
  { stateDir }: Config,
  held: readonly HeldAnnouncement[],
  { channel }: UpdateId,
): number {
  // In the order of versions.
  const newest = held.findLast(({ id }) => id.channel === channel);
  const acceptedAt = newest && readAccepted(stateDir, newest.id)?.acceptedAt;
  return Math.floor(Date.parse(acceptedAt ?? '') / 1000) || 0;
}

function isApplied({ applyDir }: Config, id: UpdateId): boolean {
  try {
    return readProgress(outcomesDir(applyDir), id)?.state === 'APPLIED';
  } catch (error) {
    // Damaged: it may have been.
    if (error instanceof UpdateError) return true;
    throw error;
  }
}
