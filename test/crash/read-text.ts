import { readFileSync } from 'node:fs';
import { hasErrno } from '../../lib/errors.ts';

/** A file's text; undefined when there is none. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}
