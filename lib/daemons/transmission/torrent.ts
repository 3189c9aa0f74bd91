import { isInfoHash } from '../../announcement/fields.ts';
import { UpdateError } from '../../errors.ts';
import { isOurAnnounceUrl } from './tracker.ts';

export type TorrentStatus = 'stopped' | 'checking' | 'downloading' | 'seeding' | 'queued';

export interface Torrent {
  /** 40 lowercase hex digits. */
  infoHash: string;
  name: string;
  status: TorrentStatus;
  /** 0 to 1. */
  percentDone: number;
  /** False for a magnet link whose metadata (BEP 9) has not come yet. */
  hasMetadata: boolean;
  /** Bytes; 0 without metadata. */
  totalSize: number;
  /** Bytes; 0 without metadata. */
  pieceLength: number;
  downloadDir: string;
  /** `name` is the path below `downloadDir`; length in bytes. */
  files: { name: string; length: number }[];
  /** Transmission's message of a fault of its own, such as a full disk, not of a tracker; empty: none. */
  error: string;
  peersConnected: number;
  /** Bytes per second. */
  rateDownload: number;
  /** Bytes per second. */
  rateUpload: number;
  /** Unix seconds of the last piece data, in or out; 0: never. */
  activeAt: number;
  /** Unix seconds; the start of the daemon, when a crash has cost it the torrent's resume file. */
  addedAt: number;
  /** Bytes. */
  uploadedEver: number;
  /** Announce URLs; `lastFailed`: no answer to the last announce. */
  trackers: { announce: string; lastFailed: boolean }[];
}

/** True when the last announce of a torrent found nobody at an announce URL of ours: a retry will follow. */
export function hasFailedAnnounce({ trackers }: Pick<Torrent, 'trackers'>): boolean {
  return trackers.some(({ announce, lastFailed }) => lastFailed && isOurAnnounceUrl(announce));
}

/** Suffix of an incomplete file (rename-partial-files of settings.json). */
export const partialSuffix = '.part';

/**
 * True once the daemon has noticed that a torrent's files are gone; the torrent can then neither be
 * started nor checked (setLocalErrorIfFilesDisappeared in torrent.c).
 */
export function hasLostItsFiles({ error }: Pick<Torrent, 'error'>): boolean {
  return error.startsWith('No data found');
}

/**
 * True once the daemon could not read a piece back that it has; it stops the torrent, and wants to check it
 * (fillOutputBuffer in peer-msgs.c).
 */
export function hasCorruptPiece({ error }: Pick<Torrent, 'error'>): boolean {
  return error.startsWith('Please Verify Local Data');
}

/** TR_STAT_LOCAL_ERROR, of transmission.h. */
const localError = 3;

/** The fields of torrent-get that {@link parseTorrents} reads, and no others. */
export const torrentFields = [
  'hashString',
  'name',
  'status',
  'percentDone',
  'metadataPercentComplete',
  'totalSize',
  'pieceSize',
  'downloadDir',
  'files',
  'error',
  'errorString',
  'peersConnected',
  'rateDownload',
  'rateUpload',
  'activityDate',
  'addedDate',
  'uploadedEver',
  'trackerStats',
];

/** tr_torrent_activity, in its numeric order. */
const statuses: readonly TorrentStatus[] = [
  'stopped',
  'queued', // waits to be checked
  'checking',
  'queued', // waits to download
  'downloading',
  'queued', // waits to seed
  'seeding',
];

/**
 * Parses a reply to torrent-get.
 *
 * @throws UpdateError `unavailable` when it is malformed
 */
export function parseTorrents(reply: unknown): Torrent[] {
  return asList(asRecord(replyArguments(reply), 'torrent-get')['torrents'], 'torrents').map(
    (item) => parseTorrent(asRecord(item, 'torrents')),
  );
}

/** A peer to which the daemon has a connection. */
export interface ConnectedPeer {
  /** IPv4 or IPv6, without brackets. */
  address: string;
  /** Share of the content that it has, 0 to 1; 0 too when it has no metadata yet. */
  progress: number;
}

/**
 * Parses a reply to torrent-get with the field `peers` of one torrent; empty for none.
 *
 * @throws UpdateError `unavailable` when it is malformed
 */
export function parsePeers(reply: unknown): ConnectedPeer[] {
  const torrents = asRecord(replyArguments(reply), 'torrent-get')['torrents'];
  return asList(torrents, 'torrents').flatMap((item) =>
    asList(asRecord(item, 'torrents')['peers'], 'peers').map((peer) => {
      const { address, progress } = asRecord(peer, 'peers');
      return { address: asString(address, 'peers'), progress: asNumber(progress, 'peers') };
    }),
  );
}

function parseTorrent(item: Record<string, unknown>): Torrent {
  const infoHash = asString(item['hashString'], 'hashString').toLowerCase();
  if (!isInfoHash(infoHash)) throw unexpected('hashString');
  const status = statuses[asNumber(item['status'], 'status')];
  if (status === undefined) throw unexpected('status');
  const totalSize = asNumber(item['totalSize'], 'totalSize');
  const message = asString(item['errorString'], 'errorString');
  return {
    infoHash,
    name: asString(item['name'], 'name'),
    status,
    percentDone: asNumber(item['percentDone'], 'percentDone'),
    // 4.1 says 0 % of metadata that are larger than it takes from peers, and has them all the same.
    hasMetadata:
      asNumber(item['metadataPercentComplete'], 'metadataPercentComplete') === 1 || totalSize > 0,
    totalSize,
    pieceLength: asNumber(item['pieceSize'], 'pieceSize'),
    downloadDir: asString(item['downloadDir'], 'downloadDir'),
    files: asList(item['files'], 'files').map((file) => {
      const { name, length } = asRecord(file, 'files');
      return { name: asString(name, 'files'), length: asNumber(length, 'files') };
    }),
    error: asNumber(item['error'], 'error') === localError ? message : '',
    peersConnected: asNumber(item['peersConnected'], 'peersConnected'),
    rateDownload: asNumber(item['rateDownload'], 'rateDownload'),
    rateUpload: asNumber(item['rateUpload'], 'rateUpload'),
    activeAt: asNumber(item['activityDate'], 'activityDate'),
    addedAt: asNumber(item['addedDate'], 'addedDate'),
    uploadedEver: asNumber(item['uploadedEver'], 'uploadedEver'),
    trackers: asList(item['trackerStats'], 'trackerStats').map((tracker) => {
      const { announce, hasAnnounced, lastAnnounceSucceeded } = asRecord(tracker, 'trackerStats');
      return {
        announce: asString(announce, 'trackerStats'),
        lastFailed: hasAnnounced === true && lastAnnounceSucceeded === false,
      };
    }),
  };
}

/** The arguments of a reply of Transmission. */
export function replyArguments(reply: unknown): unknown {
  return asRecord(reply, 'reply')['arguments'];
}

export function unexpected(field: string): UpdateError {
  return new UpdateError('unavailable', `Transmission's reply has an unexpected ${field}`, {
    hint: 'this software knows transmission-daemon 3.00',
  });
}

export function asRecord(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw unexpected(field);
  return Object.fromEntries(Object.entries(value));
}

function asList(value: unknown, field: string): unknown[] {
  if (!Array.isArray(value)) throw unexpected(field);
  return value;
}

function asString(value: unknown, field: string): string {
  if (typeof value !== 'string') throw unexpected(field);
  return value;
}

export function asNumber(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw unexpected(field);
  return value;
}
