import { isContentName, isInfoHash, isPieceLength } from './fields.ts';
import { UpdateError, describeError } from '../errors.ts';
import { wrapInfo } from './metainfo.ts';

/** A .torrent that is the payload itself, unsigned. */
export interface BareTorrent {
  /** 40 lowercase hex digits. */
  infoHash: string;
  name: string;
  /** Bytes. */
  length: number;
  /** Bytes, a power of two. */
  pieceLength: number;
  /** 20 bytes for each piece. */
  pieces: Uint8Array;
  /** Unix seconds; serves as the version. */
  created: number;
  /** The info dictionary alone, as a .torrent: trackers and all other keys are dropped. */
  metainfo: Buffer;
}

const newline = 0x0a;
const hintBase64 = `send it base64-encoded: serf event update "$(base64 -w0 FILE.torrent)"`;

/**
 * Reads a .torrent of one file, raw or in base64 (either alphabet, padding optional).
 *
 * @param payload at most 2,048 bytes, as Serf hands them over: with `\n` added to raw bytes
 * @throws UpdateError `malformed`
 */
export async function parseBareTorrent(payload: Uint8Array): Promise<BareTorrent> {
  const { bytes, isRaw } = decodePayload(payload);
  // parse-torrent takes any 20 bytes for an info hash, and does not check the fields that it decodes.
  const { default: parseTorrent } = await import('parse-torrent');
  let parsed: { info?: unknown; infoBuffer?: unknown; infoHash?: unknown; created?: unknown };
  try {
    parsed = await parseTorrent(bytes);
  } catch (error) {
    throw broken(isRaw, `is not a .torrent (${describeError(error)})`);
  }
  const { info, infoBuffer, infoHash, created } = parsed;
  if (!isDictionary(info) || !(infoBuffer instanceof Uint8Array))
    throw broken(isRaw, 'is not a .torrent');
  if (typeof infoHash !== 'string' || !isInfoHash(infoHash))
    throw broken(isRaw, 'is not a .torrent');
  const metainfo = wrapInfo(infoBuffer);
  // parse-torrent hashes the dictionary as it encodes it again. With any other encoding, a node that
  // hashes the bytes as they came would have another info hash for this torrent.
  if (!bytes.includes(metainfo.subarray(1, -1))) throw broken(isRaw, 'is not canonical bencoding');

  if ('files' in info)
    throw malformed('holds several files', 'send one file, or an archive of them');
  const { name: nameBytes, length, 'piece length': pieceLength, pieces } = info;
  const name = nameBytes instanceof Uint8Array ? Buffer.from(nameBytes).toString('latin1') : '';
  if ('name.utf-8' in info || !isContentName(name)) {
    const hint = 'rename the file: 1 to 64 of A-Z a-z 0-9 . _ + -, first a letter or digit';
    throw malformed('has a file name that is not safe', hint);
  }
  if (!isNumber(length) || !Number.isSafeInteger(length) || length < 1) {
    throw malformed('has no valid length', hintRemake);
  }
  if (!isNumber(pieceLength) || !isPieceLength(pieceLength)) {
    throw malformed('has no valid piece length', hintRemake);
  }
  if (!(pieces instanceof Uint8Array) || pieces.length !== Math.ceil(length / pieceLength) * 20) {
    throw broken(isRaw, 'has not the right number of pieces');
  }
  return {
    infoHash,
    name,
    length,
    pieceLength,
    pieces,
    created: parseCreated(created),
    metainfo,
  };
}

const hintRemake = 'make it again, with create-torrent or transmission-create';

function decodePayload(payload: Uint8Array): { bytes: Buffer; isRaw: boolean } {
  let bytes = Buffer.from(payload);
  // A dictionary with a key: it has a colon, which neither base64 alphabet has.
  if (/^d\d+:/.test(bytes.toString('latin1', 0, 8))) {
    while (bytes.at(-1) === newline) bytes = bytes.subarray(0, -1);
    return { bytes, isRaw: true };
  }
  const text = bytes.toString('latin1').replace(/\s/g, '');
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) throw malformed('is not a .torrent', hintBase64);
  const decoded = Buffer.from(text, 'base64');
  if (decoded[0] !== 0x64) throw malformed('is not a .torrent', hintBase64);
  return { bytes: decoded, isRaw: false };
}

function parseCreated(created: unknown): number {
  const seconds = created instanceof Date ? created.getTime() / 1000 : NaN;
  if (Number.isInteger(seconds) && seconds > 0 && seconds < 2 ** 32) return seconds;
  throw malformed('has no creation date', 'the creation date is its version: make it with one');
}

function isDictionary(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number';
}

function malformed(fault: string, hint: string): UpdateError {
  return new UpdateError('malformed', `the payload ${fault}`, { hint });
}

/**
 * The error for a damaged .torrent. A shell drops NUL bytes from `$(cat FILE.torrent)`, and of the bytes
 * of hashes one in 256 is NUL.
 */
function broken(isRaw: boolean, fault: string): UpdateError {
  return isRaw
    ? malformed(`${fault}; a shell may have dropped NUL bytes from it`, hintBase64)
    : malformed(fault, hintRemake);
}
