import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { hasErrno } from '../errors.ts';
import type { Update } from '../announcement/update.ts';

const chunkBytes = 1 << 20;

/** The fields of an update that its content is checked against. */
export type AnnouncedContent = Pick<Update, 'length' | 'sha256' | 'pieces' | 'pieceLength'>;

/** Difference of a file from an update's content. */
export interface Mismatch {
  /** In words. */
  reason: string;
  /** The file is not there, or too short: a download that is not whole, whatever the daemon says of it. */
  isIncomplete: boolean;
}

/** The mismatch of content that is not there. */
export const absentContent: Mismatch = { reason: 'there is no such file', isIncomplete: true };
const wrong = (reason: string): Mismatch => ({ reason, isIncomplete: false });
const ofLength = (found: number, { length }: AnnouncedContent): Mismatch => ({
  reason: `it has ${found} bytes, not ${length}`,
  isIncomplete: found < length,
});

/**
 * Copies an update's content while hashing it: the copy that is checked is the one that is applied, since
 * a user that can write `source` may swap it at any time. No link is followed, only a regular file is
 * read, and at most one byte more than announced.
 *
 * @param target created exclusively, 0600, flushed to disk
 * @returns the difference from the announcement; undefined when there is none
 */
export async function copyVerified(
  source: string,
  target: string,
  update: AnnouncedContent,
): Promise<Mismatch | undefined> {
  let from: FileHandle;
  try {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    from = await open(source, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return absentContent;
    if (hasErrno(error, 'ELOOP', 'ENXIO')) return wrong('it is not a regular file');
    throw error;
  }
  try {
    const stats = await from.stat();
    if (!stats.isFile()) return wrong('it is not a regular file');
    if (stats.size !== update.length) return ofLength(stats.size, update);
    const to = await open(target, 'wx', 0o600);
    try {
      const mismatch = await copy(from, to, update);
      await to.sync();
      return mismatch;
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

/**
 * Checks a file that was made of a copy of {@link copyVerified}, such as one that an interrupted run left, or that
 * was delivered. No link is followed, and only a regular file is read.
 */
export async function isIntact(file: string, update: AnnouncedContent): Promise<boolean> {
  let from: FileHandle;
  try {
    from = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return false;
    throw error;
  }
  try {
    const stats = await from.stat();
    if (!stats.isFile() || stats.size !== update.length) return false;
    return (await copy(from, undefined, update)) === undefined;
  } finally {
    await from.close();
  }
}

async function copy(
  from: FileHandle,
  to: FileHandle | undefined,
  update: AnnouncedContent,
): Promise<Mismatch | undefined> {
  const check = contentCheck(update);
  const buffer = Buffer.allocUnsafe(chunkBytes);
  let length = 0;
  for (;;) {
    const wanted = Math.min(chunkBytes, update.length + 1 - length);
    const { bytesRead } = await from.read(buffer, 0, wanted);
    if (bytesRead === 0) break;
    length += bytesRead;
    if (length > update.length) return wrong(`it has more than ${update.length} bytes`);
    const chunk = buffer.subarray(0, bytesRead);
    check.update(chunk);
    if (to !== undefined) await to.appendFile(chunk);
  }
  if (length !== update.length) return ofLength(length, update);
  return check.matches() ? undefined : wrong(`its ${check.algorithm} is not the announced one`);
}

interface ContentCheck {
  algorithm: string;
  update: (chunk: Uint8Array) => void;
  matches: () => boolean;
}

function contentCheck(update: AnnouncedContent): ContentCheck {
  if (update.sha256 !== null) {
    const hash = createHash('sha256');
    return {
      algorithm: 'SHA-256',
      update: (chunk) => hash.update(chunk),
      matches: () => hash.digest('hex') === update.sha256,
    };
  }
  return pieceCheck(update);
}

/** Checks the pieces' SHA-1 (BEP 3), the only hashes that a bare torrent has. */
function pieceCheck({ pieces, pieceLength }: AnnouncedContent): ContentCheck {
  const digests: Buffer[] = [];
  let hash = createHash('sha1');
  let filled = 0;
  return {
    algorithm: 'pieces',
    update: (chunk) => {
      for (let offset = 0; offset < chunk.length;) {
        const part = chunk.subarray(offset, offset + pieceLength - filled);
        hash.update(part);
        offset += part.length;
        filled += part.length;
        if (filled < pieceLength) continue;
        digests.push(hash.digest());
        hash = createHash('sha1');
        filled = 0;
      }
    },
    matches: () => {
      if (filled > 0) digests.push(hash.digest());
      return Buffer.compare(Buffer.concat(digests), pieces) === 0;
    },
  };
}
