import { open } from 'node:fs/promises';

/** A file's format, by its first bytes and not by its name. */
export interface Format {
  /** `zip` and `tar` are archives that can be read, `gzip` may hold one; `packed` ones cannot be looked into. */
  type: 'zip' | 'tar' | 'gzip' | 'packed' | 'other';
  /** In words, for a message: 'compressed with xz'. */
  description: string;
  /** The command that decompresses its standard input; undefined for what is no stream of one file. */
  decompressor?: readonly string[];
}

const probeBytes = 512;

const packed = (description: string, ...decompressor: string[]): Format => ({
  type: 'packed',
  description,
  ...(decompressor.length === 0 ? {} : { decompressor }),
});

const unknownFormat: Format = { type: 'other', description: 'of no known format' };

/** First bytes as file(1) knows them; Latin-1. */
const signatures: readonly (readonly [RegExp, Format])[] = [
  [/^PK(\x03\x04|\x05\x06)/, { type: 'zip', description: 'a zip archive' }],
  [
    /^\x1f\x8b/,
    { type: 'gzip', description: 'compressed with gzip', decompressor: ['gzip', '-dc'] },
  ],
  [/^BZh[1-9]/, packed('compressed with bzip2', 'bzip2', '-dc')],
  [/^\xfd7zXZ\x00/, packed('compressed with xz', 'xz', '-dc')],
  [/^\x28\xb5\x2f\xfd/, packed('compressed with zstd', 'zstd', '-dc')],
  [/^LZIP/, packed('compressed with lzip', 'lzip', '-dc')],
  [/^\x04\x22\x4d\x18/, packed('compressed with lz4', 'lz4', '-dc')],
  [/^\x5d\x00\x00[\s\S]{2}/, packed('compressed with lzma', 'xz', '--format=lzma', '-dc')],
  [/^\x1f\x9d/, packed('compressed with compress', 'gzip', '-dc')],
  [/^7z\xbc\xaf\x27\x1c/, packed('a 7z archive')],
  [/^Rar!\x1a\x07/, packed('a rar archive')],
  [/^[\s\S]{257}ustar/, { type: 'tar', description: 'a tar archive' }],
  [/^\s*<(!doctype html|html)\b/i, other('an HTML page, such as a log-in or an error page')],
  [/^version https:\/\/git-lfs/, other('a pointer of Git LFS, and not the file itself')],
];

function other(description: string): Format {
  return { type: 'other', description };
}

/** True for a format that has a name. */
export function isKnown(format: Format): boolean {
  return format !== unknownFormat;
}

/** Tells the format of a file, of which the first block is read. */
export async function sniffFormat(path: string): Promise<Format> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(probeBytes), 0, probeBytes, 0);
    return formatOf(buffer.subarray(0, bytesRead));
  } finally {
    await file.close();
  }
}

/** The format of bytes, of which there should be a block of tar. */
export function formatOf(bytes: Buffer): Format {
  const text = bytes.toString('latin1');
  return signatures.find(([pattern]) => pattern.test(text))?.[1] ?? unknownFormat;
}
