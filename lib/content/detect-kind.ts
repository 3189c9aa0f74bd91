import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';
import { badArchive } from './archive-entry.ts';
import {
  archiveLimits,
  type ArchiveListing,
  asArchiveError,
  checkArchive,
  findRoot,
  isArchiveName,
  readEntries,
} from './archive.ts';
import { maxMetadataBytes, type ModuleMetadata, parseMetadata } from './module-metadata.ts';

/** The kind of update that a path makes, with the facts that its content states. */
export type DetectedKind =
  | { kind: 'manifest' }
  /** `channel` is the default one: the module's name, lower-case. */
  | { kind: 'module'; module: ModuleMetadata; channel: string }
  /** A directory has to be packed first, with packDirectory. */
  | { kind: 'environment'; isDirectory: boolean }
  | { kind: 'file' };

/**
 * Tells the kind of an update from a file's name and content: `*.pp` is a manifest, a tar archive with
 * metadata.json a module, a `.zip` or directory with manifests/ an environment, anything else a plain
 * file.
 *
 * @throws UpdateError `malformed` for a directory that is no environment, a module or environment that
 *   nodes would refuse, and an archive that cannot be read; and file system errors
 */
export async function detectKind(path: string): Promise<DetectedKind> {
  const stats = await stat(path);
  if (stats.isDirectory()) return detectDirectory(path);
  if (!stats.isFile()) {
    throw new UpdateError('malformed', `"${printable(path)}" is neither a file nor a directory`, {
      hint: 'submit a regular file, or a directory with manifests/',
    });
  }
  if (path.endsWith('.pp')) return { kind: 'manifest' };
  if (!isArchiveName(path)) return { kind: 'file' };
  const { listing, metadata } = await peek(path);
  if (path.toLowerCase().endsWith('.zip')) {
    if (findRoot(listing, 'manifests', 'directory') === undefined) return { kind: 'file' };
    const root = findRoot(await checkArchive(path), 'manifests', 'directory') ?? '';
    refuseModule((name) => listing.has(root === '' ? name : `${root}/${name}`));
    return { kind: 'environment', isDirectory: false };
  }
  const root = findRoot(listing, 'metadata.json', 'file');
  if (root === undefined) return { kind: 'file' };
  await checkArchive(path);
  const text = metadata.get(root === '' ? 'metadata.json' : `${root}/metadata.json`);
  if (text === undefined) throw badArchive('its metadata.json is too long');
  const module = parseMetadata(text);
  return { kind: 'module', module, channel: module.forgeName.toLowerCase() };
}

async function detectDirectory(path: string): Promise<DetectedKind> {
  const names = new Set(await readdir(path));
  const manifests = await stat(join(path, 'manifests')).catch(() => undefined);
  if (manifests?.isDirectory() !== true) {
    throw new UpdateError('malformed', `"${printable(path)}" is a directory without manifests/`, {
      hint: 'an environment has manifests/, and may have modules/, hiera.yaml and data/; pack other directories into an archive and submit that',
    });
  }
  if (await stat(join(path, 'manifests/site.pp')).catch(() => undefined))
    names.add('manifests/site.pp');
  refuseModule((name) => names.has(name));
  return { kind: 'environment', isDirectory: true };
}

/**
 * Refuses a module's source. It has manifests/ as well, but they only define classes: applied as an
 * environment it would change nothing, and succeed.
 */
function refuseModule(has: (name: string) => boolean): void {
  if (!has('metadata.json')) return;
  if (['environment.conf', 'modules', 'manifests/site.pp'].some(has)) return;
  throw new UpdateError('malformed', 'this is the source of a module, not an environment', {
    hint: 'pack it, so that nodes install it: tar -czf AUTHOR-NAME-VERSION.tar.gz DIRECTORY',
  });
}

/**
 * Lists an archive without checking it: an update of kind file may well be an archive that no node would
 * unpack. Paths are cleaned only of `./` and a trailing slash. It is read no further than a node would
 * unpack it: entries beyond that cannot make it a module or an environment.
 */
async function peek(
  path: string,
): Promise<{ listing: ArchiveListing; metadata: Map<string, string> }> {
  const listing = new Map<string, 'file' | 'directory'>();
  const metadata = new Map<string, string>();
  let entriesLeft = archiveLimits.maxEntries;
  let bytesLeft = archiveLimits.maxBytes;
  try {
    for await (const { name, type, content } of readEntries(path)) {
      if (--entriesLeft < 0) break;
      const parts = name.split('/').filter((part) => part !== '' && part !== '.');
      // metadata.json and manifests/ are at most two levels down.
      if (parts.length <= 3) addSeeming(listing, parts, type);
      const isMetadata = parts.at(-1) === 'metadata.json' && parts.length <= 2;
      // In a tar the next name comes after the content, which so has to be read.
      if (!isMetadata && path.toLowerCase().endsWith('.zip')) continue;
      const { text, length } = await readText(content, bytesLeft, isMetadata);
      if (text !== undefined) metadata.set(parts.join('/'), text);
      bytesLeft -= length;
      if (bytesLeft <= 0) break;
    }
  } catch (error) {
    const wrapped = asArchiveError(error);
    if (!(wrapped instanceof UpdateError)) throw wrapped;
    throw new UpdateError('malformed', wrapped.message, {
      hint: 'pack it again; to deliver it as it is, give it a name that is not an archive’s',
    });
  }
  return { listing, metadata };
}

function addSeeming(
  listing: Map<string, 'file' | 'directory'>,
  parts: readonly string[],
  type: string,
): void {
  for (const [index] of parts.entries()) {
    const isFile = index === parts.length - 1 && type !== 'directory';
    listing.set(parts.slice(0, index + 1).join('/'), isFile ? 'file' : 'directory');
  }
}

/** Reads content to its end, or until `maxBytes` are passed; keeps it as text where it is wanted. */
async function readText(
  content: AsyncIterable<Uint8Array>,
  maxBytes: number,
  isWanted: boolean,
): Promise<{ text: string | undefined; length: number }> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of content) {
    length += chunk.length;
    if (length > maxBytes) break;
    if (isWanted && length <= maxMetadataBytes) chunks.push(chunk);
  }
  const isWhole = isWanted && length <= maxMetadataBytes;
  return { text: isWhole ? Buffer.concat(chunks).toString() : undefined, length };
}
