import { kick, prepareKick } from './kick.ts';
import { isOurAnnounceUrl, withAnnounceAnswer, type Peer } from './peers.ts';
import type { TransmissionClient } from './transmission.ts';

const pollMs = 500;
const maxKicks = 4;

/** Temporary form. */
export async function feedTorrent(options: {
  transmission: TransmissionClient;
  infoHash: string;
  downloadDir: string;
  give: (announceUrl: string) => Promise<void>;
  peers: () => Promise<Peer[]>;
  timeoutMs: number;
}): Promise<void> {
  const { transmission, infoHash, give, peers, timeoutMs, downloadDir } = options;
  const deadline = performance.now() + timeoutMs;
  await prepareKick(transmission, downloadDir);
  await withAnnounceAnswer({ infoHash, peers, timeoutMs, use: give });
  const torrent = await transmission.get(infoHash);
  const ids = (torrent?.trackers ?? [])
    .filter(({ announce }) => isOurAnnounceUrl(announce))
    .map(({ id }) => id);
  if (ids.length > 0) await transmission.removeTrackers(infoHash, ids);
  let kicks = 0;
  while (performance.now() < deadline && kicks < maxKicks) {
    const now = await transmission.get(infoHash);
    if (now === undefined) return;
    if (now.peersConnected > 0) {
      await kick(transmission);
      kicks += 1;
    }
    if (now.percentDone === 1 && kicks > 0) return;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
