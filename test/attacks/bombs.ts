import { constants, crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { tarOf, zipOf, type TarEntry, type ZipEntry } from '../support/run/archives.ts';

const chunk = 16 * 2 ** 20;
/** Zeros, deflated, to be put together as often as one likes: some 16 KiB each. */
const flushed = deflateRawSync(Buffer.alloc(chunk), { finishFlush: constants.Z_FULL_FLUSH });
/** An empty last block (RFC 1951 3.2.4), since those above are none. */
const last = Buffer.from([1, 0, 0, 0xff, 0xff]);
const gzipHeader = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);

/** So many bytes of zeros, a multiple of 16 MiB, as a deflate stream of a thousandth of that. */
function deflatedZeros(bytes: number): Buffer {
  return Buffer.concat([...Array<Buffer>(bytes / chunk).fill(flushed), last]);
}

/** A .tar.gz whose entries are followed by one file of so many zeros. */
export function gzipBomb(entries: readonly TarEntry[], bytes: number): Buffer {
  const head = tarOf([...entries, { name: 'zeros', size: bytes }], { end: 0 });
  const deflated = deflateRawSync(head, { finishFlush: constants.Z_FULL_FLUSH });
  // A reader that gets as far as the checksum at the end has read too much already.
  return Buffer.concat([gzipHeader, deflated, deflatedZeros(bytes), Buffer.alloc(8)]);
}

/** A .tar.gz with one entry again and again, from a megabyte of which a few kilobytes are left. */
export function repeatedEntry(
  entries: readonly TarEntry[],
  again: TarEntry,
  count: number,
): Buffer {
  const perChunk = 2_000;
  const deflate = (bytes: Buffer): Buffer =>
    deflateRawSync(bytes, { finishFlush: constants.Z_FULL_FLUSH });
  const many = deflate(Buffer.concat(Array<Buffer>(perChunk).fill(tarOf([again], { end: 0 }))));
  const head = deflate(tarOf(entries, { end: 0 }));
  const parts = Array<Buffer>(Math.ceil(count / perChunk)).fill(many);
  return Buffer.concat([gzipHeader, head, ...parts, last, Buffer.alloc(8)]);
}

/** A zip with one file of so many zeros; its headers tell the truth, or `size`. */
export function zipBomb(honest: readonly ZipEntry[], bytes: number, size = bytes): Buffer {
  // Its CRC-32 is wrong, but that is known at its end only.
  return zipOf([...honest, { name: 'zeros', data: deflatedZeros(bytes), size, crc: 1 }]);
}

/** A zip with so many files that share the same data of 16 MiB each (David Fifield, woot19). */
export function overlappingZip(honest: readonly ZipEntry[], files: number): Buffer {
  const data = deflatedZeros(chunk);
  // Where the local header of the first one is: behind the honest ones, before the directory.
  const start = zipOf(honest).indexOf('PK\x01\x02');
  const shared = { data, size: chunk, crc: crc32(Buffer.alloc(chunk)) };
  return zipOf([
    ...honest,
    { ...shared, name: '0' },
    ...Array.from({ length: files - 1 }, (_, i) => ({
      ...shared,
      name: `${i + 1}`,
      offset: start,
    })),
  ]);
}

/** Zips in a zip, so many levels deep and ten on each level; 10^levels MiB in all. */
export function nestedZip(levels: number): Buffer {
  let content: Buffer = Buffer.alloc(2 ** 20);
  for (let level = 0; level < levels; level += 1)
    content = zipOf(Array.from({ length: 10 }, (_, i) => ({ name: `${i}.zip`, content })));
  return content;
}

/** A tar in a tar.gz in a tar.gz. */
export function nestedTar(levels: number): Buffer {
  let content: Buffer = Buffer.alloc(2 ** 20);
  for (let level = 0; level < levels; level += 1)
    content = gzipSync(
      tarOf(Array.from({ length: 10 }, (_, i) => ({ name: `${i}.tar.gz`, content }))),
    );
  return content;
}
