const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++)
    rest = (rest & 1) === 0 ? rest >>> 1 : (rest >>> 1) ^ 0xedb88320;
  return rest;
});

/**
 * The CRC-32 of zip archives (APPNOTE.TXT, 4.4.7), by a table: Node 18 has none in node:zlib.
 *
 * @param sum that of the bytes before, 0 at the beginning
 */
export function crc32(bytes: Uint8Array, sum: number): number {
  let rest = ~sum;
  for (const byte of bytes) rest = (table[(rest ^ byte) & 0xff] ?? 0) ^ (rest >>> 8);
  return ~rest >>> 0;
}
