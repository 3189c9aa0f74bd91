import { constants } from 'node:fs';
import { lstat, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { hasErrno, UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';
import { entryPath } from './archive-entry.ts';
import { archiveLimits, type ArchiveLimits } from './archive.ts';

const blockBytes = 512;

/**
 * Packs a directory into one gzipped tar that depends on the files' names, contents and owner's
 * executable bit alone: entries sorted by name, no times, no owners, modes 0644 and 0755. The same tree
 * gives the same bytes (with the same zlib). Entries named `.git` are left out.
 *
 * @param target created exclusively, and removed when packing fails
 * @throws UpdateError `malformed`, naming the path, for links, devices, names that no node would unpack,
 *   and more than one would unpack; `try-later` for a file that changes meanwhile; and file system errors
 */
export async function packDirectory(
  directory: string,
  target: string,
  limits: ArchiveLimits = archiveLimits,
): Promise<void> {
  const output = await open(target, 'wx', 0o644);
  try {
    // The gzip header (RFC 1952) gets neither a name nor a time from node:zlib.
    await pipeline(
      tarBlocks(directory, limits),
      createGzip({ level: 9 }),
      output.createWriteStream(),
    );
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  }
}

async function* tarBlocks(
  directory: string,
  { maxEntries, maxBytes }: ArchiveLimits,
): AsyncGenerator<Buffer> {
  const { Header, Pax } = await import('tar');
  let entries = 0;
  let bytes = 0;
  for await (const { path, type, mode, size } of listTree(directory, '')) {
    entries += 1;
    bytes += size;
    if (entries > maxEntries || bytes > maxBytes)
      throw cannotPack(directory, `holds more than ${maxEntries} entries or ${maxBytes} bytes`);
    const name = type === 'Directory' ? `${path}/` : path;
    const header = new Header({ path: name, type, mode, size, uid: 0, gid: 0, mtime: new Date(0) });
    const block = Buffer.alloc(blockBytes);
    if (header.encode(block)) yield new Pax({ path: name }).encode();
    yield block;
    if (type === 'File') yield* readExactly(join(directory, path), size);
  }
  yield Buffer.alloc(2 * blockBytes);
}

interface TreeEntry {
  path: string;
  type: 'File' | 'Directory';
  mode: number;
  /** Bytes; 0 for a directory. */
  size: number;
}

async function* listTree(top: string, below: string): AsyncGenerator<TreeEntry> {
  const names = await readdir(join(top, below));
  // By UTF-16 code unit: a locale's order differs between machines.
  for (const name of names.sort()) {
    if (name === '.git') continue;
    const path = below === '' ? name : `${below}/${name}`;
    checkName(path);
    const stats = await lstat(join(top, path));
    if (stats.isDirectory()) {
      yield { path, type: 'Directory', mode: 0o755, size: 0 };
      yield* listTree(top, path);
    } else if (stats.isFile()) {
      const mode = stats.mode & 0o100 ? 0o755 : 0o644;
      yield { path, type: 'File', mode, size: stats.size };
    } else {
      throw cannotPack(path, stats.isSymbolicLink() ? 'is a symbolic link' : 'is a special file');
    }
  }
}

/** A file's content, padded to whole blocks; `size` is already in the header and must hold. */
async function* readExactly(path: string, size: number): AsyncGenerator<Buffer> {
  const changed = (): UpdateError =>
    new UpdateError('try-later', `"${printable(path)}" changed while it was packed`, {
      hint: 'try again when nothing writes to the directory',
    });
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((error: unknown) => {
    throw hasErrno(error, 'ENOENT', 'ELOOP', 'ENXIO') ? changed() : error;
  });
  try {
    const stats = await file.stat();
    if (!stats.isFile() || stats.size !== size) throw changed();
    let left = size;
    for await (const chunk of file.createReadStream({ autoClose: false })) {
      left -= (chunk as Buffer).length;
      if (left < 0) throw changed();
      yield chunk as Buffer;
    }
    if (left > 0) throw changed();
  } finally {
    await file.close();
  }
  const padding = (blockBytes - (size % blockBytes)) % blockBytes;
  if (padding > 0) yield Buffer.alloc(padding);
}

/** Applies the rule that nodes unpack by: a name that they refuse is refused before it is signed. */
function checkName(path: string): void {
  try {
    entryPath(path);
  } catch (error) {
    throw error instanceof UpdateError
      ? new UpdateError('malformed', error.message.replace(/^the archive cannot be used: /, ''), {
          hint: 'rename it, then try again',
        })
      : error;
  }
}

function cannotPack(path: string, why: string): UpdateError {
  return new UpdateError('malformed', `"${printable(path)}" ${why}`, {
    hint: 'an update holds plain files and directories only: replace or remove it, then try again',
  });
}
