import { constants } from 'node:fs';
import { chmod, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';
import { type ArchiveEntry, badArchive, entryPath } from './archive-entry.ts';
import { readTar } from './tar.ts';
import { readZip } from './zip.ts';

export interface ArchiveLimits {
  /** Files and directories together; entries of one name and implied directories count too. */
  maxEntries: number;
  /** Bytes of content, counted while unpacking and not believed from a header. */
  maxBytes: number;
}

export const archiveLimits: Readonly<ArchiveLimits> = { maxEntries: 10_000, maxBytes: 2 ** 30 };

/** The type of each file and directory by canonical relative path, implied directories included. */
export type ArchiveListing = ReadonlyMap<string, 'file' | 'directory'>;

/** True for the file names of archives that {@link readEntries} can read. */
export function isArchiveName(name: string): boolean {
  return /\.(tar|tar\.gz|tgz|zip)$/i.test(name);
}

/** Reads the raw, unchecked entries of a `.tar`, `.tar.gz`, `.tgz` or `.zip`. */
export async function* readEntries(path: string): AsyncGenerator<ArchiveEntry> {
  // By content too: an update may be published under any name.
  const isZip = path.toLowerCase().endsWith('.zip') || (await startsLikeZip(path));
  yield* isZip ? readZip(path) : readTar(path);
}

async function startsLikeZip(path: string): Promise<boolean> {
  const file = await open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return buffer.toString('latin1') === 'PK\x03\x04';
  } finally {
    await file.close();
  }
}

/**
 * Reads an archive to its end and checks every entry, its content included. Refused are links of any
 * kind, devices and FIFOs, set-id bits, names that {@link entryPath} refuses, a name that occurs
 * twice, and more than the limits allow. Writes nothing.
 *
 * @throws UpdateError `malformed`
 */
export async function checkArchive(path: string, limits = archiveLimits): Promise<ArchiveListing> {
  return walk(path, limits, () => Promise.resolve(undefined));
}

/**
 * Unpacks an archive into `destination`, which must not exist yet. It is checked as a whole first, so
 * that a refused archive leaves nothing behind. Files get mode 0644, or 0755 when their owner may run
 * them, directories 0755; owner and times are not taken over.
 *
 * @throws UpdateError `malformed` as {@link checkArchive} does; and file system errors
 */
export async function unpackArchive(
  path: string,
  destination: string,
  limits = archiveLimits,
): Promise<ArchiveListing> {
  await checkArchive(path, limits);
  await makeDirectory(destination);
  const made = new Set<string>();
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  return walk(path, limits, async (entry, name) => {
    const isDirectory = entry.type === 'directory';
    for (const directory of [...ancestors(name), ...(isDirectory ? [name] : [])]) {
      if (made.has(directory)) continue;
      await makeDirectory(join(destination, directory));
      made.add(directory);
    }
    if (isDirectory) return undefined;
    const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
    const file = await open(join(destination, name), flags, 0o600);
    await file.chmod(entry.mode & 0o100 ? 0o755 : 0o644);
    return file;
  });
}

/**
 * Finds the directory that holds `name`: '' for the archive's top, else the one top directory with it;
 * undefined when there is none, or more than one.
 */
export function findRoot(
  listing: ArchiveListing,
  name: string,
  type: 'file' | 'directory',
): string | undefined {
  if (listing.get(name) === type) return '';
  const tops = [...listing.keys()].filter(
    (path) => !path.includes('/') && listing.get(`${path}/${name}`) === type,
  );
  return tops.length === 1 ? tops[0] : undefined;
}

type Accept = (
  entry: ArchiveEntry,
  path: string,
) => Promise<Awaited<ReturnType<typeof open>> | undefined>;

/** One pass over an archive: each checked entry goes to `accept`, which may return a file to write. */
async function walk(path: string, limits: ArchiveLimits, accept: Accept): Promise<ArchiveListing> {
  const listing = new Map<string, 'file' | 'directory'>();
  let entries = 0;
  let bytesLeft = limits.maxBytes;
  try {
    for await (const entry of readEntries(path)) {
      entries += 1;
      const name = addToListing(listing, entry);
      // A name can imply many directories, and a directory can be named again and again.
      if (Math.max(entries, listing.size) > limits.maxEntries)
        throw badArchive(`it has more than ${limits.maxEntries} files and directories`);
      if (name === '') continue;
      const file = await accept(entry, name);
      try {
        if (entry.type === 'directory') continue;
        for await (const chunk of entry.content) {
          bytesLeft -= chunk.length;
          if (bytesLeft < 0) throw badArchive(`it unpacks to more than ${limits.maxBytes} bytes`);
          for (let at = 0; file !== undefined && at < chunk.length;)
            at += (await file.write(chunk, at)).bytesWritten;
        }
      } finally {
        await file?.close();
      }
    }
  } catch (error) {
    throw asArchiveError(error);
  }
  return listing;
}

/** Checks an entry by itself and against those before it; returns its canonical path. */
function addToListing(
  listing: Map<string, 'file' | 'directory'>,
  { name, type, mode }: ArchiveEntry,
): string {
  if (type !== 'file' && type !== 'directory') throw badArchive(`"${printable(name)}" is ${type}`);
  if ((mode & 0o6000) !== 0) throw badArchive(`"${printable(name)}" has a set-id bit`);
  const path = entryPath(name);
  if (path === '') {
    if (type === 'file') throw badArchive('a file has no name');
    return path;
  }
  for (const parent of ancestors(path)) {
    if (listing.get(parent) === 'file')
      throw badArchive(`"${printable(parent)}" is a file and a directory`);
    listing.set(parent, 'directory');
  }
  const before = listing.get(path);
  if (before !== undefined && (before === 'file' || type === 'file'))
    throw badArchive(`"${printable(path)}" occurs twice`);
  listing.set(path, type);
  return path;
}

/** `a/b/c` -> `a`, `a/b`. */
function ancestors(path: string): string[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'));
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, 0o700);
  await chmod(path, 0o755); // whatever the umask is
}

/** Errors of zlib and yauzl are about the archive; those of a system call are not. */
export function asArchiveError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof UpdateError || 'syscall' in error) return error;
  return badArchive(printable(error.message));
}
