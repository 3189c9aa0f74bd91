import { createHash } from 'node:crypto';

/** What decides the metainfo of an update: a part of its announcement. */
export interface Content {
  /** Bytes, 1 or more. */
  length: number;
  /** Of the content, 64 lowercase hex digits. */
  sha256: string;
  /** The update's own name, without the prefix that {@link contentFileName} adds. */
  name: string;
  /** Bytes, a power of two. */
  pieceLength: number;
  /** The SHA-1 of each piece, 20 bytes each. */
  pieces: Uint8Array;
}

const kiB = 1024;
const minPieceLength = 16 * kiB;
const maxPieceLength = 16 * 1024 * kiB;

/** BEP 9 sends metadata in blocks of 16 KiB, and Transmission asks for one at a time. */
const metadataBlock = 16 * kiB;
const maxMetadataBytes = 1_000_000;

/** The name of an update's file in the swarm and on disk: two contents never share one. */
export function contentFileName({ sha256, name }: { sha256: string; name: string }): string {
  return `${sha256.slice(0, 32)}-${name}`;
}

/**
 * Chooses the piece length in bytes, a power of two from 16 KiB to 16 MiB.
 *
 * Where the hashes of all pieces, of up to 1 MiB each, fit into `pieceBudgetBytes` of the announcement:
 * the smallest such, because a node passes on nothing before it has a whole piece. Else the metadata
 * travels in the swarm: 64 to 256 KiB, so that it is one block of metadata for as long as possible, and
 * more only to keep it below 1 MB.
 */
export function choosePieceLength(length: number, pieceBudgetBytes: number): number {
  const fits = (bytes: number) => (pieceLength: number) =>
    Math.ceil(length / pieceLength) * 20 <= bytes;
  return (
    powersOfTwo(minPieceLength, 1024 * kiB).find(fits(pieceBudgetBytes)) ??
    powersOfTwo(64 * kiB, 256 * kiB).find(fits(metadataBlock)) ??
    powersOfTwo(256 * kiB, maxPieceLength).find(fits(maxMetadataBytes)) ??
    maxPieceLength
  );
}

function powersOfTwo(first: number, last: number): number[] {
  return first > last ? [] : [first, ...powersOfTwo(first * 2, last)];
}

/**
 * The .torrent of an update, without trackers. BEP 3 sorts keys: the same content, name and piece length
 * give the same bytes everywhere, hence the same info hash.
 */
export function buildMetainfo(content: Content): Buffer {
  return wrapInfo(encodeInfo(content));
}

/** The BitTorrent v1 info hash of an update, 40 lowercase hex digits. */
export function computeInfoHash(content: Content): string {
  return createHash('sha1').update(encodeInfo(content)).digest('hex');
}

/** A magnet link that names the torrent and nothing else. */
export function magnetUri({ infoHash }: { infoHash: string }): string {
  return `magnet:?xt=urn:btih:${infoHash}`;
}

/** A .torrent around a bencoded info dictionary. */
export function wrapInfo(info: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from('d4:info'), info, Buffer.from('e')]);
}

function encodeInfo(content: Content): Buffer {
  const { length, pieceLength, pieces } = content;
  const name = contentFileName(content); // ASCII, so its length in bytes is its length
  return Buffer.concat([
    Buffer.from(`d6:lengthi${length}e4:name${name.length}:${name}`),
    Buffer.from(`12:piece lengthi${pieceLength}e6:pieces${pieces.length}:`),
    pieces,
    Buffer.from('e'),
  ]);
}
