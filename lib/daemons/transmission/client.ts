import { isAbsolute } from 'node:path';
import { isInfoHash } from '../../announcement/fields.ts';
import { UpdateError } from '../../errors.ts';
import { TransmissionRpc } from './rpc.ts';
import {
  asNumber,
  asRecord,
  type ConnectedPeer,
  parsePeers,
  parseTorrents,
  replyArguments,
  type Torrent,
  torrentFields,
  unexpected,
} from './torrent.ts';

export type NewTorrent = { downloadDir: string; paused?: boolean } & (
  { metainfo: Buffer } | { magnet: string }
);

export interface TransmissionClient {
  /** Adds a torrent; an existing one keeps its state and directory. */
  add(torrent: NewTorrent): Promise<'added' | 'duplicate'>;
  list(): Promise<Torrent[]>;
  get(infoHash: string): Promise<Torrent | undefined>;
  /** The connected peers of a torrent. */
  peersOf(infoHash: string): Promise<ConnectedPeer[]>;
  start(infoHash: string): Promise<void>;
  stop(infoHash: string): Promise<void>;
  verify(infoHash: string): Promise<void>;
  remove(infoHash: string, options: { deleteData: boolean }): Promise<void>;
  /** The named settings of the daemon, as its RPC names them. */
  session(fields: readonly string[]): Promise<Record<string, unknown>>;
  setSession(settings: Record<string, unknown>): Promise<void>;
  /** Free bytes at an absolute path. */
  freeSpace(path: string): Promise<number>;
  /** Seconds since the daemon started; infinite when its clock was set back since. */
  secondsActive(): Promise<number>;
}

/**
 * A client of transmission-daemon's RPC; no request is sent before the first call.
 *
 * Every call rejects with UpdateError: `unavailable` when the daemon is down or slow (a call takes at most
 * `timeoutSeconds`); `configuration` for wrong credentials, or what it refuses; `try-later` when locked out.
 * An unknown info hash is no error: the daemon then does nothing.
 *
 * @param options.credentialsFile JSON with `username` and `password`; null without authentication
 * @throws UpdateError `configuration` for an unusable URL or credentials file
 */
export function connectTransmission(options: {
  url: string;
  credentialsFile: string | null;
  timeoutSeconds: number;
}): TransmissionClient {
  const rpc = new TransmissionRpc(options);

  async function torrents(selection: { ids?: string[] }): Promise<Torrent[]> {
    const response = await rpc.request('torrent-get', { ...selection, fields: torrentFields });
    return parseTorrents(response._data);
  }

  return {
    async add(torrent) {
      // The library's default is /downloads, and a relative path starts at the daemon's own directory.
      if (!isAbsolute(torrent.downloadDir)) {
        throw new UpdateError('configuration', `${torrent.downloadDir} is not an absolute path`, {
          hint: 'set downloadDir to an absolute path',
        });
      }
      const place = { 'download-dir': torrent.downloadDir, paused: torrent.paused ?? false };
      if ('metainfo' in torrent) {
        return parseAdded(await rpc.addTorrent(torrent.metainfo.toString('base64'), place));
      }
      // Transmission would fetch any other URL and open any path given here.
      if (!torrent.magnet.startsWith('magnet:?xt=urn:btih:')) {
        throw new UpdateError('malformed', 'not a BitTorrent magnet link', {
          hint: 'it begins with magnet:?xt=urn:btih: and the info hash',
        });
      }
      return parseAdded(await rpc.addMagnet(torrent.magnet, place));
    },
    list: () => torrents({}),
    async get(infoHash) {
      const found = await torrents({ ids: [checkInfoHash(infoHash)] });
      return found.find((torrent) => torrent.infoHash === infoHash);
    },
    async peersOf(infoHash) {
      const ids = [checkInfoHash(infoHash)];
      const reply = (await rpc.request('torrent-get', { ids, fields: ['peers'] }))._data;
      return parsePeers(reply);
    },
    async start(infoHash) {
      await rpc.resumeTorrent(checkInfoHash(infoHash));
    },
    async stop(infoHash) {
      await rpc.pauseTorrent(checkInfoHash(infoHash));
    },
    async verify(infoHash) {
      await rpc.verifyTorrent(checkInfoHash(infoHash));
    },
    async remove(infoHash, { deleteData }) {
      await rpc.removeTorrent(checkInfoHash(infoHash), deleteData);
    },
    async session(fields) {
      const response = await rpc.request('session-get', { fields });
      return asRecord(replyArguments(response._data), 'session-get');
    },
    async setSession(settings) {
      await rpc.setSession(settings);
    },
    async freeSpace(path) {
      const reply = asRecord(replyArguments(await rpc.freeSpace(path)), 'free-space');
      const bytes = asNumber(reply['size-bytes'], 'size-bytes');
      if (bytes >= 0) return bytes;
      throw new UpdateError('configuration', `Transmission cannot tell the free space of ${path}`, {
        hint: 'it must exist and be open to the user debian-transmission',
      });
    },
    async secondsActive() {
      const reply = replyArguments((await rpc.request('session-stats'))._data);
      const current = asRecord(asRecord(reply, 'session-stats')['current-stats'], 'current-stats');
      const seconds = asNumber(current['secondsActive'], 'secondsActive');
      // By its wall clock (tr_stats.cc): of a negative age a caller would wait for its end.
      return seconds < 0 ? Infinity : seconds;
    },
  };
}

/** Checks an id: in torrent-remove a malformed one means every torrent. */
function checkInfoHash(infoHash: string): string {
  if (isInfoHash(infoHash)) return infoHash;
  throw new TypeError('not an info hash');
}

function parseAdded(reply: unknown): 'added' | 'duplicate' {
  const answer = asRecord(replyArguments(reply), 'torrent-add');
  if ('torrent-added' in answer) return 'added';
  if ('torrent-duplicate' in answer) return 'duplicate';
  throw unexpected('torrent-add');
}
