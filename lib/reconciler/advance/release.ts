import { removeDownloaded, removePublished, isSamePath } from './torrent-data.ts';
import type { Config } from '../../config.ts';
import type { Torrent, TransmissionClient } from '../../daemons/transmission/client.ts';
import type { Update } from '../../announcement/update.ts';

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
export async function release(
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
