import { createHash } from 'node:crypto';
import { bencode } from './bencode.ts';

/** The fields of an announcement that the metainfo follows from. */
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

/** A block of metadata in BEP 9; Transmission asks for one at a time. */
const metadataBlock = 16 * kiB;
const maxMetadataBytes = 1_000_000;

/** The name of an update's file in the swarm and on disk; no two contents share one. */
export function contentFileName({ sha256, name }: { sha256: string; name: string }): string {
  return `${sha256.slice(0, 32)}-${name}`;
}

/**
 * Chooses the piece length in bytes, a power of two from 16 KiB to 16 MiB.
 *
 * Where the hashes of all pieces, of up to 1 MiB each, fit into the announcement: the smallest such,
 * because a node can upload only whole pieces. Else the metadata travels in the swarm (BEP 9): 64 to
 * 256 KiB, so that it is one block of metadata for as long as possible, and more only to keep it below
 * 1 MB.
 *
 * @param length of the content, in bytes
 * @param pieceBudgetBytes from `pieceBudget`
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
 * Builds the .torrent of an update, without trackers. BEP 3 sorts keys: the same content, name and piece
 * length give the same bytes everywhere, hence the same info hash.
 */
export function buildMetainfo(content: Content): Buffer {
  return wrapInfo(encodeInfo(content));
}

/** Computes the BitTorrent v1 info hash (BEP 3) of an update, 40 lowercase hex digits. */
export function computeInfoHash(content: Content): string {
  return createHash('sha1').update(encodeInfo(content)).digest('hex');
}

/** A magnet link (BEP 9) with the info hash and, if given, an announce URL, and nothing else. */
export function magnetUri({ infoHash }: { infoHash: string }, announceUrl?: string): string {
  const link = `magnet:?xt=urn:btih:${infoHash}`;
  return announceUrl === undefined ? link : `${link}&tr=${encodeURIComponent(announceUrl)}`;
}

/**
 * Adds an announce URL to a .torrent of {@link wrapInfo}, outside the info dictionary, so that the info
 * hash stays.
 */
export function withAnnounceUrl(metainfo: Buffer, announceUrl: string): Buffer {
  // BEP 3 sorts keys, and `announce` comes before `info`.
  const entry = Buffer.concat([bencode('announce'), bencode(announceUrl)]);
  return Buffer.concat([metainfo.subarray(0, 1), entry, metainfo.subarray(1)]);
}

/** Wraps a bencoded info dictionary into a .torrent, byte for byte. */
export function wrapInfo(info: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from('d4:info'), info, Buffer.from('e')]);
}

function encodeInfo(content: Content): Buffer {
  const { length, pieceLength, pieces } = content;
  return bencode({ length, name: contentFileName(content), 'piece length': pieceLength, pieces });
}
