import { existsSync } from 'node:fs';
import {
  contentLocation,
  type Update,
  type UpdateId,
  updateKey,
} from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import type { TransmissionClient } from '../../daemons/transmission/client.ts';
import type { Torrent } from '../../daemons/transmission/torrent.ts';
import { UpdateError } from '../../errors.ts';
import { dataDirectories, isSamePath } from '../../state/content-place.ts';
import { HeldUpdates } from '../../state/held.ts';
import { outcomesDir, updatesDir } from '../../state/layout.ts';
import {
  isRecordAheadOfTime,
  listRecords,
  type Progress,
  readIfIntact,
  readProgress,
} from '../../state/progress.ts';
import {
  contentKey,
  type HeldAnnouncement,
  listOrphans,
  pruneAnnouncements,
  removeUpdateRecord,
  retainedAnnouncements,
  retainedContents,
} from '../../state/retention.ts';
import { removeDownloaded, removePublished } from './torrent-data.ts';

/** Time that a submit may take from giving the torrent to the daemon to announcing it. */
const submissionSeconds = 600;

/** Time for which content stays of an update that expired: by a wrong clock, perhaps, and there may be no other. */
const keepExpiredSeconds = 86_400;

/** Does something for one update; a failure, which must not hold up the other channels, comes to undefined. */
export type Attempt = <T>(id: UpdateId, work: () => T | Promise<T>) => Promise<T | undefined>;

/** An update that must not go on; see EndedUpdate. */
export interface PastUpdate {
  id: UpdateId;
  isRevoked?: boolean;
  isForOthers?: boolean;
}

/** Torrents and contents that must not be removed. */
export interface Wanted {
  infoHashes: ReadonlySet<string>;
  /** By {@link contentKey}. */
  contents: ReadonlySet<string>;
}

/** Transmission, with its torrents at the start of the pass. */
export interface Daemon {
  transmission: TransmissionClient;
  /** By info hash. */
  torrents: ReadonlyMap<string, Torrent>;
  /** False just after its start: it may not have loaded all of its torrents yet. */
  isSettled: boolean;
}

/**
 * Removes torrents that no current update refers to from Transmission, with their data, and then their
 * records (docs/reliability.md#what-stays-on-a-node). No high-water mark falls by that.
 *
 * @param current updates that go on
 * @param past updates that were ended, or were never for this node
 * @param isSpaceLow whether an update that goes on needs the space of what would stay for a roll-back; asked
 *   only where something would
 * @param nowSeconds unix seconds
 */
export async function cleanUp(
  held: HeldUpdates,
  daemon: Daemon,
  current: readonly Update[],
  past: readonly PastUpdate[],
  isSpaceLow: () => Promise<boolean>,
  nowSeconds: number,
  attempt: Attempt,
): Promise<void> {
  const { config } = held;
  const kept = keptContents(config, past);
  let isLow: Promise<boolean> | undefined;
  const announcements = await describeHeld(held);
  const stay = retainedAnnouncements(announcements);
  const spared: Update[] = [];
  const expired: Update[] = [];
  const leaving: { id: UpdateId; known: Update | Progress | undefined }[] = [];
  for (const { id, isRevoked, isForOthers } of past) {
    const update = (await held.offer(id))?.update;
    const progress = readIfIntact(updatesDir(config.stateDir), id);
    if (update === undefined) {
      leaving.push({ id, known: progress });
      continue;
    }
    // Submitted here for other nodes, which download it from here.
    const isServed = isForOthers === true && progress === undefined && stay.has(updateKey(id));
    // Once other keys have signed it again (submit --renew), it must not need another download, and the
    // machine that it was submitted on must still have it to sign.
    const isRenewable =
      isRevoked === true && (isApplied(config, id) || isPublished(config, update));
    const isKept = kept.get(id.channel)?.has(contentKey(update)) === true;
    const hasExpired = progress !== undefined && hasJustExpired(progress, nowSeconds);
    if (isServed || isRenewable) spared.push(update);
    else if ((isKept || hasExpired) && !(await (isLow ??= isSpaceLow())))
      (isKept ? spared : expired).push(update);
    else leaving.push({ id, known: update });
  }

  const wanted = wantedBy([...current, ...spared, ...expired]);
  // Kept, and not seeded.
  const seeded = new Set([...current, ...spared].map(({ infoHash }) => infoHash));
  for (const { infoHash } of expired) if (!seeded.has(infoHash)) await pause(daemon, infoHash);
  const isRemoved = async (id: UpdateId, known: Update | Progress | undefined): Promise<boolean> =>
    known === undefined ||
    (await removeUnreferenced(
      config,
      daemon,
      wanted,
      known,
      newestAcceptedAt(held, id),
      nowSeconds,
    ));
  const gone: UpdateId[] = [];
  for (const { id, known } of leaving) {
    const isGone = await attempt(id, () => isRemoved(id, known));
    if (isGone === true && !stay.has(updateKey(id))) gone.push(id);
  }
  pruneAnnouncements(config, gone);
  for (const id of listOrphans(config)) {
    const record = readIfIntact(updatesDir(config.stateDir), id);
    // Until a higher announcement is held, the record is the high-water mark (lib/state/high-water-mark.ts).
    const isMark = !announcements.some((each) => isAbove(each, id));
    const isReplaced = held.inChannel(id.channel).length > 0;
    if (isMark && !(isReplaced && isRecordAheadOfTime(id, record, nowSeconds))) continue;
    if ((await attempt(id, () => isRemoved(id, record))) === true)
      removeUpdateRecord(config.stateDir, id);
  }
}

