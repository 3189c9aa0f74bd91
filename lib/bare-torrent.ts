import { isContentName } from './announcement.ts';
import { UpdateError } from './errors.ts';

/** A .torrent that came as the payload of an event, as the predecessor of this project sent it. */
export interface BareTorrent {
  /** 40 lowercase hex digits. */
  infoHash: string;
  /** A name that is safe on every disk. */
  name: string;
  /** Bytes. */
  length: number;
  /** Bytes. */
  pieceLength: number;
  pieces: Buffer;
  /** Unix seconds; serves as its version. */
  created: number;
  /** The .torrent with its info dictionary alone: no tracker is ever asked. */
  metainfo: Buffer;
}

/** True for a bencoded dictionary, raw or in base64. */
export function looksLikeTorrent(payload: Uint8Array): boolean {
  return /^\s*(d\d|ZD[A-Za-n])/.test(Buffer.from(payload.subarray(0, 64)).toString('latin1'));
}

/**
 * Parses a bare .torrent: raw, as `serf event update "$(cat FILE)"` sends it, or base64.
 *
 * @throws UpdateError `malformed` unless it is one file's torrent, version 1, with a creation date
 */
export async function parseBareTorrent(payload: Uint8Array): Promise<BareTorrent> {
  const bytes = decodePayload(payload);
  // Heavy, and needed for this kind of payload only.
  const { default: parseTorrent } = await import('parse-torrent');
  const torrent = await parseTorrent(bytes).catch((cause: unknown) => {
    throw new UpdateError('malformed', 'the .torrent cannot be parsed', {
      hint: 'a shell drops NUL bytes: send it as serf event update "$(base64 -w0 FILE.torrent)"',
      cause,
    });
  });
  const { infoHash, infoBuffer, name, length, pieceLength, pieces, created } = torrent;
  const info = torrent.info as Record<string, unknown>;
  check(/^[0-9a-f]{40}$/.test(infoHash) && infoBuffer !== undefined, 'it has no info hash');
  check(info['files'] === undefined, 'it has several files: pack them into one');
  check(info['meta version'] === undefined, 'it is a version 2 torrent');
  check(name !== undefined && isContentName(name), 'the name in it is not a safe file name');
  check(isPositive(length), 'it says no length');
  check(isPieceLength(pieceLength), 'its piece length is not a power of two');
  const hashes = Buffer.from(pieces?.join('') ?? '', 'hex');
  check(hashes.length === 20 * Math.ceil(length / pieceLength), 'its pieces do not fit its length');
  const seconds = created === undefined ? NaN : Math.floor(created.getTime() / 1000);
  check(isPositive(seconds), 'it has no creation date, which would be its version');
  const metainfo = Buffer.concat([Buffer.from('d4:info'), infoBuffer, Buffer.from('e')]);
  return { infoHash, name, length, pieceLength, pieces: hashes, created: seconds, metainfo };
}

function decodePayload(payload: Uint8Array): Buffer {
  const text = Buffer.from(payload).toString('latin1').trim();
  if (text.startsWith('d')) return Buffer.from(payload);
  check(/^[A-Za-z0-9+/_-]+={0,2}$/.test(text), 'it is neither bencoded nor base64');
  return Buffer.from(text, 'base64');
}

function isPositive(value: number | undefined): value is number {
  return value !== undefined && Number.isSafeInteger(value) && value > 0;
}

function isPieceLength(value: number | undefined): value is number {
  return (
    isPositive(value) && value >= 2 ** 14 && value <= 2 ** 26 && Number.isInteger(Math.log2(value))
  );
}

function check(holds: boolean, why: string): asserts holds {
  if (!holds)
    throw new UpdateError('malformed', `the .torrent cannot be used: ${why}`, {
      hint: 'make it with a creation date, of one file; or use scripts/submit.ts',
    });
}
