import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { UpdateError, hasErrno } from './errors.ts';

const minPieceLength = 2 ** 14;
const maxPieceLength = 2 ** 24;
/** The largest piece of an update whose pieces travel in the announcement. */
const maxEmbeddedPieceLength = 2 ** 20;
/** Pieces for large content: small ones let every node upload early. */
const minSwarmPieceLength = 2 ** 16;
const maxSwarmPieceLength = 2 ** 18;
/** So many pieces make 1 MiB of metadata, which each node fetches before any content. */
const maxPieces = 2 ** 20 / 20;
const pieceHashBytes = 20;
const readBytes = 2 ** 20;

/** What a torrent says of its one file. */
export interface TorrentFile {
  /** The name in the torrent, which is the file's name in the download directory. */
  name: string;
  /** Bytes. */
  length: number;
  /** Bytes, a power of two from 2^14 to 2^24. */
  pieceLength: number;
  /** The pieces' SHA-1, 20 bytes each. */
  pieces: Uint8Array;
}

export interface DescribedContent {
  length: number;
  sha256: string;
  pieceLength: number;
  pieces: Uint8Array;
}

/**
 * Chooses the piece length: for small content the smallest with which all pieces fit into the
 * announcement, since that spares each node a round for the metadata; else one of 64 to 256 KiB,
 * larger only where the metadata would grow beyond 1 MiB.
 *
 * @param length bytes of content, above 0
 * @param room bytes left for pieces in the announcement
 */
export function choosePieceLength(length: number, room: number): number {
  const count = Math.floor(room / pieceHashBytes);
  for (let size = minPieceLength; size <= maxEmbeddedPieceLength; size *= 2)
    if (Math.ceil(length / size) <= count) return size;
  let size = minSwarmPieceLength;
  // Some thousand pieces are enough for any swarm that we know.
  while (size < maxSwarmPieceLength && length / size > 1024) size *= 2;
  while (size < maxPieceLength && length / size > maxPieces) size *= 2;
  return size;
}

/**
 * Reads a file once for its SHA-256 and its pieces.
 *
 * @param pieceLength bytes, a power of two
 * @param onProgress called with bytes read so far and in total
 * @throws UpdateError `malformed` for an empty file, `usage` for one that cannot be read,
 *   `try-later` for one that changes meanwhile
 */
export async function describeContent(
  path: string,
  pieceLength: number,
  onProgress?: (bytesDone: number, bytesTotal: number) => void,
): Promise<DescribedContent> {
  const size = await sizeOf(path);
  const hash = createHash('sha256');
  let length = 0;
  async function* read(): AsyncGenerator<Buffer> {
    const chunks: AsyncIterable<Buffer> = createReadStream(path, { highWaterMark: readBytes });
    for await (const chunk of chunks) {
      hash.update(chunk);
      length += chunk.length;
      onProgress?.(length, size);
      yield chunk;
    }
  }
  const pieces = await computePieces(Readable.from(read(), { objectMode: false }), pieceLength);
  if (length !== size)
    throw new UpdateError('try-later', `${path} changed while it was read`, {
      hint: 'submit it once nothing writes to it any more',
    });
  return { length, sha256: hash.digest('hex'), pieceLength, pieces };
}

async function computePieces(content: Readable, pieceLength: number): Promise<Buffer> {
  const [{ default: createTorrent }, { default: parseTorrent }] = await Promise.all([
    import('create-torrent'),
    import('parse-torrent'),
  ]);
  const torrent = await new Promise<Uint8Array>((resolve, reject) => {
    // Without a list of trackers it adds public ones; its name and dates are not used.
    const options = { name: 'content', pieceLength, announceList: [] };
    createTorrent(content, options, (error, made) => {
      if (error === null) resolve(made);
      else reject(error);
    });
  });
  const { pieces } = await parseTorrent(torrent);
  return Buffer.from(pieces?.join('') ?? '', 'hex');
}

async function sizeOf(path: string): Promise<number> {
  let size: number;
  try {
    const stats = await stat(path);
    if (!stats.isFile()) throw new Error('it is not a regular file');
    size = stats.size;
  } catch (cause) {
    const why = hasErrno(cause, 'ENOENT') ? 'there is no such file' : 'it cannot be read';
    throw new UpdateError('usage', `${path}: ${why}`, {
      hint: 'name a regular file that you can read',
      cause,
    });
  }
  if (size > 0) return size;
  throw new UpdateError('malformed', `${path} is empty`, {
    hint: 'Transmission cannot share an empty file',
  });
}

/**
 * The .torrent of one file: an info dictionary of the four keys that BEP 3 asks for and no other, so
 * that it is a function of the announcement and every node makes the very same bytes.
 */
export function buildMetainfo(file: TorrentFile): Buffer {
  return Buffer.concat([Buffer.from('d4:info'), buildInfo(file), Buffer.from('e')]);
}

/** The info hash of {@link buildMetainfo}'s torrent, 40 lowercase hex digits. */
export function infoHashOf(file: TorrentFile): string {
  return createHash('sha1').update(buildInfo(file)).digest('hex');
}

function buildInfo({ name, length, pieceLength, pieces }: TorrentFile): Buffer {
  // The keys of a dictionary are sorted (BEP 3).
  const head = `d6:lengthi${length}e4:name${bencode(name)}12:piece lengthi${pieceLength}e`;
  const tail = `6:pieces${pieces.length}:`;
  return Buffer.concat([Buffer.from(head + tail), pieces, Buffer.from('e')]);
}

function bencode(text: string): string {
  return `${Buffer.byteLength(text)}:${text}`;
}

/** The magnet link (BEP 9) by which Transmission fetches the metadata from the fleet. */
export function magnetUri(infoHash: string): string {
  return `magnet:?xt=urn:btih:${infoHash}`;
}
