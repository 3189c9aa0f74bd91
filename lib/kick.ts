import { createHash } from 'node:crypto';
import type { TransmissionClient } from './transmission.ts';

/**
 * A torrent of one byte that nobody has. Private: neither DHT, PEX nor local discovery ever tells of it
 * (BEP 27), so it finds no peer and never completes.
 */
const info = Buffer.concat([
  Buffer.from('d6:lengthi1e4:name32:p2p-update-kick-do-not-remove-me12:piece lengthi16384e6:pieces20:'),
  Buffer.alloc(20),
  Buffer.from('7:privatei1ee'),
]);
const metainfo = Buffer.concat([Buffer.from('d4:info'), info, Buffer.from('e')]);

export const kickInfoHash = createHash('sha1').update(info).digest('hex');

/** Puts the dummy torrent in place, paused; does nothing when it is there. */
export async function prepareKick(
  transmission: TransmissionClient,
  downloadDir: string,
): Promise<void> {
  await transmission.add({ metainfo, downloadDir, paused: true });
}

/**
 * Makes the daemon decide at once whom to choke and in whom to be interested. It does so every 10 s, and
 * whenever a torrent starts (tr_peerMgrStartTorrent calls rechokePulse), for all torrents.
 */
export async function kick(transmission: TransmissionClient): Promise<void> {
  await transmission.start(kickInfoHash);
  await transmission.stop(kickInfoHash);
}
