import { idOf, type Update } from '../../announcement/update.ts';
import type { Torrent } from '../../daemons/transmission/torrent.ts';
import { placeOf } from '../../state/content-place.ts';
import { listReseeds, type Reseed, removeReseed } from '../../state/facts.ts';
import type { HeldUpdates } from '../../state/held.ts';
import { findByInfoHash } from '../../state/reseeds.ts';
import type { Attempt, Daemon } from './clean-up.ts';
import { addTorrent, type AdvanceDeps, announce, type BackgroundTask } from './take-step.ts';
import { keepTorrentFile, keptMetainfo, metainfoOf } from './torrent-file.ts';

/** Age after which a request is dropped: its sender has asked others, or again. */
const maxAgeSeconds = 600;
/** Time between two re-adds of one torrent, for peers to find it again. */
const minIntervalSeconds = 20;
/** Bytes for each further second of it: so the checks of the data take a tenth of a slow disk's time at most. */
const bytesPerSecond = 10_000_000;
/** Time without upload after which nobody is being served. */
const idleSeconds = 3;

/**
 * Whether to follow a request to add a torrent anew. Any member can make one in any name, so it costs little:
 * a daemon that serves somebody is left alone, and one that has just done it. Who is refused asks others, and
 * then again.
 *
 * @param torrent undefined when Transmission does not have it: it was taken out for this request
 * @param isThere whether the content is on disk
 * @param nowSeconds unix seconds
 */
export function isReseedDue(
  { requestedAt }: Reseed,
  torrent: Torrent | undefined,
  isThere: boolean,
  nowSeconds: number,
): boolean {
  if (Math.abs(nowSeconds - requestedAt) > maxAgeSeconds) return false;
  if (torrent === undefined) return isThere;
  const isSeed = torrent.percentDone === 1 && torrent.status === 'seeding';
  const isServing = torrent.rateUpload > 0 || Math.abs(nowSeconds - torrent.activeAt) < idleSeconds;
  const intervalSeconds = minIntervalSeconds + torrent.totalSize / bytesPerSecond;
  return isSeed && !isServing && Math.abs(nowSeconds - torrent.addedAt) >= intervalSeconds;
}

/**
 * Adds anew the torrents that members cannot get from here. Transmission 3.00 remembers, as long as it holds a
 * torrent, each address that was complete once, and serves it no more, whatever it has lost since
 * (rechokeUploads and atomSetSeed in peer-mgr.c); nothing but this makes it forget.
 *
 * @returns the background tasks that it began
 */
export async function reseed(
  held: HeldUpdates,
  { torrents, isSettled }: Pick<Daemon, 'torrents' | 'isSettled'>,
  deps: AdvanceDeps,
  attempt: Attempt,
): Promise<BackgroundTask[]> {
  const { config } = held;
  const tasks: BackgroundTask[] = [];
  if (!isSettled) return tasks;
  for (const request of listReseeds(config.stateDir)) {
    const { infoHash } = request;
    const update = await findByInfoHash(held, infoHash);
    const torrent = torrents.get(infoHash);
    const isThere = update !== undefined && placeOf(config, update).isThere;
    if (update !== undefined && isReseedDue(request, torrent, isThere, deps.nowSeconds())) {
      const isDone = await attempt(update, async () => {
        tasks.push(...(await addAnew(held, deps, update, torrent)));
        return true;
      });
      if (isDone !== true) continue;
    }
    removeReseed(config.stateDir, infoHash);
  }
  return tasks;
}

/** Takes a torrent out with its data kept, and adds it again; killed half-way, the next pass goes on. */
async function addAnew(
  { config }: HeldUpdates,
  deps: AdvanceDeps,
  update: Update,
  torrent: Torrent | undefined,
): Promise<BackgroundTask[]> {
  await keepTorrentFile(config, update);
  // By its magnet link it would need the metainfo of its peers before it is a seed again.
  if ((metainfoOf(update) ?? keptMetainfo(config, update)) === undefined) return [];
  const directory = torrent?.downloadDir ?? placeOf(config, update).directory;
  await deps.transmission.remove(update.infoHash, { deleteData: false });
  const reason = 'added anew for a member that gets nothing from here';
  deps.log({ decision: 'reseed', reason, ...idOf(update) });
  return [announce(deps, update, await addTorrent(config, deps, update, directory, 'seed'))];
}
