import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import type { Header } from 'tar';
import { badArchive, type ArchiveEntry } from './archive-entry.ts';
import { formatOf, isKnown } from './format.ts';

const blockBytes = 512;
/** Limits on the extension headers of one entry (a long name, pax records), which are held in memory. */
const maxExtensionBytes = 64 * 1024;
const maxExtensions = 4;

const typeNames: Record<string, string> = {
  File: 'file',
  OldFile: 'file',
  ContiguousFile: 'file',
  Directory: 'directory',
  SymbolicLink: 'a symbolic link',
  Link: 'a hard link',
  CharacterDevice: 'a device',
  BlockDevice: 'a device',
  FIFO: 'a FIFO',
};

const extensionTypes = new Set<string>([
  'ExtendedHeader',
  'GlobalExtendedHeader',
  'NextFileHasLongPath',
  'NextFileHasLongLinkpath',
]);

/**
 * Reads a tar archive (POSIX ustar and pax, GNU long names), plain or gzipped, entry by entry.
 *
 * It uses the header codec of the `tar` package but not its parser, which repairs or skips damaged and
 * unknown entries (a bad checksum, a pax record that does not parse, a sparse file): here they must be
 * refused.
 *
 * @throws UpdateError `malformed` for such an entry
 */
export async function* readTar(path: string): AsyncGenerator<ArchiveEntry> {
  const tar = await import('tar');
  const source = await openTar(path);
  const blocks = new BlockReader(source);
  try {
    const inside = formatOf(await blocks.peek(blockBytes));
    if (isKnown(inside) && inside.type !== 'tar')
      throw badArchive(`what it holds is ${inside.description}, and no tar archive`);
    let attributes = new Map<string, string>();
    let extensions = 0;
    for (;;) {
      const block = await blocks.take(blockBytes);
      // POSIX ends an archive with two zero blocks; real ones have one, or none. The rest is padding.
      if (block === undefined || block.every((byte) => byte === 0)) return;
      const header = decodeHeader(tar.Header, block);
      if (++extensions > maxExtensions + 1) throw badArchive('too many extension headers in a row');
      if (extensionTypes.has(header.type)) {
        const extension = await blocks.takeExtension(header.size);
        // A global header, where git-archive(1) keeps the commit, cannot name or size one entry.
        if (header.type === 'NextFileHasLongPath') attributes.set('path', untilNul(extension));
        if (header.type === 'NextFileHasLongLinkpath')
          attributes.set('linkpath', untilNul(extension));
        if (header.type === 'ExtendedHeader')
          for (const [key, value] of parsePax(extension)) attributes.set(key, value);
        continue;
      }
      const type = typeNames[header.type] ?? `of the type ${header.type}`;
      const size = type === 'directory' ? 0 : Number(attributes.get('size') ?? header.size);
      const name = attributes.get('path') ?? header.path ?? '';
      const linkTarget = attributes.get('linkpath') ?? header.linkpath ?? '';
      attributes = new Map();
      extensions = 0;
      blocks.beginContent(size);
      const mode = (header.mode ?? 0) & 0o7777;
      yield { name, type, mode, content: blocks.content(), linkTarget };
      await blocks.endContent();
    }
  } finally {
    source.destroy();
  }
}

function decodeHeader(Codec: typeof Header, block: Buffer): Header & { size: number } {
  let header: Header;
  try {
    header = new Codec(block);
  } catch {
    throw badArchive('a header has a number that is not one');
  }
  const { size } = header;
  if (!header.cksumValid) throw badArchive('a header does not have its checksum');
  if (size === undefined || !Number.isSafeInteger(size)) throw badArchive('an entry has no size');
  return Object.assign(header, { size });
}

/** Parses the records `LENGTH KEY=VALUE\n` of a pax extended header (POSIX pax, Extended Header). */
function parsePax(data: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < data.length;) {
    const space = data.indexOf(' ', at);
    const length = data.toString('latin1', at, space);
    const end = at + Number(length);
    const record = data.toString('utf8', space + 1, end - 1);
    const equals = record.indexOf('=');
    if (!/^[1-9]\d{0,5}$/.test(length) || data[end - 1] !== 0x0a || equals < 1)
      throw badArchive('a pax header does not parse');
    const key = record.slice(0, equals);
    const value = record.slice(equals + 1);
    if (key.startsWith('GNU.sparse')) throw badArchive('a file is sparse');
    if (key === 'size' && !/^\d{1,15}$/.test(value)) throw badArchive('an entry has no size');
    records.set(key, value);
    at = end;
  }
  return records;
}

function untilNul(data: Buffer): string {
  const nul = data.indexOf(0);
  return data.toString('utf8', 0, nul === -1 ? data.length : nul);
}

async function openTar(path: string): Promise<NodeJS.ReadableStream & { destroy(): void }> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(2), 0, 2, 0);
    if (bytesRead < 2 || buffer.readUInt16BE() !== 0x1f8b) return createReadStream(path);
  } finally {
    await file.close();
  }
  const source = createReadStream(path);
  const gunzip = createGunzip();
  source.on('error', (error) => gunzip.destroy(error));
  gunzip.on('close', () => source.destroy());
  return source.pipe(gunzip);
}

/** Takes exact byte counts out of a stream of chunks, at the consumer's pace. */
class BlockReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);
  #contentLeft = 0;
  #paddingLeft = 0;

  constructor(source: NodeJS.ReadableStream) {
    this.#chunks = (source as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  /** At least one byte and at most `count`; undefined at the end of the stream. */
  async #some(count: number): Promise<Buffer | undefined> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return undefined;
      this.#rest = next.value;
    }
    const part = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }

  /** Up to `count` bytes, which are taken later. */
  async peek(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = count; left > 0;) {
      const part = await this.#some(left);
      if (part === undefined) break;
      parts.push(part);
      left -= part.length;
    }
    const start = Buffer.concat(parts);
    this.#rest = Buffer.concat([start, this.#rest]);
    return start;
  }

  async take(count: number): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    for (let left = count; left > 0;) {
      const part = await this.#some(left);
      if (part === undefined && left === count) return undefined;
      if (part === undefined) throw badArchive('it ends too early');
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** The body of an extension header, without its padding. */
  async takeExtension(size: number): Promise<Buffer> {
    if (size > maxExtensionBytes) throw badArchive('an extension header is too long');
    const padded = await this.take(Math.ceil(size / blockBytes) * blockBytes);
    if (padded === undefined) throw badArchive('it ends too early');
    return padded.subarray(0, size);
  }

  beginContent(size: number): void {
    this.#contentLeft = size;
    this.#paddingLeft = (blockBytes - (size % blockBytes)) % blockBytes;
  }

  async *content(): AsyncGenerator<Buffer> {
    while (this.#contentLeft > 0) {
      const part = await this.#some(this.#contentLeft);
      if (part === undefined) throw badArchive('it ends too early');
      this.#contentLeft -= part.length;
      yield part;
    }
  }

  /** Skips unread content and padding, up to the next header. */
  async endContent(): Promise<void> {
    while (this.#contentLeft > 0) await this.content().next();
    if (this.#paddingLeft > 0 && (await this.take(this.#paddingLeft)) === undefined)
      throw badArchive('it ends too early');
  }
}
