import { constants } from 'node:fs';
import { chmod, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';
import { type ArchiveEntry, badArchive, BadName, entryPath } from './archive-entry.ts';
import { type Fault, Faults, FaultyContent, linkRemedy } from './faults.ts';
import { isKnown, sniffFormat } from './format.ts';
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

/** Reads the raw, unchecked entries of a tar archive, plain or gzipped, or a zip archive, whatever its name says. */
export async function* readEntries(path: string): AsyncGenerator<ArchiveEntry> {
  const format = await sniffFormat(path);
  if (format.type === 'packed' || (format.type === 'other' && isKnown(format)))
    throw badArchive(`it is ${format.description}, and neither a tar nor a zip archive`);
  // A zip archive may follow a program that unpacks it.
  const isZip = format.type === 'zip' || (!isKnown(format) && /\.zip$/i.test(path));
  yield* isZip ? readZip(path) : readTar(path);
}

/**
 * Reads an archive to its end and checks every entry, its content included. Refused are links of any
 * kind, devices and FIFOs, set-id bits of files, names that {@link entryPath} refuses, a name that
 * occurs twice, and more than the limits allow. Writes nothing.
 *
 * @throws FaultyContent (`malformed`) with all faults of its entries; UpdateError `malformed` when it
 *   cannot be read, or is over a limit
 */
export async function checkArchive(path: string, limits = archiveLimits): Promise<ArchiveListing> {
  const faults = new Faults();
  const links: LinkFault[] = [];
  const note = (found: Fault | LinkFault): void => {
    if ('linkTarget' in found && links.length < maxLinks) links.push(found);
    else faults.add(found);
  };
  let listing: ArchiveListing = new Map();
  let end: UpdateError | undefined;
  try {
    listing = await walk(path, limits, () => Promise.resolve(undefined), note);
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    end = error;
  }
  // Where a link leads is known once all names are.
  for (const link of links)
    faults.add({
      ...link,
      remedy: linkRemedy(link.path, link.linkTarget, (at) => listing.has(at)),
    });
  if (end !== undefined && faults.count > 0)
    throw new UpdateError('malformed', `${end.message}; besides, ${faults.describe()}`, end);
  if (end !== undefined) throw end;
  if (faults.count === 0) return listing;
  const { message, hint } = badArchive(faults.describe());
  throw new FaultyContent(message, {
    ...{ hint, remedy: faults.remedy() },
    source: (await sniffFormat(path)).type === 'zip' ? 'zip' : 'tar',
    root: contentRoot(listing),
  });
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
  const write: Accept = async (entry, name) => {
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
  };
  return walk(path, limits, write, ({ path: at, what }) => {
    throw badArchive(`"${printable(at)}" ${what}`);
  });
}

/** A file or directory by which the root of a module or an environment is known. */
export type RootMark = readonly [name: string, type: 'file' | 'directory'];

/**
 * Finds the directory that holds one of `marks`: '' for the archive's top, a directory below leading ones
 * that hold nothing else, or the one top directory with it. A forge packs below one directory, `tar`
 * below as many as its argument had.
 *
 * @returns undefined when there is none, or more than one
 */
export function findRoot(
  listing: ArchiveListing,
  ...marks: readonly RootMark[]
): string | undefined {
  const isRoot = isRootIn(listing, marks);
  for (let at: string | undefined = ''; at !== undefined; at = onlyDirectoryIn(listing, at))
    if (isRoot(at)) return at;
  const tops = topsOf(listing).filter(isRoot);
  return tops.length === 1 ? tops[0] : undefined;
}

/** The error for an archive with more than one root; undefined for any other. */
export function several(
  listing: ArchiveListing,
  ...marks: readonly RootMark[]
): UpdateError | undefined {
  const tops = topsOf(listing).filter(isRootIn(listing, marks));
  if (tops.length < 2) return undefined;
  const shown = tops.slice(0, 5).map((top) => `"${printable(top)}"`);
  return badArchive(
    `it holds more than one, below ${shown.join(', ')}`,
    'unpack it, and submit each by itself',
  );
}

function isRootIn(listing: ArchiveListing, marks: readonly RootMark[]): (at: string) => boolean {
  return (at) =>
    marks.some(([name, type]) => listing.get(at === '' ? name : `${at}/${name}`) === type);
}

const topsOf = (listing: ArchiveListing): string[] =>
  [...listing.keys()].filter((path) => !path.includes('/'));

/** The root of the module or environment that an archive holds; its own top where that is not to be seen. */
function contentRoot(listing: ArchiveListing): string {
  return findRoot(listing, ['metadata.json', 'file'], ['manifests', 'directory']) ?? '';
}

/** The part of a listing that is below a directory, with paths relative to it. */
export function listingBelow(listing: ArchiveListing, root: string): ArchiveListing {
  if (root === '') return listing;
  return new Map(
    [...listing]
      .filter(([path]) => path.startsWith(`${root}/`))
      .map(([path, type]) => [path.slice(root.length + 1), type]),
  );
}

/** The directory in `parent` when there is nothing else; what macOS adds to an archive does not count. */
function onlyDirectoryIn(listing: ArchiveListing, parent: string): string | undefined {
  const prefix = parent === '' ? '' : `${parent}/`;
  const inside = [...listing.keys()].filter(
    (path) =>
      path.startsWith(prefix) &&
      path !== parent &&
      !path.slice(prefix.length).includes('/') &&
      !/(^|\/)(__MACOSX|\._[^/]*|\.DS_Store)$/.test(path),
  );
  const [only] = inside;
  return inside.length === 1 && only !== undefined && listing.get(only) === 'directory'
    ? only
    : undefined;
}

const symbolicLink = 'a symbolic link';
/** Links of which the target is looked at: more are not worth the memory. */
const maxLinks = 1000;

/** The fault of a symbolic link, of which the remedy depends on where it leads. */
type LinkFault = Fault & { linkTarget: string | undefined };

const hardLink = 'a hard link';
/** For bytes behind the end of gzip's data, as gzip(1) names them. */
export const trailingGarbage = 'trailing garbage follows the compressed data';

type Accept = (
  entry: ArchiveEntry,
  path: string,
) => Promise<Awaited<ReturnType<typeof open>> | undefined>;

/**
 * One pass over an archive: each checked entry goes to `accept`, which may return a file to write, and
 * each fault to `onFault`.
 */
async function walk(
  path: string,
  limits: ArchiveLimits,
  accept: Accept,
  onFault: (fault: Fault | LinkFault) => void,
): Promise<ArchiveListing> {
  const listing = new Map<string, 'file' | 'directory'>();
  let entries = 0;
  let bytesLeft = limits.maxBytes;
  try {
    for await (const entry of readEntries(path)) {
      entries += 1;
      const found = addToListing(listing, entry);
      // A name can imply many directories, and a directory can be named again and again.
      if (Math.max(entries, listing.size) > limits.maxEntries)
        throw badArchive(`it has more than ${limits.maxEntries} files and directories`);
      if (typeof found !== 'string') onFault(found);
      if (found === '') continue;
      const file = typeof found === 'string' ? await accept(entry, found) : undefined;
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

/** Checks an entry by itself and against those before it; returns its canonical path, or its fault. */
function addToListing(
  listing: Map<string, 'file' | 'directory'>,
  entry: ArchiveEntry,
): string | Fault | LinkFault {
  const { name, type, mode } = entry;
  const fault = (what: string, remedy?: Fault['remedy'], at = name): Fault => ({
    ...{ path: at, what },
    ...(remedy === undefined ? {} : { remedy }),
  });
  let path: string;
  try {
    path = entryPath(name);
  } catch (error) {
    if (!(error instanceof BadName)) throw error;
    return fault(error.why, error.isUnpacked ? 'unpack' : undefined);
  }
  if (type === symbolicLink)
    return { ...fault(`is ${type}`, undefined, path), linkTarget: entry.linkTarget };
  if (type !== 'file' && type !== 'directory') {
    // tar(1) makes a file of a hard link; what else there is cannot be in an update.
    return fault(`is ${type}`, type === hardLink ? 'unpack' : 'exclude');
  }
  // A directory of a shared tree hands its group on by such a bit; no node takes over any mode.
  const setId = type === 'directory' ? 0o4000 : 0o6000;
  if ((mode & setId) !== 0) return fault('has a set-id bit', 'unpack');
  if (path === '') return type === 'file' ? fault('has no name') : path;
  for (const parent of ancestors(path)) {
    if (listing.get(parent) === 'file')
      return fault('is a file and a directory', undefined, parent);
    listing.set(parent, 'directory');
  }
  const before = listing.get(path);
  if (before !== undefined && (before === 'file' || type === 'file'))
    return fault('occurs twice', undefined, path);
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

/** zlib's errors about a header: that of the first member is looked at before. */
const headerErrors =
  /^(incorrect header check|unknown compression method|unknown header flags set)$/;

/** Errors of zlib and yauzl are about the archive; those of a system call are not. */
export function asArchiveError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof UpdateError || 'syscall' in error) return error;
  const message = printable(error.message);
  if (message === 'unexpected end of file') return badArchive(`it is cut off: ${message}`);
  if (headerErrors.test(message)) return badArchive(`${trailingGarbage} (${message})`);
  return badArchive(message);
}
