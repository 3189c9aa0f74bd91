/** A value of BEP 3; text is encoded as UTF-8. */
export type Bencodable = number | string | Uint8Array | { readonly [key: string]: Bencodable };

/**
 * Encodes a value as BEP 3 has it: the keys of a dictionary sorted, so that equal values are equal bytes.
 *
 * @param value whole numbers only; keys in ASCII, of which UTF-16's order is that of the bytes
 */
export function bencode(value: Bencodable): Buffer {
  if (typeof value === 'number') return Buffer.from(`i${value}e`);
  if (typeof value === 'string') return bencode(Buffer.from(value));
  if (value instanceof Uint8Array) return Buffer.concat([Buffer.from(`${value.length}:`), value]);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat([
    Buffer.from('d'),
    ...entries.flatMap(([key, entry]) => [bencode(key), bencode(entry)]),
    Buffer.from('e'),
  ]);
}
