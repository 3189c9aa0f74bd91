import { Header, Pax } from 'tar';
import { crc32, deflateRawSync } from 'node:zlib';

export interface TarEntry {
  name: string | Buffer;
  content?: string | Buffer;
  type?:
    'File' | 'Directory' | 'SymbolicLink' | 'Link' | 'CharacterDevice' | 'BlockDevice' | 'FIFO';
  /** A type byte that the codec does not write. */
  typeFlag?: string;
  mode?: number;
  linkpath?: string;
  /** The text of a pax extended header in front. */
  pax?: string;
  /** The size in the header, where it is to be a lie. */
  size?: number;
  /** Changes the finished header; the checksum is made afterwards. */
  edit?: (header: Buffer) => void;
}

/** A tar archive byte by byte, so that it can be as hostile as a test needs. */
export function tarOf(entries: readonly TarEntry[], { end = 1024 } = {}): Buffer {
  return Buffer.concat([...entries.flatMap(tarBlocks), Buffer.alloc(end)]);
}

function tarBlocks(entry: TarEntry): Buffer[] {
  const content = Buffer.from(entry.content ?? '');
  const blocks: Buffer[] = [];
  if (entry.pax !== undefined) {
    const name = 'PaxHeader/x';
    blocks.push(...tarBlocks({ name, typeFlag: 'x', content: entry.pax }));
  }
  const path = entry.name.toString();
  const header = new Header({
    path: Buffer.byteLength(path) < 100 ? path : 'long',
    type: entry.type ?? 'File',
    mode: entry.mode ?? 0o644,
    size: entry.size ?? content.length,
    uid: 0,
    gid: 0,
    linkpath: entry.linkpath ?? '',
  });
  const block = Buffer.alloc(512);
  header.encode(block);
  if (Buffer.byteLength(path) >= 100) blocks.push(new Pax({ path }).encode());
  if (Buffer.isBuffer(entry.name)) block.fill(0, 0, 100).set(entry.name, 0);
  if (entry.typeFlag !== undefined) block.write(entry.typeFlag, 156);
  entry.edit?.(block);
  block.write('        ', 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const padding = (512 - (content.length % 512)) % 512;
  return [...blocks, block, content, Buffer.alloc(padding)];
}

/** One record of a pax extended header: its length counts itself. */
export function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = Buffer.byteLength(rest);
  while (String(length).length + Buffer.byteLength(rest) !== length)
    length = String(length).length + Buffer.byteLength(rest);
  return `${length}${rest}`;
}

export interface ZipEntry {
  name: string | Buffer;
  content?: string | Buffer;
  /** Unix st_mode. */
  mode?: number;
  flags?: number;
  /** The uncompressed size in both headers, where it is to be a lie. */
  size?: number;
  crc?: number;
  /** 8 is deflated. */
  method?: number;
  /** Raw compressed data; `content` is then only its claimed content. */
  data?: Buffer;
  /** The name in the local header, where it is another. */
  localName?: string;
  /** Extra fields in the central directory. */
  extra?: Buffer;
  /** No data of its own: the offset of another entry's local header. */
  offset?: number;
}

/**
 * A zip archive byte by byte, deflated.
 *
 * @param options.count how many entries its end says it has, where that is to be a lie
 */
export function zipOf(entries: readonly ZipEntry[], options: { count?: number } = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const entry of entries) {
    const name = Buffer.from(entry.name);
    const content = Buffer.from(entry.content ?? '');
    const data = entry.data ?? deflateRawSync(content);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0); // version needed
    common.writeUInt16LE(entry.flags ?? 0x800, 2);
    common.writeUInt16LE(entry.method ?? 8, 4);
    common.writeUInt32LE(entry.crc ?? crc32(content), 10);
    common.writeUInt32LE(data.length, 14);
    common.writeUInt32LE(entry.size ?? content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const localName = Buffer.from(entry.localName ?? name);
    const localHeader = Buffer.from(common);
    localHeader.writeUInt16LE(localName.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), localHeader, localName, data]);
    const central = Buffer.alloc(46);
    central.write('PK\x01\x02');
    central.writeUInt16LE(0x0314, 4); // made on Unix
    common.copy(central, 6);
    central.writeUInt32LE(((entry.mode ?? 0o100644) << 16) >>> 0, 38);
    central.writeUInt16LE(entry.extra?.length ?? 0, 30);
    central.writeUInt32LE(entry.offset ?? offset, 42);
    directory.push(central, name, entry.extra ?? Buffer.alloc(0));
    if (entry.offset !== undefined) continue;
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06');
  end.writeUInt16LE(options.count ?? entries.length, 8);
  end.writeUInt16LE(options.count ?? entries.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}