/**
 * Removes a torrent from Transmission, unless something wanted refers to it, with its data where p2p-update has
 * put it.
 *
 * @param past the update, or the fields of its record where only that is left
 * @param newestAt acceptance of the newest announcement of its channel, unix seconds
 * @param nowSeconds unix seconds
 * @returns whether nothing of it is left; at the earliest in the pass after the one that removed it
 */
export async function removeUnreferenced(
  config: Config,
  { transmission, torrents, isSettled }: Daemon,
  wanted: Wanted,
  past: Update | Pick<Update, 'infoHash' | 'sha256'>,
  newestAt: number,
  nowSeconds: number,
): Promise<boolean> {
  const { infoHash } = past;
  if (wanted.infoHashes.has(infoHash)) return true;
  const isShared = wanted.contents.has(contentKey(past));
  const torrent = torrents.get(infoHash);
  if (torrent !== undefined) {
    // In a directory of somebody else: the data stays, and so does a bare torrent, which may be anybody's.
    const isOurs = dataDirectories(config, past).some((each) =>
      isSamePath(each, torrent.downloadDir),
    );
    if (!isOurs && past.sha256 === null) return true;
    const isOfSubmit = isSamePath(torrent.downloadDir, config.publishDir);
    // By a distance: a time to come is that of a clock that was ahead.
    const isOfNow = Math.abs(nowSeconds - torrent.addedAt) < submissionSeconds;
    const isNew = isOfNow && (torrent.addedAt > newestAt || newestAt > nowSeconds);
    // A submit of the same content is under way, and its announcement has yet to come.
    if (isOfSubmit && isNew) return false;
    // First: without the torrent no later pass would find it.
    if (!isShared && 'name' in past) removePublished(config, past);
    await transmission.remove(infoHash, { deleteData: isOurs && !isShared });
    return false;
  }
  if (!isSettled) return false;
  return isShared || !('name' in past) || removeDownloaded(config, past);
}

/** Torrents and contents that the given updates need. */
export function wantedBy(updates: readonly Pick<Update, 'infoHash' | 'sha256'>[]): Wanted {
  return {
    infoHashes: new Set(updates.map(({ infoHash }) => infoHash)),
    contents: new Set(updates.map(contentKey)),
  };
}

async function describeHeld(held: HeldUpdates): Promise<HeldAnnouncement[]> {
  const announcements: HeldAnnouncement[] = [];
  for (const id of held.ids) {
    const update = (await held.offer(id))?.update;
    announcements.push({ id, target: update?.target, noop: update?.noop === true });
  }
  return announcements;
}

/** Whether an announcement raises the high-water mark above an update for any tags of this node. */
function isAbove({ id, target, noop }: HeldAnnouncement, other: UpdateId): boolean {
  return id.channel === other.channel && id.version > other.version && target === '' && !noop;
}

async function pause({ transmission, torrents }: Daemon, infoHash: string): Promise<void> {
  const status = torrents.get(infoHash)?.status;
  if (status !== undefined && status !== 'stopped') await transmission.stop(infoHash);
}

/** Whether an update expired within the last day, by a clock that may be wrong in either direction. */
function hasJustExpired({ state, at }: Progress, nowSeconds: number): boolean {
  const expiredAt = Date.parse(at.EXPIRED ?? '') / 1000;
  return state === 'EXPIRED' && Math.abs(nowSeconds - expiredAt) < keepExpiredSeconds;
}

/** Acceptance of the newest announcement of a channel, unix seconds; 0 when it cannot be told. */
function newestAcceptedAt(held: HeldUpdates, { channel }: UpdateId): number {
  const [newest] = held.inChannel(channel);
  const acceptedAt = newest && held.stored(newest)?.acceptedAt;
  return Math.floor(Date.parse(acceptedAt ?? '') / 1000) || 0;
}

/** Whether the content is where submit has put it. */
function isPublished({ publishDir }: Config, update: Update): boolean {
  return existsSync(contentLocation(update, publishDir).file);
}

function isApplied({ applyDir }: Config, id: UpdateId): boolean {
  try {
    return readProgress(outcomesDir(applyDir), id)?.state === 'APPLIED';
  } catch (error) {
    // A damaged outcome may have been APPLIED.
    if (error instanceof UpdateError) return true;
    throw error;
  }
}

/** Contents of the channels of past updates that stay for a roll-back, by {@link contentKey}. */
function keptContents(
  { applyDir, keepVersions }: Config,
  past: readonly PastUpdate[],
): Map<string, Set<string>> {
  const directory = outcomesDir(applyDir);
  const ids = listRecords(directory);
  const channels = new Set(past.map(({ id }) => id.channel));
  return new Map(
    [...channels].map((channel) => {
      const applied = ids
        .filter((id) => id.channel === channel)
        .map((id) => ({ id, outcome: readIfIntact(directory, id) }));
      return [channel, retainedContents(applied, keepVersions)];
    }),
  );
}
