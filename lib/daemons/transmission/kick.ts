import { createHash } from 'node:crypto';
import type { TransmissionClient } from './client.ts';

/**
 * A torrent of one byte that nobody has. Private (BEP 27), so that neither DHT, PEX nor local discovery
 * tells of it: it finds no peer, never completes, and never touches the disk.
 */
const info = Buffer.concat([
  Buffer.from('d6:lengthi1e4:name15:p2p-update-kick12:piece lengthi16384e6:pieces20:'),
  Buffer.alloc(20),
  Buffer.from('7:privatei1ee'),
]);
const metainfo = Buffer.concat([Buffer.from('d4:info'), info, Buffer.from('e')]);

/** The dummy torrent that stays in Transmission's list, paused; the same on every node. */
export const kickInfoHash = createHash('sha1').update(info).digest('hex');

/** Puts the dummy torrent in place; does nothing when it is there. */
export async function prepareKick(
  transmission: TransmissionClient,
  downloadDir: string,
): Promise<void> {
  await transmission.add({ metainfo, downloadDir, paused: true });
}

/**
 * Makes the daemon decide at once whom to unchoke and in whom to be interested. It does so every 10 s,
 * and whenever any torrent starts (tr_peerMgrStartTorrent calls rechokePulse), for all torrents. Killed
 * half-way it leaves the dummy running, which the next kick puts right.
 */
export async function kick(transmission: TransmissionClient): Promise<void> {
  await transmission.start(kickInfoHash);
  await transmission.stop(kickInfoHash);
}
