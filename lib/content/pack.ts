import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { hasErrno, UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';
import { BadName, entryPath } from './archive-entry.ts';
import { archiveLimits, type ArchiveLimits, type ArchiveListing } from './archive.ts';
import { type Fault, Faults, FaultyContent } from './faults.ts';

const blockBytes = 512;

/**
 * Packs a directory into one gzipped tar that depends on the files' names, contents and owner's
 * executable bit alone: entries sorted by name, no times, no owners, modes 0644 and 0755. The same tree
 * gives the same bytes (with the same zlib). Entries named `.git` are left out.
 *
 * @param target created exclusively, and removed when packing fails
 * @throws FaultyContent (`malformed`), naming all paths, for links, devices, and names that no node would
 *   unpack; UpdateError `malformed` for more than one would unpack, `try-later` for a file that changes
 *   meanwhile; and file system errors
 */
export async function packDirectory(
  directory: string,
  target: string,
  limits: ArchiveLimits = archiveLimits,
): Promise<void> {
  await listDirectory(directory, limits);
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

/**
 * The files and directories that {@link packDirectory} packs, by path.
 *
 * @throws as {@link packDirectory} does
 */
export async function listDirectory(
  directory: string,
  { maxEntries, maxBytes }: ArchiveLimits = archiveLimits,
): Promise<ArchiveListing> {
  const listing = new Map<string, 'file' | 'directory'>();
  const faults = new Faults();
  let bytes = 0;
  for await (const { path, type, size, fault } of listTree(directory, '')) {
    if (fault !== undefined) faults.add(fault);
    listing.set(path, type === 'File' ? 'file' : 'directory');
    bytes += size;
    if (listing.size > maxEntries || bytes > maxBytes)
      throw cannotPack(directory, `holds more than ${maxEntries} entries or ${maxBytes} bytes`);
  }
  if (faults.count > 0)
    throw new FaultyContent(`the directory cannot be packed: ${faults.describe()}`, {
      hint: 'an update holds plain files and directories only: replace or remove these, then try again',
      source: 'directory',
      remedy: faults.remedy(),
    });
  return listing;
}

async function* tarBlocks(
  directory: string,
  { maxEntries, maxBytes }: ArchiveLimits,
): AsyncGenerator<Buffer> {
  const { Header, Pax } = await import('tar');
  let entries = 0;
  let bytes = 0;
  for await (const { path, type, mode, size, fault } of listTree(directory, '')) {
    if (fault !== undefined) throw changed(path);
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
  /** Of an entry that no archive may have. */
  fault?: Fault;
}

async function* listTree(top: string, below: string): AsyncGenerator<TreeEntry> {
  const names = await readdir(join(top, below));
  // By UTF-16 code unit: a locale's order differs between machines.
  for (const name of names.sort()) {
    if (name === '.git') continue;
    const path = below === '' ? name : `${below}/${name}`;
    const stats = await lstat(join(top, path));
    const fault = nameFault(path) ?? (await typeFault(top, path, stats));
    if (fault !== undefined) {
      yield { path, type: 'File', mode: 0, size: 0, fault };
    } else if (stats.isDirectory()) {
      yield { path, type: 'Directory', mode: 0o755, size: 0 };
      yield* listTree(top, path);
    } else {
      const mode = stats.mode & 0o100 ? 0o755 : 0o644;
      yield { path, type: 'File', mode, size: stats.size };
    }
  }
}

/** Applies the rule that nodes unpack by: a name that they refuse is refused before it is signed. */
function nameFault(path: string): Fault | undefined {
  try {
    entryPath(path);
    return undefined;
  } catch (error) {
    if (error instanceof BadName) return { path, what: error.why };
    throw error;
  }
}

async function typeFault(top: string, path: string, stats: Stats): Promise<Fault | undefined> {
  if (stats.isDirectory() || stats.isFile()) return undefined;
  if (!stats.isSymbolicLink()) return { path, what: 'is a special file', remedy: 'exclude' };
  const target = await realpath(join(top, path)).catch(() => undefined);
  const isCircle =
    target === undefined || `${await realpath(join(top, path, '..'))}/`.startsWith(`${target}/`);
  const isTests = path.split('/').includes('spec');
  return { path, what: 'is a symbolic link', remedy: isCircle || isTests ? 'exclude' : 'copy' };
}

/** A file's content, padded to whole blocks; `size` is already in the header and must hold. */
async function* readExactly(path: string, size: number): AsyncGenerator<Buffer> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((error: unknown) => {
    throw hasErrno(error, 'ENOENT', 'ELOOP', 'ENXIO') ? changed(path) : error;
  });
  try {
    const stats = await file.stat();
    if (!stats.isFile() || stats.size !== size) throw changed(path);
    let left = size;
    for await (const chunk of file.createReadStream({ autoClose: false })) {
      left -= (chunk as Buffer).length;
      if (left < 0) throw changed(path);
      yield chunk as Buffer;
    }
    if (left > 0) throw changed(path);
  } finally {
    await file.close();
  }
  const padding = (blockBytes - (size % blockBytes)) % blockBytes;
  if (padding > 0) yield Buffer.alloc(padding);
}

function changed(path: string): UpdateError {
  return new UpdateError('try-later', `"${printable(path)}" changed while it was packed`, {
    hint: 'try again when nothing writes to the directory',
  });
}

function cannotPack(path: string, why: string): UpdateError {
  return new UpdateError('malformed', `"${printable(path)}" ${why}`, {
    hint: 'an update holds plain files and directories only: replace or remove it, then try again',
  });
}
