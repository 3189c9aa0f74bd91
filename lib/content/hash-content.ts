import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { UpdateError, hasErrno } from '../errors.ts';
import { computeInfoHash } from '../announcement/metainfo.ts';
import type { Content } from '../announcement/metainfo.ts';

const readSize = 1024 * 1024;

export interface DescribedContent extends Omit<Content, 'name'> {
  /** 40 lowercase hex digits. */
  infoHash: string;
}

/**
 * Hashes a file for its announcement; reads it once and holds a few pieces in memory.
 *
 * @param options.name the update's name, which need not be that of the file
 * @param options.pieceLength bytes, see `choosePieceLength`
 * @param options.onProgress called about every MiB
 * @throws UpdateError `usage` when the file is missing, unreadable or no regular file; `malformed` when it
 *   is empty (Transmission refuses such a torrent); `try-later` when it changes meanwhile
 */
export async function describeContent(
  path: string,
  options: {
    name: string;
    pieceLength: number;
    onProgress?: (bytesDone: number, bytesTotal: number) => void;
  },
): Promise<DescribedContent> {
  const { name, pieceLength, onProgress } = options;
  const handle = await openContent(path);
  try {
    const before = await handle.stat();
    checkIsContent(before, path);
    const length = before.size;
    const sha256 = createHash('sha256');
    let bytesRead = 0;
    async function* readOnce() {
      // Up to its end at the start: a file that grows must not be followed for ever.
      const stream = handle.createReadStream({
        end: length - 1,
        highWaterMark: readSize,
        autoClose: false,
      });
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        bytesRead += chunk.length;
        sha256.update(chunk);
        yield chunk;
        onProgress?.(bytesRead, length);
      }
    }
    const pieces = await hashPieces(Readable.from(readOnce()), pieceLength);
    const after = await handle.stat();
    if (bytesRead !== length || after.size !== length || after.mtimeMs !== before.mtimeMs) {
      throw new UpdateError('try-later', `${path} changed while it was being read`, {
        hint: 'submit it once nothing writes to it any more',
      });
    }
    const content = { length, sha256: sha256.digest('hex'), pieceLength, pieces };
    return { ...content, infoHash: computeInfoHash({ ...content, name }) };
  } finally {
    await handle.close();
  }
}

async function openContent(path: string): Promise<FileHandle> {
  try {
    // Non-blocking: opening a FIFO would wait for its writer.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const isMissing = hasErrno(cause, 'ENOENT', 'ENOTDIR');
    throw new UpdateError('usage', `cannot read ${path}`, {
      hint: isMissing ? 'there is no such file' : 'name a file that you can read',
      cause,
    });
  }
}

function checkIsContent(stats: Awaited<ReturnType<FileHandle['stat']>>, path: string): void {
  if (!stats.isFile()) {
    throw new UpdateError('usage', `${path} is not a file`, {
      hint: 'name a regular file that you can read',
    });
  }
  if (stats.size === 0) {
    throw new UpdateError('malformed', `${path} is empty`, {
      hint: 'Transmission cannot share an empty file: submit one with content',
    });
  }
}

/** Hashes each piece with create-torrent, which adds trackers unless it gets an announce list. */
async function hashPieces(input: Readable, pieceLength: number): Promise<Uint8Array> {
  // Loaded here: other programs that import this file must not wait for these two.
  const { default: createTorrent } = await import('create-torrent');
  const { default: parseTorrent } = await import('parse-torrent');
  const torrent = await new Promise<Uint8Array>((resolve, reject) => {
    const options = { name: 'content', pieceLength, announceList: [] };
    createTorrent(input, options, (error, made) => {
      if (made === undefined) reject(error ?? new Error('create-torrent made nothing'));
      else resolve(made);
    });
  });
  const { info } = (await parseTorrent(torrent)) as { info?: { pieces?: unknown } };
  if (info?.pieces instanceof Uint8Array) return info.pieces;
  throw new Error('create-torrent made no pieces');
}
