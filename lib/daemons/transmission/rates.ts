import { isInfoHash } from '../../announcement/fields.ts';
import { TransmissionRpc } from './rpc.ts';
import { asNumber, asRecord, replyArguments, unexpected } from './torrent.ts';

/** How far the download of a torrent is. */
export interface DownloadRate {
  /** 0 to 1. */
  percentDone: number;
  bytesPerSecond: number;
}

/**
 * Asks Transmission how far the named torrents are, and for no more than that.
 *
 * @param options those of connectTransmission
 * @returns by info hash; no entry for a torrent that it does not have
 * @throws UpdateError as the calls of a TransmissionClient do
 */
export async function askRates(
  options: ConstructorParameters<typeof TransmissionRpc>[0],
  infoHashes: readonly string[],
): Promise<Map<string, DownloadRate>> {
  const ids = infoHashes.filter(isInfoHash);
  const fields = ['hashString', 'percentDone', 'rateDownload'];
  const reply = await new TransmissionRpc(options).request('torrent-get', { ids, fields });
  const { torrents } = asRecord(replyArguments(reply._data), 'torrent-get');
  if (!Array.isArray(torrents)) throw unexpected('torrents');
  return new Map(
    torrents.map((each) => {
      const { hashString, percentDone, rateDownload } = asRecord(each, 'torrents');
      const rate = {
        percentDone: asNumber(percentDone, 'percentDone'),
        bytesPerSecond: asNumber(rateDownload, 'rateDownload'),
      };
      return [String(hashString).toLowerCase(), rate];
    }),
  );
}
