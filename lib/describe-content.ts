import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { UpdateError, hasErrno } from './errors.ts';
import { computeInfoHash } from './metainfo.ts';
import type { Content } from './metainfo.ts';

const readSize = 1024 * 1024;

export interface DescribedContent extends Omit<Content, 'name'> {
  /** 40 lowercase hex digits. */
  infoHash: string;
}

/**
 * Hashes a file for its announcement, reading it once and holding a few pieces in memory.
 *
 * @param options.name the update's name; the file's own does not matter.
 * @param options.pieceLength bytes, see {@link choosePieceLength}.
 * @param options.onProgress told, after each piece of reading, how many bytes are done of how many.
 * @throws UpdateError 'usage' when the file is missing, unreadable or no regular file; 'malformed' when it
 *   is empty (Transmission refuses such a torrent); 'try-later' when it changes meanwhile.
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
  const { handle, length } = await openContent(path);
  try {
    const sha256 = createHash('sha256');
    let bytesRead = 0;
    const input = Readable.from(
      (async function* () {
        // One byte more than there should be, to see a file that has grown.
        for await (const chunk of readChunks(handle, length + 1)) {
          bytesRead += chunk.length;
          sha256.update(chunk);
          yield chunk;
          onProgress?.(Math.min(bytesRead, length), length);
        }
      })(),
    );
    const pieces = await hashPieces(input, pieceLength);
    const { size, mtimeMs } = await handle.stat();
    const before = await handle.stat();
    if (bytesRead !== length || size !== length || mtimeMs !== before.mtimeMs) {
      throw new UpdateError('try-later', `${path} changed while it was being read`, {
        hint: 'Submit it again when nothing writes to it any more.',
      });
    }
    const content = { length, sha256: sha256.digest('hex'), pieceLength, pieces };
    return { ...content, infoHash: computeInfoHash({ ...content, name }) };
  } finally {
    await handle.close();
  }
}
