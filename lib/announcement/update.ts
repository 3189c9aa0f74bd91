import { join } from 'node:path';
import { type BareTorrent, parseBareTorrent } from './bare-torrent.ts';
import { decodeAnnouncement, type SignedAnnouncement } from './codec.ts';
import { isChannel, type Kind } from './fields.ts';
import { contentFileName } from './metainfo.ts';

/** One version of one channel: the identity of an update on every node. */
export interface UpdateId {
  channel: string;
  version: number;
}

/**
 * An update as a node sees it. A signed announcement has all fields; a bare torrent (closed labs) has
 * neither a SHA-256 nor an expiry, and its kind shows only when the content is there.
 */
export interface Update extends UpdateId {
  /** The payload of the event: the announcement's text, or the bare torrent in base64. */
  payload: string;
  kind: Kind | null;
  name: string;
  /** Bytes. */
  length: number;
  /** 40 lowercase hexadecimal digits. */
  infoHash: string;
  /** 64 lowercase hexadecimal digits; null for a bare torrent. */
  sha256: string | null;
  /** Bytes, a power of two. */
  pieceLength: number;
  /** The pieces' SHA-1, 20 bytes each; empty when they travel as metadata (BEP 9). */
  pieces: Uint8Array;
  /** Unix seconds; of a bare torrent its creation date, which is its version too. */
  created: number;
  /** Unix seconds; 0: at once. */
  notBefore: number;
  /** Unix seconds; null: never. */
  expires: number | null;
  rerun: boolean;
  /** Puppet reports changes without making them. */
  noop: boolean;
  /** The nodes that it is for (docs/announcement.md#targets); '' is all. */
  target: string;
  /** The .torrent of a bare torrent, without trackers; null for an announcement, which implies it. */
  metainfo: Buffer | null;
}

/** A parsed payload; two offers are the same when their bodies are. */
export type Offer = AnnouncementOffer | TorrentOffer;

export interface AnnouncementOffer {
  source: 'announcement';
  update: Update;
  body: Uint8Array;
  text: string;
  signed: SignedAnnouncement;
}

export interface TorrentOffer {
  source: 'torrent';
  update: Update;
  body: Uint8Array;
  text: string;
}

/** The channel of every bare torrent. */
const bareChannel = 'default';

/**
 * Parses the payload of an `update` event: announcement format 1, or a bare .torrent. Trust is not
 * decided here.
 *
 * @param payload at most 2,048 bytes, without the newline that Serf appends
 * @throws UpdateError `malformed`
 */
export async function parsePayload(payload: Uint8Array): Promise<Offer> {
  const text = Buffer.from(payload).toString('latin1');
  if (!looksLikeTorrent(payload)) return parseAnnouncement(text);
  const torrent = await parseBareTorrent(payload);
  return offerOfTorrent(torrent, text.trimStart().startsWith('d') ? base64(payload) : text);
}

/** Parses announcement text alone; throws as {@link parsePayload} does. */
export function parseAnnouncement(text: string): AnnouncementOffer {
  const signed = decodeAnnouncement(text);
  return {
    source: 'announcement',
    update: { ...signed.announcement, payload: text, metainfo: null },
    body: signed.body,
    text,
    signed,
  };
}

/**
 * True for a bencoded dictionary, `d<digit>`, raw or in base64. Announcement format 1 begins with the
 * byte 1, in base64url `A`, so the two cannot be confused.
 */
export function looksLikeTorrent(payload: Uint8Array): boolean {
  return /^\s*(d\d|ZD[A-Za-n])/.test(Buffer.from(payload.subarray(0, 64)).toString('latin1'));
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function offerOfTorrent(torrent: BareTorrent, text: string): TorrentOffer {
  const update: Update = {
    payload: text,
    channel: bareChannel,
    version: torrent.created,
    kind: null,
    name: torrent.name,
    length: torrent.length,
    infoHash: torrent.infoHash,
    sha256: null,
    pieceLength: torrent.pieceLength,
    pieces: torrent.pieces,
    created: torrent.created,
    notBefore: 0,
    expires: null,
    rerun: false,
    noop: false,
    target: '',
    metainfo: torrent.metainfo,
  };
  const { metainfo } = torrent;
  // The version is outside the info dictionary: without it two versions would be the same offer.
  const body = Buffer.concat([Buffer.from(`${update.version} `), metainfo]);
  return { source: 'torrent', update, body, text };
}

/** The place of an update's content below a download or publish directory. */
export function contentLocation(update: Update, base: string): { directory: string; file: string } {
  const directory = contentDirectory(update, base);
  return { directory, file: join(directory, contentName(update)) };
}

/** The directory of an update's content below a download or publish directory. */
export function contentDirectory(
  { infoHash, sha256 }: Pick<Update, 'infoHash' | 'sha256'>,
  base: string,
): string {
  // The name of a bare torrent is its sender's choice: each has a directory of its own.
  return sha256 === null ? join(base, infoHash) : base;
}

/** The name of the file in the torrent; that of an announcement's content is unique by its hash. */
export function contentName({ sha256, name }: Pick<Update, 'sha256' | 'name'>): string {
  return sha256 === null ? name : contentFileName({ sha256, name });
}

/** The identity alone, as events.log has it. */
export function idOf({ channel, version }: UpdateId): UpdateId {
  return { channel, version };
}

/** True once an update must not be applied any more. */
export function isExpired(update: Pick<Update, 'expires'>, nowSeconds: number): boolean {
  return update.expires !== null && update.expires <= nowSeconds;
}

/** `channel@version`, the version padded so that names sort as versions do. */
export function updateKey({ channel, version }: UpdateId): string {
  return `${channel}@${String(version).padStart(16, '0')}`;
}

/** Reverses {@link updateKey}; undefined for any other file name. */
export function parseUpdateKey(key: string): UpdateId | undefined {
  const [, channel = '', version] = /^([^@]+)@(\d{16})$/.exec(key) ?? [];
  return isChannel(channel) ? { channel, version: Number(version) } : undefined;
}

/** `channel@version`, as people and queries write it. */
export function nameOf({ channel, version }: UpdateId): string {
  return `${channel}@${version}`;
}

/** Reverses {@link nameOf}; undefined for any other text. */
export function parseUpdateName(text: string): UpdateId | undefined {
  const [, channel = '', digits] = /^([^@]+)@([1-9]\d{0,15})$/.exec(text) ?? [];
  const version = Number(digits);
  return isChannel(channel) && Number.isSafeInteger(version) ? { channel, version } : undefined;
}

/** A channel, or one version of it, as an operator names what a command is about. */
export interface UpdateRef {
  channel: string;
  /** null: whatever counts in the channel. */
  version: number | null;
}

/** Parses `channel` or `channel@version`; undefined for any other text. */
export function parseUpdateRef(text: string): UpdateRef | undefined {
  return isChannel(text) ? { channel: text, version: null } : parseUpdateName(text);
}

/** Whether an update is the one, or of the channel, that was named. */
export function isNamedBy(ref: UpdateRef, { channel, version }: UpdateId): boolean {
  return ref.channel === channel && (ref.version === null || ref.version === version);
}

/** A reference in words: `of channel web`, or `web@7`. */
export function describeRef({ channel, version }: UpdateRef): string {
  return version === null ? `of channel ${channel}` : nameOf({ channel, version });
}
