import { UpdateError } from '../errors.ts';
import { archiveLimits, type ArchiveListing, asArchiveError, readEntries } from './archive.ts';
import { environmentConf, hieraConfig, maxSettingsBytes } from './environment.ts';
import { sniffFormat } from './format.ts';
import { maxMetadataBytes } from './module-metadata.ts';

/** The look of an archive that was not checked. */
export interface Peeked {
  listing: ArchiveListing;
  /** Texts of the files that decide what an archive is, at most {@link maxTexts}: those nearest to its top. */
  texts: ReadonlyMap<string, string>;
  /** The first path that looks like Puppet code; undefined when there is none. */
  codeLike: string | undefined;
}

/** End of the hint for what can be delivered in spite of all: `submit` adds the command. */
export const deliverAsFile = 'to deliver it as it is';

/** Directories that a path may have, to be listed. */
const maxDepth = 16;
const maxPathChars = 1024;
const maxTexts = 16;
const textLimits: Readonly<Record<string, number>> = {
  'metadata.json': maxMetadataBytes,
  [environmentConf]: maxSettingsBytes,
  [hieraConfig]: maxSettingsBytes,
};

/**
 * Lists an archive without checking it: an update of kind file may well be an archive that no node would
 * unpack. Paths are cleaned only of `./` and a trailing slash. It is read no further than a node would
 * unpack it: entries beyond that cannot make it a module or an environment.
 *
 * @throws UpdateError `malformed` when it cannot be read
 */
export async function peek(path: string): Promise<Peeked> {
  const listing = new Map<string, 'file' | 'directory'>();
  const texts = new Map<string, string>();
  const isZip = (await sniffFormat(path)).type === 'zip';
  let codeLike: string | undefined;
  let entriesLeft = archiveLimits.maxEntries;
  let bytesLeft = archiveLimits.maxBytes;
  try {
    for await (const { name, type, content } of readEntries(path)) {
      if (--entriesLeft < 0) break;
      const parts = name.split('/').filter((part) => part !== '' && part !== '.');
      codeLike ??= codeIn(parts, type);
      const isListed =
        parts.length <= maxDepth &&
        name.length <= maxPathChars &&
        listing.size < archiveLimits.maxEntries;
      if (isListed) addSeeming(listing, parts, type);
      const limit = isListed ? textLimits[parts.at(-1) ?? ''] : undefined;
      // In a tar the next name comes after the content, which so has to be read.
      if (limit === undefined && isZip) continue;
      const { text, length } = await readText(content, bytesLeft, limit);
      if (text !== undefined) texts.set(parts.join('/'), text);
      if (texts.size > maxTexts) texts.delete(deepest([...texts.keys()]));
      bytesLeft -= length;
      if (bytesLeft <= 0) break;
    }
  } catch (error) {
    const wrapped = asArchiveError(error);
    if (!(wrapped instanceof UpdateError)) throw wrapped;
    throw new UpdateError('malformed', wrapped.message, {
      hint: `pack it again; ${deliverAsFile}`,
    });
  }
  return { listing, texts, codeLike };
}

function deepest(paths: readonly string[]): string {
  const depth = (path: string): number => path.split('/').length;
  return paths.reduce((one, other) => (depth(other) > depth(one) ? other : one));
}

/** The path when it is one that Puppet gives a meaning to, at any depth. */
function codeIn(parts: readonly string[], type: string): string | undefined {
  const path = parts.join('/');
  const isDirectory = type === 'directory';
  const last = parts.at(-1) ?? '';
  const isCode =
    (!isDirectory && /\.pp$/i.test(last)) ||
    (!isDirectory && [environmentConf, 'Puppetfile'].includes(last)) ||
    /(^|\/)lib\/(facter|puppet)\/./.test(path) ||
    // Of a module or environment as nodes find them.
    (!isDirectory && last === 'metadata.json' && parts.length <= 2) ||
    (parts.length <= 3 &&
      parts.slice(0, 2).includes('manifests') &&
      (isDirectory || last !== 'manifests'));
  return isCode ? `${path}${isDirectory ? '/' : ''}` : undefined;
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

/** Reads content to its end, or until `maxBytes` are passed; keeps it as text up to a limit. */
async function readText(
  content: AsyncIterable<Uint8Array>,
  maxBytes: number,
  limit = 0,
): Promise<{ text: string | undefined; length: number }> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of content) {
    length += chunk.length;
    if (length > maxBytes) break;
    if (length <= limit) chunks.push(chunk);
  }
  const isWhole = limit > 0 && length <= limit;
  return { text: isWhole ? Buffer.concat(chunks).toString() : undefined, length };
}
