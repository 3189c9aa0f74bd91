import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from './repository.ts';

/** What the program is built from. */
const sources = ['handlers', 'lib', 'scripts', 'package.json', 'tsconfig.json'];

/** Copies the sources of the program, with the packages beside them, into a directory to be made. */
export function copySources(directory: string): void {
  mkdirSync(directory);
  for (const name of sources)
    cpSync(join(repository, name), join(directory, name), { recursive: true });
  symlinkSync(join(repository, 'node_modules'), join(directory, 'node_modules'));
}
