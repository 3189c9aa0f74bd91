import type { Entry, ZipFile } from 'yauzl';
import { printable } from '../system/printable.ts';
import { type ArchiveEntry, badArchive } from './archive-entry.ts';
import { crc32 } from './crc32.ts';

// The file type bits of st_mode, inode(7).
const typeMask = 0o170000;
const typeNames: Record<number, string> = {
  0: 'file', // an archive from a system without file types
  0o100000: 'file',
  0o040000: 'directory',
  0o120000: 'a symbolic link',
};

/**
 * Reads a zip archive entry by entry, in the order of its central directory.
 *
 * @throws UpdateError `malformed`, or an error of yauzl, when it is damaged, encrypted or not a zip at all
 */
export async function* readZip(path: string): AsyncGenerator<ArchiveEntry> {
  const { openPromise } = await import('yauzl');
  // strictFileNames: a backslash stays one, and is refused, instead of turning into a separator.
  const zip = await openPromise(path, { autoClose: false, strictFileNames: true });
  try {
    for await (const entry of zip.eachEntry()) {
      // An old-style name is decoded from code page 437, where control bytes turn into pictures.
      if (entry.fileNameRaw.some((byte) => byte < 0x20 || byte === 0x7f))
        throw badArchive(
          `the name "${printable(entry.fileNameRaw.toString())}" has control characters`,
        );
      // APPNOTE 4.4.15: the high half of the external attributes is Unix's st_mode.
      const mode = entry.externalFileAttributes >>> 16;
      const type = typeNames[mode & typeMask] ?? 'a special file';
      const isDirectory = entry.fileName.endsWith('/');
      yield {
        name: entry.fileName,
        type: isDirectory && type === 'file' ? 'directory' : type,
        mode: mode & 0o7777,
        content: readContent(zip, entry),
      };
    }
  } finally {
    zip.close();
  }
}

async function* readContent(zip: ZipFile, entry: Entry): AsyncGenerator<Uint8Array> {
  if (entry.isEncrypted()) throw badArchive(`"${printable(entry.fileName)}" is encrypted`);
  let sum = 0;
  // yauzl ends with an error where there are more or fewer bytes than declared.
  for await (const chunk of await zip.openReadStreamPromise(entry)) {
    sum = crc32(chunk as Buffer, sum);
    yield chunk as Buffer;
  }
  if (sum !== entry.crc32)
    throw badArchive(`"${printable(entry.fileName)}" does not have its CRC-32`);
}
