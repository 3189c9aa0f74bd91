import { type Update, type UpdateId, updateKey } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import type { TransmissionClient } from '../../daemons/transmission/client.ts';
import type { Torrent } from '../../daemons/transmission/torrent.ts';
import { UpdateError } from '../../errors.ts';
import { HeldUpdates } from '../../state/held.ts';
import { outcomesDir, updatesDir } from '../../state/layout.ts';
import { type Progress, readIfIntact, readProgress } from '../../state/progress.ts';
import {
  type HeldAnnouncement,
  listOrphans,
  pruneAnnouncements,
  removeUpdateRecord,
  retainedAnnouncements,
} from '../../state/retention.ts';
import { isSamePath, removeDownloaded, removePublished } from './torrent-data.ts';

/**
 * Does something for one update, which must not hold up the other channels when it cannot go on; comes
 * to undefined then.
 */
export type Attempt = <T>(id: UpdateId, work: () => T | Promise<T>) => Promise<T | undefined>;

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
  held: HeldUpdates,
  daemon: Daemon,
  current: readonly Update[],
  past: readonly PastUpdate[],
  now: number,
  attempt: Attempt,
): Promise<void> {
  const { config } = held;
  const announcements = await describeHeld(held);
  const stay = retainedAnnouncements(announcements);
  const spared: Update[] = [];
  const leaving: { id: UpdateId; what: Update | Progress | undefined }[] = [];
  for (const { id, isRevoked, isForOthers } of past) {
    const update = (await held.offer(id))?.update;
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
    (await removeUnreferenced(config, daemon, wanted, what, newestAcceptedAt(held, id), now));
  const gone: UpdateId[] = [];
  for (const { id, what } of leaving) {
    const isGone = await attempt(id, () => isReleased(id, what));
    if (isGone === true && !stay.has(updateKey(id))) gone.push(id);
  }
  pruneAnnouncements(config, gone);
  for (const id of listOrphans(config)) {
    // Until then its record is the mark (lib/state/high-water-mark.ts).
    if (!announcements.some((each) => isAbove(each, id))) continue;
    const record = readIfIntact(updatesDir(config.stateDir), id);
    if ((await attempt(id, () => isReleased(id, record))) === true)
      removeUpdateRecord(config.stateDir, id);
  }
}

async function describeHeld(held: HeldUpdates): Promise<HeldAnnouncement[]> {
  const announcements: HeldAnnouncement[] = [];
  for (const id of held.ids) {
    const update = (await held.offer(id))?.update;
    announcements.push({ id, target: update?.target, noop: update?.noop === true });
  }
  return announcements;
}

/** Whether an announcement raises the mark above an update, whatever this node's tags are. */
function isAbove({ id, target, noop }: HeldAnnouncement, other: UpdateId): boolean {
  return id.channel === other.channel && id.version > other.version && target === '' && !noop;
}

/** Unix seconds; 0 when it cannot be told. */
function newestAcceptedAt(held: HeldUpdates, { channel }: UpdateId): number {
  const [newest] = held.inChannel(channel);
  const acceptedAt = newest && held.stored(newest)?.acceptedAt;
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

/** How long a person's submit may take between giving the torrent to the daemon and telling the fleet. */
const submissionSeconds = 600;

/** What must not be taken away. */
export interface Wanted {
  infoHashes: ReadonlySet<string>;
  /** The same file may be in two torrents, such as when another target left room for other pieces. */
  contents: ReadonlySet<string>;
}

/** What Transmission has, and for how long that is known. */
export interface Daemon {
  transmission: TransmissionClient;
  /** By info hash. */
  torrents: ReadonlyMap<string, Torrent>;
  /** False just after its start: what it does not have it may not have loaded yet. */
  isSettled: boolean;
}

/** What the given updates need. */
export function wantedBy(updates: readonly Pick<Update, 'infoHash' | 'sha256'>[]): Wanted {
  return {
    infoHashes: new Set(updates.map(({ infoHash }) => infoHash)),
    contents: new Set(updates.map(contentOf)),
  };
}

function contentOf({ infoHash, sha256 }: Pick<Update, 'infoHash' | 'sha256'>): string {
  return sha256 ?? infoHash;
}

/**
 * Takes what nothing refers to any more out of Transmission, with its data.
 *
 * @param past where only a record is left, what that has of it
 * @param newestAt when the newest announcement of its channel was accepted, in unix seconds
 * @param now unix seconds
 * @returns whether nothing of it is left; at the earliest in the pass after the one that removed it
 */
export async function removeUnreferenced(
  config: Config,
  { transmission, torrents, isSettled }: Daemon,
  wanted: Wanted,
  past: Update | Pick<Update, 'infoHash' | 'sha256'>,
  newestAt: number,
  now: number,
): Promise<boolean> {
  const { infoHash } = past;
  if (wanted.infoHashes.has(infoHash)) return true;
  const isShared = wanted.contents.has(contentOf(past));
  const torrent = torrents.get(infoHash);
  if (torrent !== undefined) {
    const isOfSubmit = isSamePath(torrent.downloadDir, config.publishDir);
    const isNew = torrent.addedAt > newestAt && now - torrent.addedAt < submissionSeconds;
    // Somebody submits the same content again, and its announcement has yet to come.
    if (isOfSubmit && isNew) return false;
    // First, or nobody would come back for it.
    if (!isShared && 'name' in past) removePublished(config, past);
    await transmission.remove(infoHash, { deleteData: !isShared });
    return false;
  }
  if (!isSettled) return false;
  return isShared || !('name' in past) || removeDownloaded(config, past);
}
