/**
 * unpack-traced.ts DIRECTORY: unpacks every archive in DIRECTORY/archives, for hostile-archives.test.ts,
 * which looks at the system calls after each marker.
 */
import { accessSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { unpackArchive } from '../../lib/content/archive.ts';

const [directory = ''] = process.argv.slice(2);
const archives = join(directory, 'archives');
/** A system call that only the trace sees. */
const mark = (text: string): void => {
  try {
    accessSync(join('/marker', text));
  } catch {
    // There is no such file.
  }
};

const names = readdirSync(archives).sort();
for (const name of names) {
  mark(`begin ${name}`);
  await unpackArchive(join(archives, name), join(directory, 'out', name)).then(
    () => {
      mark('unpacked');
    },
    () => {
      mark('refused');
    },
  );
}
